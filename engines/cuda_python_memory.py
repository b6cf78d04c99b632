"""GPU memory by CUDA for Python: ``cuda.bindings.runtime``, from cuda-python 12.6 on."""

import ctypes
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engines.device_memory import CaptureError, CudaError, MemoryName
from ptame_deploy.errors import MissingRequirementError, PtameError

_MODULE = "cuda.bindings.runtime"
# Errors that say what the machine lacks, with what to do about each.
_MISSING = {
    "cudaErrorNoDevice": "this machine has no NVIDIA GPU that CUDA can see",
    "cudaErrorInsufficientDriver": (
        "there is no NVIDIA driver, or it is older than the package: update it, or install the "
        "cuda-bindings of the CUDA version that nvidia-smi shows"
    ),
    "cudaErrorSystemDriverMismatch": "the driver and its libraries differ: reboot",
    "cudaErrorCompatNotSupportedOnDevice": "update the driver",
    "cudaErrorStubLibrary": "a stub took the driver's place: remove it from the library path",
    "cudaErrorDevicesUnavailable": "another process holds the GPU",
    "cudaErrorSystemNotReady": "the GPU's services are not running",
    "cudaErrorMemoryAllocation": "the GPU's memory is full: use a smaller batch, or free some",
}


class CudaPythonMemory:
    """The first GPU's memory; see `engines.device_memory.DeviceMemory`."""

    def __init__(self) -> None:
        """Import the package and look for a device.

        Raises:
            MissingRequirementError: the package cannot be imported, or there is no device.
        """
        try:
            self._cuda = importlib.import_module(_MODULE)
        except ImportError as error:
            message = f'{_MODULE} cannot be imported ({error}): pip install "ptame-deploy[cuda]".'
            raise MissingRequirementError(message) from error
        if self._call("cudaGetDeviceCount") == 0:
            message = f"CUDA: {_MISSING['cudaErrorNoDevice']}."
            raise MissingRequirementError(message)

    @property
    def name(self) -> MemoryName:
        """See `DeviceMemory`."""
        return "cuda-python"

    def allocate(self, nbytes: int) -> int:
        """See `DeviceMemory`."""
        return int(self._call("cudaMalloc", nbytes))

    def free(self, address: int) -> None:
        """See `DeviceMemory`."""
        self._call("cudaFree", address)

    def pinned(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """See `DeviceMemory`."""
        kind = np.dtype(dtype)
        nbytes = math.prod(shape) * kind.itemsize
        address = int(self._call("cudaMallocHost", nbytes))
        block = (ctypes.c_byte * nbytes).from_address(address)
        array: NDArray[Any] = np.ctypeslib.as_array(block).view(kind).reshape(shape)
        return array

    def free_pinned(self, array: NDArray[Any]) -> None:
        """See `DeviceMemory`."""
        self._call("cudaFreeHost", array.ctypes.data)

    def open_stream(self) -> int:
        """See `DeviceMemory`."""
        return int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))

    def close_stream(self, stream: int) -> None:
        """See `DeviceMemory`."""
        self._call("cudaStreamDestroy", stream)

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """See `DeviceMemory`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """See `DeviceMemory`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def synchronise(self, stream: int) -> None:
        """See `DeviceMemory`."""
        self._call("cudaStreamSynchronize", stream)

    def capture(self, stream: int, work: Callable[[], None]) -> "CudaGraph":
        """See `DeviceMemory`."""
        # Thread-local: what other threads do meanwhile neither fails nor spoils the recording.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        except BaseException as error:
            self._discard_capture(stream)
            if isinstance(error, PtameError):
                raise CaptureError(str(error)) from error
            raise
        try:
            graph = self._call("cudaStreamEndCapture", stream)
            try:
                executable = self._call("cudaGraphInstantiate", graph, 0)
            finally:
                self._call("cudaGraphDestroy", graph)
        except PtameError as error:
            raise CaptureError(str(error)) from error
        return CudaGraph(self._call, executable, stream)

    def _discard_capture(self, stream: int) -> None:
        """End a recording whose work failed; the stream cannot be used before that."""
        error, graph = self._cuda.cudaStreamEndCapture(stream)
        if error == self._cuda.cudaError_t.cudaSuccess:
            self._cuda.cudaGraphDestroy(graph)
        self._cuda.cudaGetLastError()

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call CUDA and return its result, or None where it has none."""
        error, *results = getattr(self._cuda, function)(*arguments)
        if error == self._cuda.cudaError_t.cudaSuccess:
            return results[0] if results else None
        # CUDA keeps an error for the next one who asks, and TensorRT asks after each launch.
        self._cuda.cudaGetLastError()
        name = self._cuda.cudaGetErrorName(error)[1].decode()
        remedy = _MISSING.get(name)
        reason = remedy or self._cuda.cudaGetErrorString(error)[1].decode()
        message = f"CUDA: {function} failed with {name}: {reason}."
        raise (CudaError if remedy is None else MissingRequirementError)(message)


class CudaGraph:
    """Recorded work; see `engines.device_memory.Graph`."""

    def __init__(self, call: Callable[..., Any], executable: Any, stream: int) -> None:
        self._call = call
        self._executable = executable
        self._stream = stream

    def launch(self) -> None:
        """See `Graph`."""
        self._call("cudaGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """See `Graph`."""
        self._call("cudaGraphExecDestroy", self._executable)
