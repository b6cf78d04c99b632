"""Compiled PyTorch programs: torch.export's, and TorchScript's."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from ptame_deploy.cli import run
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.sources.load import load_backbone
from tests.conftest import TINY_OPTIONS

pytestmark = pytest.mark.integration
SIZE = {"input_size": (64, 64)}


@pytest.fixture
def net(tiny_file):
    spec = importlib.util.spec_from_file_location("tiny_classifier", tiny_file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build().eval()


def save_program(net, path, dynamic=True):
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    program = torch.export.export(net, (torch.zeros(2, 3, 64, 64),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def save_script(net, path):
    torch.jit.trace(net, torch.zeros(1, 3, 64, 64)).save(path)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("save", "suffix"), [(save_program, "pt2"), (save_script, "pt")])
def test_a_program_answers_as_its_source_and_is_exported(tmp_path, net, save, suffix):
    path = save(net, tmp_path / f"theirs.{suffix}")
    backbone = load_backbone(str(path), preprocessing=SIZE)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(backbone.module(images), net(images), rtol=1e-4, atol=1e-4)
    assert backbone.weights.source == f"file theirs.{suffix}"
    command = ["export", "--backbone", str(path), *TINY_OPTIONS, "-o", str(tmp_path / "m")]
    assert run(command) == 0


@pytest.mark.filterwarnings("ignore")
def test_programs_that_cannot_serve_are_refused(tmp_path, net):
    fixed = save_program(net, tmp_path / "fixed.pt2", dynamic=False)
    with pytest.raises(InvalidInputError, match=r"fixed to a batch of 2.*dynamic_shapes"):
        load_backbone(str(fixed))
    for name in ("none.pt2", "none.pt"):
        with pytest.raises(InvalidInputError, match="does not exist"):
            load_backbone(str(tmp_path / name))
    torch.save({"weight": torch.zeros(3)}, tmp_path / "checkpoint.pt")
    with pytest.raises(InvalidInputError, match=r"what torch.save wrote.*--weights.*factory"):
        load_backbone(str(tmp_path / "checkpoint.pt"))
    (tmp_path / "broken.pt2").write_bytes(b"PK no program")
    with pytest.raises(ArtifactError, match=r"not what torch.export.save wrote"):
        load_backbone(str(tmp_path / "broken.pt2"))
    command = [
        sys.executable,
        "-m",
        "ptame_deploy",
        "export",
        "--backbone",
        "broken.pt2",
        "-o",
        "m",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr  # of what PyTorch logs before it gives up
