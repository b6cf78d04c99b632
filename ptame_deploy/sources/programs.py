"""Classifiers that are a compiled PyTorch program: ``torch.export``'s, or TorchScript's."""

import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from ptame_deploy.backbones import PREPARATION, Backbone
from ptame_deploy.errors import ArtifactError, CheckFailedError, InvalidInputError, reason_of
from ptame_deploy.foreign_graph import DEFAULT_SIDE, read_foreign_graph
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.quiet_exporter import quiet_exporter
from ptame_deploy.sources.onnx_file import of_graph
from ptame_deploy.weights import record_weights

PROGRAM_SUFFIX = ".pt2"
SCRIPT_SUFFIXES = (".pt", ".pth", ".ts", ".torchscript")
_OPSET = 17  # the newest of the exporter that takes TorchScript


class _Program(nn.Module):
    """An exported program, whose own module refuses to be put in eval mode again."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.program = program.module()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002 - PyTorch's form
        return self

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.program(image)
        return answer


def from_program(name: str) -> Backbone:
    """Load a program that ``torch.export.save`` wrote.

    Raises:
        InvalidInputError: no such file, or it takes anything but one batch of images.
        ArtifactError: the file cannot be loaded.
    """
    path = _existing(name)
    try:
        with quiet_exporter():
            program = torch.export.load(path)
    except Exception as error:  # it raises what it comes across
        raise ArtifactError(_unreadable(path, error, "torch.export.save wrote")) from error
    shapes = [
        tuple(node.meta["val"].shape)
        for node in program.graph.nodes
        if node.name in program.graph_signature.user_inputs
    ]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        message = f"{name} takes inputs of shapes {shapes}; images (B, 3, H, W) are expected."
        raise InvalidInputError(message)
    batch, _, height, width = shapes[0]
    if isinstance(batch, int):
        message = (
            f"{name} is fixed to a batch of {batch}. Export it anew with dynamic_shapes="
            "({0: torch.export.Dim('batch')},)."
        )
        raise InvalidInputError(message)
    module = _Program(program)
    preprocessing = Preprocessing.usual((int(height), int(width)))
    record = record_weights(module, f"file {path.name}")
    return Backbone(name, module, preprocessing, 0, None, record, assumed=PREPARATION)


def from_script(name: str, size: tuple[int, int] | None) -> Backbone:
    """Load TorchScript, which cannot be traced again, and bring it to ONNX.

    Args:
        name: the file.
        size: height and width of its images; the file does not say them (224 x 224).

    Raises:
        InvalidInputError: no such file.
        ArtifactError: the file is no TorchScript.
        CheckFailedError: PyTorch cannot write it as ONNX.
    """
    path = _existing(name)
    try:
        script = torch.jit.load(path, map_location="cpu").eval()
    except Exception as error:
        if _is_pickle(path):
            message = (
                f"{path} is what torch.save wrote, which is no program. Of weights alone, give the "
                "classifier's name with --backbone and the file with --weights; of a whole pickled "
                "module, name a factory that loads it (--backbone file.py:factory)."
            )
            raise InvalidInputError(message) from error
        raise ArtifactError(_unreadable(path, error, "torch.jit.save wrote")) from error
    height, width = size or (DEFAULT_SIDE, DEFAULT_SIDE)
    with tempfile.TemporaryDirectory(prefix="ptame-script-") as folder:
        target = Path(folder) / "classifier.onnx"
        try:
            with quiet_exporter():
                torch.onnx.export(
                    script,
                    (torch.zeros(2, 3, height, width),),
                    str(target),
                    dynamo=False,
                    input_names=["image"],
                    output_names=["logits"],
                    dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
                    opset_version=_OPSET,
                )
        except Exception as error:
            reason = reason_of(error)
            message = (
                f"{name} cannot be written as ONNX for images of {height}x{width}: {reason} "
                "Give its size with --input-size, or its source as file.py:factory."
            )
            raise CheckFailedError(message) from error
        graph = read_foreign_graph(target)
    backbone = of_graph(name, graph, f"file {path.name}")
    return replace(backbone, assumed=("input_size", *backbone.assumed))  # a script names none


def _existing(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        message = f"{name} does not exist."
        raise InvalidInputError(message)
    return path


def _is_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return "data.pkl" in names and "constants.pkl" not in names


def _unreadable(path: Path, error: Exception, kind: str) -> str:
    reason = reason_of(error)
    return (
        f"{path} is not what {kind}: {reason} (For a checkpoint of weights give the classifier's "
        "name with --backbone and the file with --weights.)"
    )
