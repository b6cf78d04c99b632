"""GPU memory, streams and graphs behind one small interface.

CUDA for Python (``cuda.bindings.runtime``) by default, PyCUDA as an extra. Addresses and streams
are integers, which is what TensorRT takes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from numpy.typing import DTypeLike, NDArray

from ptame_deploy.errors import PtameError

MemoryName = Literal["cuda-python", "pycuda"]


class CudaError(PtameError):
    """CUDA refused a call; the message names the call and the error."""


class CaptureError(PtameError):
    """The work cannot be recorded as a CUDA graph; the stream is usable again."""


class Graph(Protocol):
    """Recorded work."""

    def launch(self) -> None:
        """Enqueue the work on the stream that it was recorded on."""
        ...

    def close(self) -> None:
        """Free the graph."""
        ...


class DeviceMemory(Protocol):
    """What an engine needs of CUDA, on the first GPU.

    Every method may be called from any thread. What one allocates, its counterpart frees; nothing
    else does.

    Raises:
        MissingRequirementError: (any method) no device, no driver, too little memory.
        CudaError: (any method) whatever else CUDA refuses.
    """

    @property
    def name(self) -> MemoryName:
        """Which package it is."""
        ...

    def allocate(self, nbytes: int) -> int:
        """Return the address of new device memory."""
        ...

    def free(self, address: int) -> None:
        """Free what `allocate` returned."""
        ...

    def pinned(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Return a C-contiguous host array in page-locked memory, with arbitrary contents."""
        ...

    def free_pinned(self, array: NDArray[Any]) -> None:
        """Free what `pinned` returned; the array must not be used any more."""
        ...

    def open_stream(self) -> int:
        """Return the handle of a new stream, which does not wait for the default stream."""
        ...

    def close_stream(self, stream: int) -> None:
        """Free what `open_stream` returned."""
        ...

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Enqueue a copy of a whole pinned array to the device."""
        ...

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Enqueue a copy from the device that fills a whole pinned array."""
        ...

    def synchronise(self, stream: int) -> None:
        """Wait until all that was enqueued is done."""
        ...

    def capture(self, stream: int, work: Callable[[], None]) -> Graph:
        """Record what ``work`` enqueues on the stream; it is not run.

        Raises:
            CaptureError: it cannot be recorded, or ``work`` failed.
        """
        ...
