"""Engines that compute with NumPy on a GPU in the host's memory, in every TensorRT's API."""

import gc
import threading
from contextlib import closing

import numpy as np
import pytest
from fake_tensorrt import Module, Tensor

from engines.device_memory import CudaError
from engines.flavours import Flavour
from engines.runtime import Runtime, Staged
from engines.tensorrt.runtime import KEPT_SIZES, TensorRtRuntime
from ptame_deploy.errors import (
    ArtifactError,
    CheckFailedError,
    InvalidInputError,
    MissingRequirementError,
)

pytestmark = pytest.mark.unit


def batch(count, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.random((count, 3, 2, 2), dtype=np.float32),
        "class_index": rng.integers(0, 9, (count, 1)),
    }


def check(world, inputs, outputs):
    expected = world.compute(inputs)
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(outputs[name], array)


@pytest.fixture
def runtime(flavour, memory):
    return TensorRtRuntime(b"plan", flavour, memory)


def test_batches_of_every_size_are_answered(world, gpu, runtime):
    for seed, count in enumerate((1, 4, 2, 4, 1)):
        inputs = batch(count, seed)
        check(world, inputs, runtime.run(inputs))
    assert len(world.contexts) == 3  # sizes that were seen before are ready
    runtime.close()
    gc.collect()
    assert gpu.is_empty


def test_it_says_what_it_is(world, runtime):
    named: Runtime = runtime
    title = "TensorRT for RTX" if world.name == "tensorrt-rtx" else "TensorRT"
    version = world.version.partition("-")[2]
    assert named.description == f"{title} {version} RTX 4090"
    assert named.copies
    assert runtime.batches == (1, 4)


def test_without_a_gpu_tensorrt_is_not_touched(world, flavour, memory, monkeypatch):
    monkeypatch.setattr("engines.gpu.find_gpu", lambda: None)
    with pytest.raises(MissingRequirementError, match="needs an NVIDIA GPU"):
        TensorRtRuntime(b"plan", flavour, memory)
    assert not world.deserialised


def test_answers_are_the_callers(world, runtime):
    inputs = batch(2)
    first = runtime.run(inputs)
    kept = {name: array.copy() for name, array in first.items()}
    runtime.run(batch(2, seed=5))
    runtime.close()
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])
        array[:] = 0  # writable, and its own memory
    check(world, inputs, runtime.run(inputs))


def test_input_that_is_not_contiguous(world, runtime):
    inputs = batch(2)
    inputs["image"] = inputs["image"][:, ::-1].transpose(0, 1, 3, 2)
    check(world, inputs, runtime.run(inputs))


def test_few_sizes_are_kept_and_the_oldest_goes(world, gpu, flavour, memory):
    world.batches = (1, 8, 16)
    with closing(TensorRtRuntime(b"plan", flavour, memory)) as runtime:
        for count in range(1, KEPT_SIZES + 2):
            runtime.run(batch(count))
        assert len(gpu.streams) == KEPT_SIZES
        made = len(world.contexts)
        runtime.run(batch(2))
        assert len(world.contexts) == made
        runtime.run(batch(1))
        assert len(world.contexts) == made + 1
    gc.collect()
    assert gpu.is_empty


def test_steps_of_a_staged_batch(world, gpu, runtime):
    inputs = batch(3)
    staged: Staged = runtime.stage(inputs)
    for step in (staged.upload, staged.compute, staged.download):
        step()
        assert not any(gpu.streams.values())  # over when it returns
    check(world, inputs, staged.download())
    other = batch(3, seed=1)
    staged.fill(other)
    staged.compute()  # of what was uploaded last
    check(world, inputs, staged.download())
    staged.upload()
    check(world, inputs, staged.download())  # of the last run
    staged.compute()
    check(world, other, staged.download())
    staged.close()
    staged.close()
    for step in (staged.upload, staged.compute, staged.download, lambda: staged.fill(inputs)):
        with pytest.raises(ValueError, match="was closed"):
            step()
    gc.collect()
    assert gpu.is_empty


def test_a_staged_batch_is_freed_with_its_last_reference(gpu, runtime):
    staged = runtime.stage(batch(1))
    assert not gpu.is_empty
    del staged
    gc.collect()
    assert gpu.is_empty
    with closing(runtime.stage(batch(1))):
        assert not gpu.is_empty
    gc.collect()
    assert gpu.is_empty


def test_two_staged_batches_at_once(world, runtime):
    """Each from a thread of its own, step by step in turns, beside a third that calls `run`."""
    barrier = threading.Barrier(3, timeout=30)
    failures = []

    def steps(seed):
        try:
            inputs = batch(2, seed)
            with closing(runtime.stage(inputs)) as staged:
                for _ in range(5):
                    for step in (staged.upload, staged.compute):
                        barrier.wait()
                        step()
                    check(world, inputs, staged.download())
        except BaseException as error:  # noqa: BLE001 (told by the test)
            failures.append(error)
            barrier.abort()

    def runs():
        try:
            for number in range(10):
                barrier.wait()
                inputs = batch(1 + number % 4, number)
                check(world, inputs, runtime.run(inputs))
        except BaseException as error:  # noqa: BLE001 (told by the test)
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=steps, args=(seed,)) for seed in (1, 2)]
    threads.append(threading.Thread(target=runs))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": None}, r"takes \['class_index', 'image'\], got \['class_index'\]"),
        ({"more": np.zeros(1)}, r"got \['class_index', 'image', 'more'\]"),
        ({"image": np.zeros((2, 3, 2, 2))}, r"must be float32 \(1 to 4, 3, 2, 2\).*got float64"),
        ({"image": np.zeros((2, 3, 2), np.float32)}, r"got float32 \(2, 3, 2\)"),
        ({"image": np.zeros((2, 3, 2, 3), np.float32)}, r"got float32 \(2, 3, 2, 3\)"),
        ({"image": np.zeros((), np.float32)}, r"got float32 \(\)"),
        ({"class_index": np.zeros((2, 2), np.int64)}, r"must be int64 \(1 to 4, 1\)"),
        ({"image": np.zeros((5, 3, 2, 2), np.float32)}, "batches of 1 to 4, got 5"),
        ({"image": np.zeros((0, 3, 2, 2), np.float32)}, "batches of 1 to 4, got 0"),
        ({"class_index": np.zeros((3, 1), np.int64)}, "image 2, class_index 3"),
    ],
)
def test_wrong_inputs_are_refused(world, runtime, change, told):
    inputs = {name: array for name, array in (batch(2) | change).items() if array is not None}
    for call in (runtime.run, runtime.stage):
        with pytest.raises(InvalidInputError, match=told):
            call(inputs)
    assert not world.contexts


def test_it_runs_as_a_graph_where_that_can_be(world, gpu, memory, runtime):
    inputs = batch(2)
    staged = runtime.stage(inputs)
    if world.name == "tensorrt-rtx":
        assert staged.captured
        assert "TensorRT for RTX" in staged.how
    elif memory.name == "cuda-python":
        assert staged.captured
        assert staged.how == "as a CUDA graph"
    else:
        assert not staged.captured
        assert "PyCUDA" in staged.how
    staged.compute()
    assert gpu.launches == (staged.captured and world.name == "tensorrt")
    check(world, inputs, staged.download())


def test_it_runs_without_a_graph_where_none_can_be(world, gpu, flavour, memory):
    world.refuses = {"capture", "is_stream_capturable"}
    inputs = batch(2)
    staged = TensorRtRuntime(b"plan", flavour, memory).stage(inputs)
    assert not staged.captured
    assert staged.how.startswith("without a CUDA graph: ")
    if memory.name == "cuda-python" and world.name == "tensorrt":
        assert "not permitted when stream is capturing" in staged.how
    staged.compute()
    check(world, inputs, staged.download())
    assert gpu.launches == 0
    staged.close()
    gc.collect()
    assert gpu.is_empty


def test_it_runs_without_a_graph_where_that_is_asked_for(world, gpu, flavour, memory, monkeypatch):
    asked = []
    create = Flavour.create_context

    def spy(self, engine, *, graphs):
        asked.append(graphs)
        return create(self, engine, graphs=graphs)

    monkeypatch.setattr(Flavour, "create_context", spy)
    inputs = batch(2)
    staged = TensorRtRuntime(b"plan", flavour, memory, capture=False).stage(inputs)
    assert not staged.captured
    assert asked == [False]
    staged.compute()
    check(world, inputs, staged.download())
    assert gpu.launches == 0


def test_the_engine_is_set_up_for_one_size(world, runtime):
    """The profiler's markers are off, and RTX compiles for the size before the first answer."""
    staged = runtime.stage(batch(1))
    (context,) = staged._held
    assert context.nvtx_verbosity == "ProfilingVerbosity.NONE"
    if world.name == "tensorrt-rtx":
        config = context._config
        kernels = config.dynamic_shapes_kernel_specialization_strategy
        assert kernels == "DynamicShapesKernelSpecializationStrategy.EAGER"
        assert config.cuda_graph_strategy == "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE"
    else:
        assert context._config is None


@pytest.mark.parametrize(
    ("refusal", "kind", "told"),
    [
        ("create_execution_context", MissingRequirementError, "smaller --max-batch"),
        ("set_input_shape", InvalidInputError, "refuses 'image'"),
        ("set_tensor_address", CheckFailedError, "refuses 'image'"),
        ("execute_async_v3", CheckFailedError, "failed to run"),
    ],
)
def test_refusals_of_tensorrt_have_its_words(world, gpu, runtime, refusal, kind, told):
    world.refuses = {refusal}
    for call in (runtime.run, runtime.stage):
        with pytest.raises(kind, match=f"{refusal} was told to fail") as caught:
            call(batch(1))
        assert told in str(caught.value)
    del caught
    gc.collect()
    assert gpu.is_empty
    world.refuses = set()
    check(world, batch(1), runtime.run(batch(1)))


def test_a_batch_that_failed_is_not_used_again(world, gpu, runtime):
    runtime.run(batch(2))
    world.compute, answer = None, world.compute
    with pytest.raises(TypeError) as caught:
        runtime.run(batch(2))
    assert not gpu.device  # though the error's traceback still holds the batch
    assert not gpu.pinned
    del caught
    world.compute = answer
    check(world, batch(2), runtime.run(batch(2)))


def test_a_plan_that_tensorrt_refuses(world, flavour, memory):
    world.refuses = {"deserialize_cuda_engine"}
    with pytest.raises(ArtifactError, match="refuses the plan: deserialize_cuda_engine was told"):
        TensorRtRuntime(b"plan", flavour, memory)


def test_a_tensorrt_that_does_not_start(world, flavour, memory):
    world.refuses = {"Runtime"}
    with pytest.raises(MissingRequirementError, match="cannot start: Runtime was told to fail"):
        TensorRtRuntime(b"plan", flavour, memory)
    assert not world.deserialised


def test_host_code_is_allowed_only_when_asked_for(world, flavour, memory):
    TensorRtRuntime(b"plan", flavour, memory)
    TensorRtRuntime(b"plan", flavour, memory, host_code=True)
    assert world.host_code == [False, True]


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (Tensor("image", "float32", (-1, 3), is_input=True, location="HOST"), "on the host"),
        (Tensor("image", "bf16", (-1, 3), is_input=True), "NumPy does not know"),
    ],
)
def test_engines_that_are_none_of_ours(world, flavour, memory, tensor, told):
    world.tensors = [tensor]
    with pytest.raises(ArtifactError, match=told):
        TensorRtRuntime(b"plan", flavour, memory)


def test_outputs_whose_shape_depends_on_values(world, gpu, runtime):
    world.tensors[2].shape = (-1, -1)
    with pytest.raises(CheckFailedError, match="'logits' has a shape that depends"):
        runtime.run(batch(1))
    gc.collect()
    assert gpu.is_empty


@pytest.mark.parametrize(
    ("function", "error", "kind"),
    [
        ("cudaMalloc", "cudaErrorMemoryAllocation", MissingRequirementError),
        ("cudaMallocHost", "cudaErrorMemoryAllocation", MissingRequirementError),
        ("cudaStreamSynchronize", "cudaErrorIllegalAddress", CudaError),
    ],
)
def test_errors_of_cuda_free_everything(world, gpu, flavour, install_cuda, function, error, kind):
    from engines.cuda_python_memory import CudaPythonMemory

    install_cuda("cuda-python")
    runtime = TensorRtRuntime(b"plan", flavour, CudaPythonMemory())
    gpu.failures[function] = error
    for call in (runtime.run, runtime.stage):
        with pytest.raises(kind, match=error) as caught:
            call(batch(1))
        del caught
    gc.collect()
    assert gpu.is_empty


def test_the_double_refuses_what_is_not_documented(world, runtime):
    with pytest.raises(AttributeError, match="has no Builders"):
        _ = Module(world).Builders
    engine = runtime.loaded.engine
    with pytest.raises(AttributeError, match="has no num_bindings"):
        _ = engine.num_bindings
    with pytest.raises(AttributeError, match="has no num_bindings"):
        engine.num_bindings = 3
