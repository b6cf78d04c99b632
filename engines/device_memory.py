"""GPU memory, streams and graphs behind one small interface.

CUDA for Python (``cuda.bindings.runtime``) by default, PyCUDA as an extra. Addresses and streams
are integers, which is what TensorRT takes.
"""

from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Literal, Protocol

from numpy.typing import DTypeLike, NDArray

from ptame_deploy.errors import MissingRequirementError, PtameError

MemoryName = Literal["cuda-python", "pycuda"]
# In the order in which they are chosen: the distribution that brings each, and how to get it.
DISTRIBUTIONS: dict[MemoryName, str] = {"cuda-python": "cuda-bindings", "pycuda": "pycuda"}
_INSTALL: dict[MemoryName, str] = {
    "cuda-python": 'pip install "ptame-deploy[cuda]"',
    "pycuda": 'pip install "ptame-deploy[pycuda]" (it is compiled, and needs a CUDA toolkit)',
}


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


def installed_memories() -> list[MemoryName]:
    """Return the packages that are installed, the preferred one first; none is imported."""
    found: list[MemoryName] = []
    for name, distribution in DISTRIBUTIONS.items():
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def open_device_memory(name: MemoryName | None = None) -> DeviceMemory:
    """Open the GPU's memory.

    Args:
        name: by which package; None for the first that is installed.

    Raises:
        MissingRequirementError: the package is not installed or broken, or there is no GPU or
            driver that it can use.
    """
    installed = installed_memories()
    if name is None and not installed:
        message = (
            "Running a plan needs a package for GPU memory: "
            f"{_INSTALL['cuda-python']}, or {_INSTALL['pycuda']}."
        )
        raise MissingRequirementError(message)
    chosen = name or installed[0]
    if chosen not in installed:
        message = f"GPU memory by {chosen} is not installed: {_INSTALL[chosen]}."
        raise MissingRequirementError(message)
    if chosen == "pycuda":
        from engines.pycuda_memory import PyCudaMemory

        return PyCudaMemory()
    from engines.cuda_python_memory import CudaPythonMemory

    return CudaPythonMemory()
