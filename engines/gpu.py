"""What GPU this machine has, asked of the driver alone: the answer needs no CUDA package."""

import ctypes
from dataclasses import dataclass

from ptame_deploy.errors import MissingRequirementError

_DRIVER = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """The first GPU.

    Attributes:
        name: its model.
        compute_capability: such as ``9.0``.
        driver: the newest CUDA that the driver supports, such as ``13.0``.
    """

    name: str
    compute_capability: str
    driver: str

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.compute_capability}, CUDA {self.driver}"


def find_gpu() -> Gpu | None:
    """Return the first GPU; None without a driver or a device.

    Asked before any TensorRT runtime is made: without a driver that can be an object which crashes
    when it is used.
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return None
    count, device, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    name = ctypes.create_string_buffer(_NAME_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    driver.cuDriverGetVersion(ctypes.byref(version))
    return Gpu(
        name.value.decode(errors="replace"),
        f"{major.value}.{minor.value}",
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def require_gpu(what: str) -> Gpu:
    """Return the first GPU.

    Args:
        what: needs it, for the message.

    Raises:
        MissingRequirementError: there is none.
    """
    gpu = find_gpu()
    if gpu is None:
        message = f"{what} needs an NVIDIA GPU and its driver; this machine has none (nvidia-smi)."
        raise MissingRequirementError(message)
    return gpu
