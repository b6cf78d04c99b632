"""GPU memory by PyCUDA, in the primary context: the one that TensorRT uses too."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import DTypeLike, NDArray

from engines.device_memory import CaptureError, CudaError, Graph, MemoryName
from engines.gpu import require_gpu
from ptame_deploy.errors import MissingRequirementError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which PyCUDA has no name


class PyCudaMemory:
    """The first GPU's memory; see `engines.device_memory.DeviceMemory`.

    PyCUDA has no CUDA graphs: `capture` always refuses.
    """

    def __init__(self) -> None:
        """Import the package and take the primary context.

        Raises:
            MissingRequirementError: there is no GPU, the package cannot be used, or it was told to
                use another GPU than the first.
        """
        require_gpu("PyCUDA")  # which links the driver's library: without it even an import fails
        try:
            self._driver = importlib.import_module("pycuda.driver")
            primary = importlib.import_module("pycuda.autoprimaryctx")
        except Exception as error:  # of several kinds, by what is missing
            message = f"PyCUDA cannot be used here: {error}"
            raise MissingRequirementError(message) from error
        if primary.device != self._driver.Device(0):
            message = (
                "PyCUDA uses another GPU than the first, which plans are checked against: unset "
                "CUDA_DEVICE, remove ~/.cuda_device, and say CUDA_VISIBLE_DEVICES instead."
            )
            raise MissingRequirementError(message)
        self._context = primary.context
        self._allocations: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}

    @property
    def name(self) -> MemoryName:
        """See `DeviceMemory`."""
        return "pycuda"

    def allocate(self, nbytes: int) -> int:
        """See `DeviceMemory`."""
        with self._current():
            allocation = self._driver.mem_alloc(nbytes)
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        """See `DeviceMemory`."""
        with self._current():
            self._allocations.pop(address).free()

    def pinned(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """See `DeviceMemory`."""
        array: NDArray[Any]
        with self._current():
            array = self._driver.pagelocked_empty(tuple(shape), dtype)
        return array

    def free_pinned(self, array: NDArray[Any]) -> None:
        """See `DeviceMemory`."""
        allocation: Any = array.base
        with self._current():
            allocation.free()

    def open_stream(self) -> int:
        """See `DeviceMemory`."""
        with self._current():
            stream = self._driver.Stream(_NON_BLOCKING)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def close_stream(self, stream: int) -> None:
        """See `DeviceMemory`."""
        with self._current():
            # PyCUDA frees a stream with the last reference to it.
            del self._streams[stream]

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """See `DeviceMemory`."""
        with self._current():
            self._driver.memcpy_htod_async(address, array, self._streams[stream])

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """See `DeviceMemory`."""
        with self._current():
            self._driver.memcpy_dtoh_async(array, address, self._streams[stream])

    def synchronise(self, stream: int) -> None:
        """See `DeviceMemory`."""
        with self._current():
            self._streams[stream].synchronize()

    def capture(self, stream: int, work: Callable[[], None]) -> Graph:  # noqa: ARG002
        """See `DeviceMemory`."""
        message = "PyCUDA cannot record CUDA graphs"
        raise CaptureError(message)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the context this thread's, whichever thread that is, and translate errors."""
        driver = self._driver
        try:
            self._context.push()
            try:
                yield
            finally:
                self._context.pop()
        except driver.MemoryError as error:
            message = f"CUDA: {error} (CUDA_ERROR_OUT_OF_MEMORY): use a smaller batch."
            raise MissingRequirementError(message) from error
        except driver.Error as error:
            message = f"CUDA: {type(error).__name__}: {error}"
            raise CudaError(message) from error
