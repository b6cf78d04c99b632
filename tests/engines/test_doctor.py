import ctypes

import pytest

from engines import doctor
from engines.gpu import Gpu, find_gpu, require_gpu
from ptame_deploy.cli import run
from ptame_deploy.errors import MissingRequirementError

pytestmark = pytest.mark.integration


class Driver:
    """The driver's functions that are called, as its documentation has them."""

    def __init__(self, devices=1, init=0):
        self.devices, self.init = devices, init

    def cuInit(self, flags):  # noqa: N802
        return self.init

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device, number):  # noqa: N802
        return 0

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = b"NVIDIA H200"
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 12040
        return 0


def with_driver(monkeypatch, driver):
    real = ctypes.CDLL

    def load(name, *arguments, **options):
        if name != "libcuda.so.1":  # TensorRT loads its own libraries when it is first imported
            return real(name, *arguments, **options)
        if driver is None:
            raise OSError(name)
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)


def test_the_gpu_is_asked_of_the_driver(monkeypatch):
    with_driver(monkeypatch, Driver())
    assert find_gpu() == Gpu("NVIDIA H200", "9.0", "12.4")


@pytest.mark.parametrize("driver", [None, Driver(devices=0), Driver(init=100)])
def test_without_driver_or_device_there_is_no_gpu(monkeypatch, driver):
    with_driver(monkeypatch, driver)
    assert find_gpu() is None
    with pytest.raises(MissingRequirementError, match="Running a plan needs an NVIDIA GPU"):
        require_gpu("Running a plan")


def test_doctor_lists_what_is_here_and_what_is_not(capsys, monkeypatch):
    with_driver(monkeypatch, None)
    assert run(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "onnxruntime 1." in said
    assert "an NVIDIA GPU and its driver" in said
    monkeypatch.setattr(doctor, "find_gpu", lambda: Gpu("NVIDIA H200", "9.0", "12.4"))
    assert run(["doctor"]) == 0
    assert "NVIDIA H200, compute capability 9.0" in capsys.readouterr().out


def test_doctor_promises_no_plan_on_a_gpu_that_runs_none():
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    found = doctor._flavour("tensorrt-rtx", Gpu("NVIDIA H100", "9.0", "13.0"))
    assert not found.here
    assert "builds plans for other GPUs" in found.detail
    assert doctor._flavour("tensorrt-rtx", Gpu("RTX 4090", "8.9", "13.0")).here


def test_doctor_tells_of_packages_for_gpu_memory(monkeypatch):
    monkeypatch.setattr(doctor, "installed_memories", list)
    finding = next(f for f in doctor.examine() if f.what == "GPU memory for plans")
    assert not finding.here
    assert "ptame-deploy[cuda]" in finding.detail
    monkeypatch.setattr(doctor, "installed_memories", lambda: ["cuda-python"])
    monkeypatch.setattr(doctor.metadata, "version", lambda name: f"version of {name}")
    finding = next(f for f in doctor.examine() if f.what == "GPU memory for plans")
    assert finding.here
    assert finding.detail == "cuda-bindings version of cuda-bindings"


def test_doctor_says_whether_a_graph_runs_here(tiny_artifact, tmp_path, capsys):
    assert run(["doctor", str(tiny_artifact)]) == 0
    assert "fp32 graph of" in capsys.readouterr().out
    assert run(["doctor", str(tmp_path)]) == 2


def test_inspect_shows_a_graph(tiny_artifact, tmp_path, capsys):
    assert run(["inspect", str(tiny_artifact)]) == 0
    said = capsys.readouterr().out
    for part in ("image: float32 (batch, 3, 64, 64)", "GMAC", "fp32", "parity with PyTorch", "sha"):
        assert part in said
    assert run(["inspect", str(tmp_path)]) == 2
