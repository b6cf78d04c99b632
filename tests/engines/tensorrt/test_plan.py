import json
import shutil

import pytest

from engines.flavours import Flavour, check_supports
from engines.gpu import Gpu
from engines.plan import (
    PLAN_FILE,
    PLAN_MANIFEST,
    Profile,
    check_runs_here,
    read_plan,
    read_trusted_plan,
)
from ptame_deploy.cli import run
from ptame_deploy.errors import ArtifactError, InvalidInputError, MissingRequirementError

pytestmark = pytest.mark.integration

RTX_4090 = Gpu("RTX 4090", "8.9", "13.0")


class Module:
    def __init__(self, version):
        self.__version__ = version


def flavour(name="tensorrt-rtx", version=None):
    import tensorrt_rtx

    return Flavour(name, Module(version or tensorrt_rtx.__version__))


@pytest.fixture
def copy(tiny_plan, tmp_path):
    shutil.copytree(tiny_plan, tmp_path / "plan")
    return tmp_path / "plan"


def changed(directory, **fields):
    path = directory / PLAN_MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return read_plan(directory)


def test_a_plan_that_fits_is_let_through(tiny_plan):
    check_runs_here(read_plan(tiny_plan), flavour(), RTX_4090)


@pytest.mark.parametrize("damage", ["cut", "flip", "swap"])
def test_a_plan_that_is_not_its_jsons_is_refused(copy, damage):
    data = bytearray((copy / PLAN_FILE).read_bytes())
    if damage == "cut":
        del data[-1:]
    elif damage == "flip":
        data[len(data) // 2] ^= 1
    else:
        data = data[::-1]
    (copy / PLAN_FILE).write_bytes(data)
    with pytest.raises(ArtifactError, match=r"cut short or replaced|SHA-256 differs"):
        read_plan(copy)


def test_a_plan_without_json_needs_trust(copy):
    (copy / PLAN_MANIFEST).unlink()
    with pytest.raises(InvalidInputError, match="--trust"):
        read_plan(copy)
    assert read_trusted_plan(copy) is None


def test_no_plan_at_all(tmp_path):
    with pytest.raises(InvalidInputError, match=r"holds no model\.plan\.json"):
        read_plan(tmp_path)


def test_another_tensorrt_is_refused(tiny_plan):
    with pytest.raises(ArtifactError, match="is for tensorrt-rtx, not for tensorrt"):
        check_runs_here(read_plan(tiny_plan), flavour("tensorrt"), RTX_4090)


def test_another_version_is_refused_unless_compatible(copy):
    manifest = changed(copy, flavour_version="1.3.0.1")
    with pytest.raises(ArtifactError, match=r"built by tensorrt-rtx 1\.3\.0\.1, here is 1\.4\.0"):
        check_runs_here(manifest, flavour(version="1.4.0"), RTX_4090)
    manifest = changed(copy, version_compatible=True)
    check_runs_here(manifest, flavour(version="1.4.0"), RTX_4090)
    for version in ("1.2.0", "2.0.0"):  # older, and another major
        with pytest.raises(ArtifactError, match="build it again"):
            check_runs_here(manifest, flavour(version=version), RTX_4090)


def test_another_compute_capability_is_refused(copy):
    manifest = changed(copy, compute_capabilities=["8.0"])
    with pytest.raises(ArtifactError, match=r"RTX 4090 has 8\.9: build it on such a GPU"):
        check_runs_here(manifest, flavour(), RTX_4090)


def test_a_gpu_that_rtx_does_not_run_on_is_not_built_for(tiny_plan):
    """Seen on an H100: a plan that was built there is refused as well."""
    hopper = Gpu("NVIDIA H200", "9.0", "13.0")
    with pytest.raises(MissingRequirementError, match=r"does not run on NVIDIA H200 .* 9\.0"):
        check_runs_here(read_plan(tiny_plan), flavour(), hopper)
    check_supports(flavour(), Gpu("a newer one", "12.3", "14.0"))
    check_supports(flavour("tensorrt", "10.9"), hopper)


def test_a_driver_that_is_too_old_is_refused(copy):
    manifest = changed(copy, driver="13.0")
    check_runs_here(manifest, flavour(), Gpu("RTX 4090", "8.9", "13.1"))
    with pytest.raises(ArtifactError, match=r"driver for CUDA 13\.0, here it is 12\.4"):
        check_runs_here(manifest, flavour(), Gpu("RTX 4090", "8.9", "12.4"))


@pytest.mark.parametrize("sizes", [(0, 1, 1), (2, 1, 4), (1, 8, 4)])
def test_profiles_rise(sizes):
    with pytest.raises(ValueError, match=r"greater than|must rise"):
        Profile(min_batch=sizes[0], opt_batch=sizes[1], max_batch=sizes[2])


def test_doctor_says_what_a_plan_lacks_here(tiny_plan, capsys, monkeypatch):
    from engines import doctor

    monkeypatch.setattr(doctor, "find_gpu", lambda: None)
    assert run(["doctor", str(tiny_plan)]) == 3
    assert "needs an NVIDIA GPU" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "find_gpu", lambda: RTX_4090)
    monkeypatch.setattr(doctor, "installed_memories", list)
    assert run(["doctor", str(tiny_plan)]) == 3
    assert "plan for tensorrt-rtx" in (said := capsys.readouterr().out)
    assert 'pip install "ptame-deploy[cuda]"' in said.rsplit("plan for", 1)[1]
    monkeypatch.setattr(doctor, "installed_memories", lambda: ["cuda-python"])
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1")
    assert run(["doctor", str(tiny_plan)]) == 0
    assert "runs on RTX 4090" in capsys.readouterr().out


def test_doctor_and_inspect_tell_of_a_plan(tiny_plan, copy, capsys):
    assert run(["inspect", str(tiny_plan)]) == 0
    said = capsys.readouterr().out
    assert "batch              1 to 4, tuned for 2" in said
    assert "8.0, 8.6, 8.9" in said
    assert run(["inspect", str(tiny_plan), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "engine"
    (copy / PLAN_FILE).write_bytes(b"nothing")
    assert run(["doctor", str(copy)]) == 4
    assert run(["inspect", str(copy)]) == 4


@pytest.mark.parametrize(
    "lie",
    [
        {"precision": "int8"},
        {"inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 9, 9]}]},
        {"compute_capabilities": []},
        {"flavour_version": "abc"},
    ],
)
def test_json_that_contradicts_itself_is_refused(copy, lie):
    with pytest.raises(ArtifactError):
        changed(copy, **lie)


def test_doctor_names_a_wrong_version_without_a_gpu(copy, monkeypatch, capsys):
    monkeypatch.setattr("engines.doctor.find_gpu", lambda: None)
    changed(copy, flavour_version="1.0.0.0")
    assert run(["doctor", str(copy)]) == 3
    assert "was built by tensorrt-rtx 1.0.0.0" in capsys.readouterr().out


def test_doctor_finds_a_missing_plan(copy):
    (copy / PLAN_FILE).unlink()
    assert run(["doctor", str(copy)]) == 4


def test_control_characters_do_not_reach_the_terminal(copy, capsys):
    changed(copy, flavour_version="1\x1b[31m.7")
    assert run(["inspect", str(copy)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert r"\x1b[31m" in said


def test_options_that_would_do_nothing_are_refused(tiny_plan, capsys):
    assert run(["inspect", str(tiny_plan), "--trust"]) == 2
    assert "--layers" in capsys.readouterr().err
