import pytest

from ptame_deploy.cli import run


@pytest.fixture(scope="session")
def tiny_plan(tiny_artifact, tmp_path_factory):
    """A plan of the tiny graph, built by TensorRT for RTX without a GPU."""
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    directory = tmp_path_factory.mktemp("plan") / "p"
    sizes = ["--opt-batch", "2", "--max-batch", "4"]
    arguments = ["build", str(tiny_artifact), "--runtime", "tensorrt-rtx", *sizes]
    assert run([*arguments, "-o", str(directory)]) == 0
    return directory
