"""``pycuda`` over a `FakeGpu`, as far as the project uses it.

As in the real package, calls from a thread where the context is not current fail. `DOCUMENTED` are
the names that PyCUDA 2026.1 has of what is used here: driver.rst and util.rst of its documentation,
and ``Stream.handle`` of its wrapper.
"""

import threading
import types

import numpy as np

DOCUMENTED = {
    "driver": {
        "Context", "Device", "DeviceAllocation", "Error", "LaunchError", "LogicError",
        "MemoryError", "PagelockedHostAllocation", "RuntimeError", "Stream", "init", "mem_alloc",
        "mem_get_info", "memcpy_dtoh", "memcpy_dtoh_async", "memcpy_htod", "memcpy_htod_async",
        "pagelocked_empty", "pagelocked_zeros",
    },
    "autoprimaryctx": {"context", "device"},
    "Stream": {"handle", "is_done", "synchronize", "wait_for_event"},
    "DeviceAllocation": {"as_buffer", "free"},
    "PagelockedHostAllocation": {"free", "get_flags"},
    "Context": {"detach", "get_device", "pop", "push", "synchronize"},
}  # fmt: skip


class Error(Exception):
    pass


class MemoryError(Error):  # noqa: A001 (PyCUDA's name)
    pass


class LogicError(Error):
    pass


class PyCuda:
    """The package; `driver` and `primary` are its modules."""

    def __init__(self, gpu):
        self.gpu = gpu
        self._current = threading.local()
        self._current.depth = 1  # of the importing thread
        self.driver = types.ModuleType("pycuda.driver")
        self.driver.Error, self.driver.MemoryError = Error, MemoryError
        self.driver.LogicError = LogicError
        self.driver.mem_alloc = lambda nbytes: DeviceAllocation(self, nbytes)
        self.driver.pagelocked_empty = self._pagelocked_empty
        self.driver.Stream = lambda flags=0: Stream(self, flags)
        self.driver.Device = Device
        self.driver.memcpy_htod_async = self._upload
        self.driver.memcpy_dtoh_async = self._download
        self.primary = types.ModuleType("pycuda.autoprimaryctx")
        self.primary.context = Context(self._current)
        self.primary.device = Device(gpu.failures.get("device", 0))

    def call(self, function, work):
        """Do a call of the driver's, in a thread where that is allowed."""
        if getattr(self._current, "depth", 0) < 1:
            message = f"{function} failed: invalid device context"
            raise LogicError(message)
        if function in self.gpu.failures:
            raise self.gpu.failures[function]
        return work()

    def _pagelocked_empty(self, shape, dtype, order="C", mem_flags=0):
        assert isinstance(shape, tuple)
        return np.asarray(PagelockedHostAllocation(self, shape, np.dtype(dtype)))

    def _upload(self, dest, src, stream=None):
        copy = lambda: self.gpu.upload(dest, src.ctypes.data, src.nbytes, stream.handle)  # noqa: E731
        self.call("cuMemcpyHtoDAsync", copy)

    def _download(self, dest, src, stream=None):
        copy = lambda: self.gpu.download(dest.ctypes.data, src, dest.nbytes, stream.handle)  # noqa: E731
        self.call("cuMemcpyDtoHAsync", copy)


class DeviceAllocation:
    def __init__(self, cuda, nbytes):
        self._cuda = cuda
        self._address = cuda.call("cuMemAlloc", lambda: cuda.gpu.allocate(nbytes))

    def __int__(self):
        return self._address

    def free(self):
        self._cuda.call("cuMemFree", lambda: self._cuda.gpu.free(self._address))


class PagelockedHostAllocation:
    def __init__(self, cuda, shape, dtype):
        self._cuda = cuda
        nbytes = int(np.prod(shape)) * dtype.itemsize
        self._address = cuda.call("cuMemHostAlloc", lambda: cuda.gpu.pin(nbytes))
        self.__array_interface__ = {
            "shape": shape, "typestr": dtype.str, "data": (self._address, False), "version": 3,
        }  # fmt: skip

    def free(self):
        self._cuda.call("cuMemFreeHost", lambda: self._cuda.gpu.unpin(self._address))


class Stream:
    def __init__(self, cuda, flags):
        assert flags == 1
        self._cuda = cuda
        self.handle = cuda.call("cuStreamCreate", cuda.gpu.open_stream)

    def synchronize(self):
        self._cuda.call("cuStreamSynchronize", lambda: self._cuda.gpu.wait(self.handle))

    def __del__(self):
        self._cuda.call("cuStreamDestroy", lambda: self._cuda.gpu.close_stream(self.handle))


class Context:
    def __init__(self, current):
        self._current = current

    def push(self):
        self._current.depth = getattr(self._current, "depth", 0) + 1

    def pop(self):
        self._current.depth -= 1


class Device:
    def __init__(self, number):
        self._number = number

    def __eq__(self, other):
        return self._number == other._number

    __hash__ = None
