"""GPU memory by both packages, over a GPU in the host's memory."""

import gc
import importlib
import re
import threading
from importlib import metadata

import fake_pycuda
import numpy as np
import pytest
from fake_cuda_bindings import CudaBindingsRuntime

from engines import open_memory
from engines.cuda_python_memory import CudaPythonMemory
from engines.device_memory import CaptureError, CudaError
from engines.gpu import find_gpu
from engines.open_memory import open_device_memory
from engines.pycuda_memory import PyCudaMemory
from ptame_deploy.errors import MissingRequirementError

pytestmark = pytest.mark.unit


def round_trip(memory):
    """Send numbers to the device and back by a stream of their own."""
    sent = np.arange(12, dtype=np.float32).reshape(3, 4)
    stream = memory.open_stream()
    there, back = memory.pinned((3, 4), "float32"), memory.pinned((3, 4), np.float32)
    address = memory.allocate(there.nbytes)
    np.copyto(there, sent)
    memory.upload(address, there, stream)
    memory.download(back, address, stream)
    memory.synchronise(stream)
    got = back.copy()
    for array in (there, back):
        memory.free_pinned(array)
    memory.free(address)
    memory.close_stream(stream)
    return sent, got


def test_what_is_sent_comes_back_and_everything_is_freed(gpu, memory):
    sent, got = round_trip(memory)
    np.testing.assert_array_equal(got, sent)
    assert gpu.is_empty


def test_copies_wait_for_the_stream(gpu, memory):
    stream, host = memory.open_stream(), memory.pinned((2,), "int64")
    host[:] = 7
    address = memory.allocate(host.nbytes)
    memory.upload(address, host, stream)
    host[:] = 8  # before the copy was done: what the caller must not do, and sees if it does
    memory.synchronise(stream)
    assert np.frombuffer(gpu.device[address], np.int64).tolist() == [8, 8]


def test_every_thread_may_use_it(gpu, memory):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(round_trip(memory))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    gc.collect()
    assert gpu.is_empty


def recorded(memory, work):
    stream = memory.open_stream()
    return stream, memory.capture(stream, lambda: work(stream))


@pytest.fixture
def cuda_python(gpu, install_cuda):
    install_cuda("cuda-python")
    return CudaPythonMemory()


def test_recorded_work_is_done_at_each_launch_and_not_before(gpu, cuda_python):
    done = []
    stream, graph = recorded(
        cuda_python, lambda stream: gpu.enqueue(stream, lambda: done.append(1))
    )
    cuda_python.synchronise(stream)
    assert not done
    for count in (1, 2):
        graph.launch()
        cuda_python.synchronise(stream)
        assert len(done) == count
    graph.close()
    cuda_python.close_stream(stream)
    assert gpu.is_empty


@pytest.mark.parametrize("how", ["spoilt", "refused", "failed"])
def test_work_that_cannot_be_recorded(gpu, cuda_python, how):
    def work(stream):
        if how == "spoilt":
            gpu.recordings[stream] = None
        elif how == "refused":
            message = "no"
            raise CudaError(message)

    if how == "failed":
        gpu.failures["cudaGraphInstantiate"] = "cudaErrorInvalidValue"
    stream = cuda_python.open_stream()
    reason = {
        "spoilt": "cudaErrorStreamCaptureInvalidated",
        "refused": "^no$",
        "failed": "cudaErrorInvalidValue",
    }
    with pytest.raises(CaptureError, match=reason[how]):
        cuda_python.capture(stream, lambda: work(stream))
    cuda_python.synchronise(stream)  # the stream is usable again
    cuda_python.close_stream(stream)
    assert gpu.is_empty


def test_an_interrupt_while_recording_is_passed_on(gpu, cuda_python):
    def work():
        raise KeyboardInterrupt

    stream = cuda_python.open_stream()
    with pytest.raises(KeyboardInterrupt):
        cuda_python.capture(stream, work)
    cuda_python.close_stream(stream)
    assert gpu.is_empty


def test_pycuda_records_nothing(gpu, install_cuda):
    install_cuda("pycuda")
    with pytest.raises(CaptureError, match="PyCUDA cannot record"):
        PyCudaMemory().capture(1, lambda: None)


@pytest.mark.parametrize(
    ("function", "error", "kind", "told"),
    [
        ("cudaMalloc", "cudaErrorMemoryAllocation", MissingRequirementError, "smaller batch"),
        ("cudaMallocHost", "cudaErrorInvalidValue", CudaError, "the story of"),
        ("cudaMemcpyAsync", "cudaErrorIllegalAddress", CudaError, "the story of"),
        ("cudaStreamSynchronize", "cudaErrorIllegalAddress", CudaError, "the story of"),
    ],
)
def test_errors_of_cuda_are_named(gpu, cuda_python, function, error, kind, told):
    gpu.failures[function] = error
    with pytest.raises(kind, match=f"{function} failed with {error}: .*{told}"):
        round_trip(cuda_python)
    # Taken back from CUDA: TensorRT would find it after its next launch.
    assert cuda_python._cuda.cudaGetLastError()[0] == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (fake_pycuda.MemoryError("cuMemAlloc failed: out of memory"), MissingRequirementError),
        (fake_pycuda.LogicError("cuMemAlloc failed: illegal address"), CudaError),
    ],
)
def test_errors_of_pycuda_are_named(gpu, install_cuda, error, kind):
    install_cuda("pycuda")
    memory = PyCudaMemory()
    gpu.failures["cuMemAlloc"] = error
    with pytest.raises(kind, match=str(error)):
        memory.allocate(8)


@pytest.mark.parametrize("error", ["cudaErrorNoDevice", "cudaErrorInsufficientDriver"])
def test_without_device_or_driver_it_is_not_opened(gpu, install_cuda, error):
    install_cuda("cuda-python")
    gpu.failures["cudaGetDeviceCount"] = error
    with pytest.raises(MissingRequirementError, match=error):
        CudaPythonMemory()
    gpu.failures = {"devices": 0}
    with pytest.raises(MissingRequirementError, match="no NVIDIA GPU"):
        CudaPythonMemory()


def test_pycuda_is_not_even_imported_without_a_gpu(monkeypatch):
    def refuse(name):
        raise AssertionError(name)

    monkeypatch.setattr("engines.gpu.find_gpu", lambda: None)
    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingRequirementError, match="PyCUDA needs an NVIDIA GPU"):
        PyCudaMemory()


def test_pycuda_on_another_gpu_is_refused(gpu, install_cuda):
    gpu.failures["device"] = 1
    install_cuda("pycuda")
    with pytest.raises(MissingRequirementError, match="CUDA_DEVICE"):
        PyCudaMemory()


def test_a_broken_pycuda_is_told(gpu, install_cuda, monkeypatch):
    install_cuda("pycuda")
    monkeypatch.setitem(__import__("sys").modules, "pycuda.driver", None)
    with pytest.raises(MissingRequirementError, match="PyCUDA cannot be used here"):
        PyCudaMemory()


def only(monkeypatch, *distributions):
    def version(name):
        if name not in distributions:
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(open_memory.metadata, "version", version)


def test_the_installed_package_is_opened(gpu, install_cuda, monkeypatch):
    install_cuda("cuda-python")
    install_cuda("pycuda")
    only(monkeypatch, "cuda-bindings", "pycuda")
    assert open_device_memory().name == "cuda-python"
    assert open_device_memory("pycuda").name == "pycuda"
    only(monkeypatch, "pycuda")
    assert open_device_memory().name == "pycuda"
    with pytest.raises(MissingRequirementError, match=re.escape("ptame-deploy[cuda]")):
        open_device_memory("cuda-python")
    only(monkeypatch)
    with pytest.raises(MissingRequirementError, match=re.escape("ptame-deploy[cuda]")):
        open_device_memory()


def test_a_package_that_cannot_be_imported_is_told(monkeypatch):
    only(monkeypatch, "cuda-bindings")
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings.runtime", None)
    with pytest.raises(MissingRequirementError, match="cannot be imported"):
        open_device_memory()


def public(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


def test_the_double_has_the_real_packages_names(gpu):
    real = pytest.importorskip("cuda.bindings.runtime", reason="extra: cuda")
    assert public(CudaBindingsRuntime) <= public(real)
    double = CudaBindingsRuntime(gpu)
    for holder in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode"):
        names = {name for name in public(getattr(double, holder)) if name.startswith("cuda")}
        assert names
        assert names <= public(getattr(real, holder))
    for name in public(CudaBindingsRuntime):
        function = getattr(double, name)
        if callable(function) and hasattr(function, "__func__"):
            told = getattr(real, name).__doc__.splitlines()[0]
            takes = [
                part.split(":")[0].split()[-1]
                for part in told[:-1].split("(")[1].split(", ")
                if part
            ]
            code = function.__func__.__code__
            assert list(code.co_varnames[1 : code.co_argcount]) == takes, told


def test_the_double_of_pycuda_has_documented_names_only(gpu):
    cuda = fake_pycuda.PyCuda(gpu)
    documented = fake_pycuda.DOCUMENTED
    assert public(cuda.driver) <= documented["driver"]
    assert public(cuda.primary) <= documented["autoprimaryctx"]
    for name in ("Stream", "DeviceAllocation", "PagelockedHostAllocation", "Context"):
        assert public(getattr(fake_pycuda, name)) <= documented[name]


def test_the_real_package_takes_what_we_give_it():
    """Without a driver every call ends in CUDA's error, not in one of the bindings' own."""
    real = pytest.importorskip("cuda.bindings.runtime", reason="extra: cuda")
    if find_gpu() is not None:
        pytest.skip("with a GPU the tests marked gpu do this in earnest")
    with pytest.raises(MissingRequirementError, match="cudaGetDeviceCount failed with"):
        CudaPythonMemory()
    memory = CudaPythonMemory.__new__(CudaPythonMemory)
    memory._cuda = real
    host = np.zeros((2, 3), np.float32)
    graph = real.cudaGraphExec_t()
    calls = [
        lambda: memory.allocate(24),
        lambda: memory.free(0x7F0000000000),
        lambda: memory.pinned((2, 3), "float32"),
        lambda: memory.free_pinned(host),
        memory.open_stream,
        lambda: memory.close_stream(1000),
        lambda: memory.upload(0x7F0000000000, host, 1000),
        lambda: memory.download(host, 0x7F0000000000, 1000),
        lambda: memory.synchronise(1000),
        lambda: memory.capture(1000, lambda: None),
        lambda: memory._call("cudaGraphInstantiate", real.cudaGraph_t(), 0),
        lambda: memory._call("cudaGraphDestroy", real.cudaGraph_t()),
        lambda: memory._call("cudaGraphLaunch", graph, 1000),
        lambda: memory._call("cudaGraphExecDestroy", graph),
        lambda: memory._call("cudaStreamEndCapture", 1000),
    ]
    for call in calls:
        with pytest.raises((MissingRequirementError, CudaError), match="failed with cudaError"):
            call()
