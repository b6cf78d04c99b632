import subprocess
import sys

import pytest

from ptame_deploy.errors import MissingRequirementError
from ptame_deploy.vision import import_timm, import_torchvision

pytestmark = pytest.mark.unit


def test_torchvision_and_timm_work_here():
    assert import_torchvision().models.get_model("resnet18", weights=None)
    assert "resnet18" in import_timm().list_models("resnet18")
    assert import_torchvision() is sys.modules["torchvision"]


FAKE = """
import sys, types, importlib
from ptame_deploy import vision
real = importlib.import_module
calls = []
def fake(name):
    calls.append(name)
    if name == "torchvision":
        {behaviour}
    return real(name)
vision.importlib = types.SimpleNamespace(import_module=fake)
"""


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_healthy_torchvision_is_only_imported():
    code = FAKE.format(behaviour="return types.ModuleType(name)") + (
        "vision.import_torchvision(); assert not vision._libraries; assert calls == ['torchvision']"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_operators_missing_are_declared_and_half_imports_dropped():
    behaviour = (
        "\n        import torch\n"
        "        try: torch.ops.torchvision.nms\n"
        "        except AttributeError:\n"
        "            sys.modules['torchvision.half'] = types.ModuleType('torchvision.half')\n"
        "            raise RuntimeError('operator torchvision::nms does not exist')\n"
        "        assert 'torchvision.half' not in sys.modules\n"
        "        return types.ModuleType(name)\n"
    )
    done = run_python(FAKE.format(behaviour=behaviour) + "vision.import_torchvision()")
    assert done.returncode == 0, done.stderr


def test_other_failures_are_not_hidden():
    behaviour = "raise RuntimeError('something else')"
    done = run_python(FAKE.format(behaviour=behaviour) + "vision.import_torchvision()")
    assert "something else" in done.stderr


def test_absent_packages_are_named(monkeypatch):
    import_torchvision.cache_clear()
    monkeypatch.setitem(sys.modules, "torchvision", None)
    try:
        with pytest.raises(MissingRequirementError, match="pip install torchvision"):
            import_torchvision()
    finally:
        monkeypatch.undo()
        import_torchvision.cache_clear()
