import numpy as np
import pytest
import torch
from torch import nn

from engines.torch_runtime import TorchRuntime
from ptame_deploy.artifacts import TensorRecord
from ptame_deploy.errors import InvalidInputError, MissingRequirementError
from ptame_deploy.fused import min_max_normalise

pytestmark = pytest.mark.integration
INPUTS = [
    TensorRecord(name="image", dtype="float32", shape=["batch", 3, 8, 8]),
    TensorRecord(name="class_index", dtype="int64", shape=["batch", "classes"]),
]


class Net(nn.Module):
    """Two inputs, two outputs; remembers the type that its convolution computed in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.seen = None

    def forward(self, image, class_index):
        features = self.conv(image)
        self.seen = features.dtype
        return features.mean((2, 3)), class_index + 1


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    image = rng.random((2, 3, 8, 8), dtype=np.float32)
    return {"image": image, "class_index": np.array([[1, 2], [3, 4]])}


def runtime(net=None, **options):
    return TorchRuntime(net or Net(), INPUTS, ["logits", "class_index"], **options)


def test_it_answers_as_the_module(inputs):
    found = runtime().run(inputs)
    with torch.no_grad():
        logits, index = Net()(*(torch.from_numpy(array) for array in inputs.values()))
    np.testing.assert_array_equal(found["logits"], logits.numpy())
    np.testing.assert_array_equal(found["class_index"], index.numpy())
    assert found["class_index"].dtype == np.int64


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_autocast_computes_in_half_precision_and_answers_in_float32(inputs, precision, dtype):
    net = Net()
    found = runtime(net, precision=precision).run(inputs)
    assert net.seen is dtype
    assert found["logits"].dtype == np.float32
    reference = runtime().run(inputs)["logits"]
    np.testing.assert_allclose(found["logits"], reference, atol=0.02)
    assert not np.array_equal(found["logits"], reference)


def test_maps_are_stretched_in_float32_under_autocast():
    maps = torch.full((1, 1, 4, 4), 0.25, dtype=torch.bfloat16)
    maps[0, 0, 0, 0] = 0.5
    found = min_max_normalise(maps)
    assert found.dtype is torch.float32
    assert found.max() == 1


def test_staged_batches_keep_their_own_inputs(inputs):
    model = runtime()
    doubled = inputs | {"image": inputs["image"] * 2}
    first, second = model.stage(inputs), model.stage(doubled)
    for batch in (first, second):
        batch.upload()
        batch.compute()
    np.testing.assert_array_equal(first.download()["logits"], model.run(inputs)["logits"])
    np.testing.assert_array_equal(second.download()["logits"], model.run(doubled)["logits"])


def test_compiled_it_answers_the_same(inputs):
    net = nn.Sequential(nn.Flatten(), nn.ReLU())
    compiled = TorchRuntime(net, INPUTS[:1], ["logits"], mode="compile")
    image = {"image": inputs["image"] - 0.5}
    expected = np.maximum(image["image"], 0).reshape(2, -1)
    np.testing.assert_allclose(compiled.run(image)["logits"], expected, atol=1e-6)
    assert "compile" in compiled.description


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": np.zeros((1, 3, 9, 8), np.float32)},
        {"image": np.zeros((1, 3, 8, 8), np.float64)},
        {"picture": np.zeros((1, 3, 8, 8), np.float32)},
    ],
)
def test_wrong_inputs(inputs, wrong):
    kept = {} if "picture" in wrong else inputs
    with pytest.raises(InvalidInputError):
        runtime().run(kept | wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_missing_gpu_is_said_and_never_replaced():
    with pytest.raises(MissingRequirementError, match="no CUDA GPU"):
        runtime(device="cuda")


def test_a_size_too_many_is_refused_and_never_run_eagerly(inputs, monkeypatch):
    monkeypatch.setattr("engines.torch_runtime._COMPILED_SIZES", 1)
    torch._dynamo.reset()
    model = TorchRuntime(nn.Sequential(nn.Tanh()), INPUTS[:1], ["logits"], mode="compile")
    image = inputs["image"]
    model.run({"image": image})
    with pytest.raises(InvalidInputError, match="fewer batch sizes"):
        model.run({"image": image[:1]})


def test_a_run_leaves_the_callers_arrays_alone(inputs):
    model, before = runtime(), inputs["image"].copy()
    first = model.run(inputs)
    second = model.run(inputs | {"image": inputs["image"] * 0})
    np.testing.assert_array_equal(inputs["image"], before)
    assert not np.array_equal(first["logits"], second["logits"])
    np.testing.assert_array_equal(first["logits"], model.run(inputs)["logits"])


def test_cuda_graphs_need_cuda():
    with pytest.raises(InvalidInputError, match="--provider cuda"):
        runtime(mode="cuda-graphs")


def test_a_failing_compiler_is_said(inputs, monkeypatch):
    model = runtime()

    def fails(*_):
        raise torch._dynamo.exc.BackendCompilerFailed(lambda: None, OSError("no g++"), None)

    model._call = fails
    with pytest.raises(MissingRequirementError, match=r"needs a C\+\+ compiler"):
        model.run(inputs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("mode", ["eager", "compile", "cuda-graphs"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_on_a_gpu_it_answers_as_on_the_cpu(inputs, mode, precision):
    model = runtime(device="cuda", mode=mode, precision=precision)
    assert model.copies
    batch = model.stage(inputs)
    for _ in range(2):
        batch.upload()
        batch.compute()
    found, expected = batch.download(), runtime().run(inputs)
    np.testing.assert_allclose(found["logits"], expected["logits"], atol=0.02)
    np.testing.assert_array_equal(found["class_index"], expected["class_index"])
