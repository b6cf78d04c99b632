import sys

import pytest
from fake_cuda_bindings import CudaBindingsRuntime
from fake_gpu import FakeGpu
from fake_pycuda import PyCuda

from engines.cuda_python_memory import CudaPythonMemory
from engines.gpu import Gpu
from engines.pycuda_memory import PyCudaMemory


@pytest.fixture
def gpu(monkeypatch):
    """A GPU in the host's memory, which the driver tells of."""
    fake = FakeGpu()
    monkeypatch.setattr("engines.gpu.find_gpu", lambda: Gpu("RTX 4090", "8.9", "13.0"))
    return fake


@pytest.fixture
def install_cuda(gpu, monkeypatch):
    """Put a package for the GPU's memory in the place of the real one."""

    def install(name):
        if name == "cuda-python":
            double = CudaBindingsRuntime(gpu)
            monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", double)
        else:
            package = PyCuda(gpu)
            monkeypatch.setitem(sys.modules, "pycuda.driver", package.driver)
            monkeypatch.setitem(sys.modules, "pycuda.autoprimaryctx", package.primary)

    return install


@pytest.fixture(params=["cuda-python", "pycuda"])
def memory(request, install_cuda):
    """The fake GPU's memory, by each package."""
    install_cuda(request.param)
    return CudaPythonMemory() if request.param == "cuda-python" else PyCudaMemory()
