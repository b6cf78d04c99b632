"""``cuda.bindings.runtime`` over a `FakeGpu`, as far as the project uses it.

`tests/engines/test_device_memory.py` compares its names with the real package's.
"""
# ruff: noqa: N801, N802, N803, N815 (the names are CUDA's)

import enum
import types


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureInvalidated = 901


class CudaBindingsRuntime:
    """The module ``cuda.bindings.runtime``."""

    cudaError_t = cudaError_t
    cudaStreamNonBlocking = 1
    cudaMemcpyKind = types.SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, gpu):
        self._gpu = gpu
        self._last_error = cudaError_t.cudaSuccess

    def _answer(self, function, call=None):
        """Fail as was asked for, with as many results as the real function has; else call."""
        error = self._gpu.failures.get(function)
        if error is None:
            return (cudaError_t.cudaSuccess,) if call is None else (cudaError_t.cudaSuccess, call())
        self._last_error = cudaError_t[error]
        return (cudaError_t[error],) if call is None else (cudaError_t[error], None)

    def cudaGetDeviceCount(self):
        return self._answer("cudaGetDeviceCount", lambda: self._gpu.failures.get("devices", 1))

    def cudaGetErrorName(self, error):
        return cudaError_t.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error):
        return cudaError_t.cudaSuccess, f"the story of {error.name}".encode()

    def cudaGetLastError(self):
        error, self._last_error = self._last_error, cudaError_t.cudaSuccess
        return (error,)

    def cudaMalloc(self, size):
        return self._answer("cudaMalloc", lambda: self._gpu.allocate(size))

    def cudaFree(self, devPtr):
        self._gpu.free(devPtr)
        return self._answer("cudaFree")

    def cudaMallocHost(self, size):
        return self._answer("cudaMallocHost", lambda: self._gpu.pin(size))

    def cudaFreeHost(self, ptr):
        self._gpu.unpin(ptr)
        return self._answer("cudaFreeHost")

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == self.cudaStreamNonBlocking
        return self._answer("cudaStreamCreateWithFlags", self._gpu.open_stream)

    def cudaStreamDestroy(self, stream):
        self._gpu.close_stream(stream)
        return self._answer("cudaStreamDestroy")

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):
        copy = self._gpu.upload if kind == 1 else self._gpu.download
        copy(dst, src, count, stream)
        return self._answer("cudaMemcpyAsync")

    def cudaStreamSynchronize(self, stream):
        self._gpu.wait(stream)
        return self._answer("cudaStreamSynchronize")

    def cudaStreamBeginCapture(self, stream, mode):
        assert mode == self.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._gpu.recordings[stream] = []
        return self._answer("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream):
        recorded = self._gpu.recordings.pop(stream)
        if recorded is None:
            self._last_error = cudaError_t.cudaErrorStreamCaptureInvalidated
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        handle = next(self._gpu.numbers)
        self._gpu.graphs[handle] = recorded
        return cudaError_t.cudaSuccess, handle

    def cudaGraphInstantiate(self, graph, flags):
        assert flags == 0

        def instantiate():
            handle = next(self._gpu.numbers)
            self._gpu.graphs[handle] = list(self._gpu.graphs[graph])
            return handle

        return self._answer("cudaGraphInstantiate", instantiate)

    def cudaGraphDestroy(self, graph):
        del self._gpu.graphs[graph]
        return self._answer("cudaGraphDestroy")

    def cudaGraphExecDestroy(self, graphExec):
        del self._gpu.graphs[graphExec]
        return self._answer("cudaGraphExecDestroy")

    def cudaGraphLaunch(self, graphExec, stream):
        self._gpu.launch(graphExec, stream)
        return self._answer("cudaGraphLaunch")
