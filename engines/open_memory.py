"""GPU memory by whichever package is installed."""

from importlib import metadata

from engines.device_memory import DeviceMemory, MemoryName
from ptame_deploy.errors import MissingRequirementError

# In the order in which they are chosen: the distribution that brings each, and how to get it.
DISTRIBUTIONS: dict[MemoryName, str] = {"cuda-python": "cuda-bindings", "pycuda": "pycuda"}
_INSTALL: dict[MemoryName, str] = {
    "cuda-python": 'pip install "ptame-deploy[cuda]"',
    "pycuda": 'pip install "ptame-deploy[pycuda]" (it is compiled, and needs a CUDA toolkit)',
}


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
