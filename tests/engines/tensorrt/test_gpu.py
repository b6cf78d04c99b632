"""Real plans on a real GPU, against ONNX Runtime on the CPU; skipped where there is none.

pytest -m gpu tests/engines
"""

import threading
from contextlib import closing

import numpy as np
import pytest

from engines.flavours import RTX_COMPUTE_CAPABILITIES, load_flavour
from engines.gpu import find_gpu
from engines.onnx_runtime import OnnxRuntime
from engines.open_memory import open_device_memory
from engines.tensorrt.layers import read_layers
from engines.tensorrt.open_plan import open_plan
from ptame_deploy.cli import run
from ptame_deploy.errors import MissingRequirementError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.integration,
    pytest.mark.skipif(find_gpu() is None, reason="no NVIDIA GPU or no driver"),
]


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def plan(request, tiny_artifact, tmp_path_factory):
    """A plan for batches of 1 to 4, built by each TensorRT that is installed and runs here."""
    try:
        load_flavour(request.param)
    except MissingRequirementError as error:
        pytest.skip(str(error))
    capability = find_gpu().compute_capability
    if request.param == "tensorrt-rtx" and capability not in RTX_COMPUTE_CAPABILITIES:
        pytest.skip(f"TensorRT for RTX does not run on compute capability {capability}")
    directory = tmp_path_factory.mktemp("real") / "plan"
    sizes = ["--opt-batch", "2", "--max-batch", "4"]
    arguments = ["build", str(tiny_artifact), "--runtime", request.param, *sizes]
    assert run([*arguments, "-o", str(directory)]) == 0
    return directory


@pytest.fixture(params=["cuda-python", "pycuda"])
def runtime(request, plan):
    try:
        memory = open_device_memory(request.param)
    except MissingRequirementError as error:
        pytest.skip(str(error))
    with closing(open_plan(plan, memory=memory)[1]) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def reference(tiny_artifact):
    return OnnxRuntime(tiny_artifact / "model.onnx")


def batch(count, seed=0):
    rng = np.random.default_rng(seed)
    return {"image": rng.random((count, 3, 64, 64), dtype=np.float32)}


def agree(outputs, expected):
    """FP32 plans may multiply in TF32, with 10 bits: near, not equal."""
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(outputs["logits"], expected["logits"], atol=2e-2 * scale)
    same = outputs["class_index"] == expected["class_index"]  # two near classes may swap
    assert same.any()
    difference = np.abs(outputs["saliency"] - expected["saliency"])[same]
    assert difference.mean() < 0.02


def test_it_answers_as_onnxruntime_does(runtime, reference):
    for seed, count in enumerate((1, 4, 3, 4, 1)):
        inputs = batch(count, seed)
        agree(runtime.run(inputs), reference.run(inputs))


def test_steps_and_graphs(runtime, reference):
    inputs = batch(2)
    with closing(runtime.stage(inputs)) as staged:
        # On a GPU a plan of fixed shapes can be recorded, but not by PyCUDA.
        by_pycuda = runtime.loaded.memory.name == "pycuda"
        assert staged.captured or by_pycuda, staged.how
        for _ in range(3):
            staged.compute()
        agree(staged.download(), reference.run(inputs))
        other = batch(2, seed=9)
        staged.fill(other)
        staged.upload()
        staged.compute()
        agree(staged.download(), reference.run(other))


def test_threads(runtime, reference):
    wanted = {seed: reference.run(batch(2, seed)) for seed in range(3)}
    answers = {}

    def work(seed):
        with closing(runtime.stage(batch(2, seed))) as staged:
            for _ in range(20):
                staged.upload()
                staged.compute()
                answers[seed] = staged.download()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in wanted]
    for thread in threads:
        thread.start()
    for _ in range(20):
        agree(runtime.run(batch(2, 0)), wanted[0])
    for thread in threads:
        thread.join()
    for seed, expected in wanted.items():
        agree(answers[seed], expected)


def test_layers_are_told(runtime):
    layers = read_layers(runtime.loaded)
    assert layers
    assert any("fp32" in layer.precisions for layer in layers)


def test_the_commands(plan, photo_folder, tmp_path):
    assert run(["doctor", str(plan)]) == 0
    assert run(["inspect", str(plan), "--layers"]) == 0
    assert run(["explain", str(plan), str(photo_folder), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
