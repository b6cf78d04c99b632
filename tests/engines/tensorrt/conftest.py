import json
import sys

import numpy as np
import pytest
from fake_tensorrt import VERSIONS, Module, Tensor, World

from engines import open_memory
from engines.flavours import Flavour
from engines.plan import PLAN_MANIFEST
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


def answer(inputs):
    """A stand-in for a graph: sums and differences, by photo."""
    image, asked = inputs["image"], inputs["class_index"]
    sums = image.sum(axis=(2, 3))
    saliency = image[:, :1] * 2 + asked[:, :, None, None].astype(np.float32)
    return {"logits": sums, "saliency": saliency}


@pytest.fixture(params=VERSIONS)
def world(request, gpu):
    """A TensorRT of each version, with an engine of two inputs and two outputs."""
    tensors = [
        Tensor("image", "float32", (-1, 3, 2, 2), is_input=True),
        Tensor("class_index", "int64", (-1, -1), is_input=True),
        Tensor("logits", "float32", (-1, 3), is_input=False),
        Tensor("saliency", "float32", (-1, 1, 2, 2), is_input=False),
    ]
    return World(request.param, gpu, tensors, answer)


@pytest.fixture
def flavour(world):
    return Flavour(world.name, Module(world))


@pytest.fixture
def plan_world(gpu, install_cuda, monkeypatch):
    """Let a TensorRT for RTX run a plan that was really built, on a GPU in the host's memory."""

    def make(directory, compute=None):
        manifest = json.loads((directory / PLAN_MANIFEST).read_text())
        tensors = [
            Tensor(
                tensor["name"],
                tensor["dtype"],
                tuple(-1 if isinstance(size, str) else size for size in tensor["shape"]),
                is_input=tensor in manifest["inputs"],
            )
            for tensor in manifest["inputs"] + manifest["outputs"]
        ]
        profile = manifest["profile"]
        batches = (profile["min_batch"], profile["opt_batch"], profile["max_batch"])
        world = World(VERSIONS[-1], gpu, tensors, compute, batches)
        module = Module(world)
        object.__setattr__(module, "__version__", manifest["flavour_version"])
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
        install_cuda("cuda-python")
        monkeypatch.setattr(open_memory, "installed_memories", lambda: ["cuda-python"])
        return world

    return make
