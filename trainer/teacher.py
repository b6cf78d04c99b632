"""The classifier as a teacher: the fastest way here to ask it about many masked copies."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ptame_deploy.backbones import Backbone
from ptame_deploy.classifier_answers import answers_sha256
from ptame_deploy.errors import CheckFailedError, MissingRequirementError
from ptame_deploy.fused import NormalisedClassifier
from ptame_deploy.onnx_export import export_classifier
from ptame_deploy.onnx_session import open_graph
from ptame_deploy.sources.function_head import FunctionHead
from ptame_deploy.sources.import_string import is_function
from trainer.perturbation import Teacher

_CPU_BATCH, _GPU_BATCH = 8, 64  # measured: larger ones are no faster on two cores


class TorchTeacher:
    """The classifier in PyTorch."""

    def __init__(self, backbone: Backbone, device: torch.device) -> None:
        """Move the classifier to a device."""
        backbone.module.to(device)
        self.classifier = NormalisedClassifier(backbone).eval()
        self.device, self.head = device, backbone.head
        self.batch = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
        self.identity = f"{classifier_identity(backbone)} pytorch {device.type}"

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (B, 3, H, W) in [0, 1] to logits (B, classes)."""
        with torch.inference_mode():
            logits: torch.Tensor = self.classifier(torch.from_numpy(images).to(self.device))
            return logits.float().cpu().numpy()


class OnnxTeacher:
    """The classifier in ONNX Runtime: about twice as fast as PyTorch on a CPU."""

    def __init__(self, backbone: Backbone, folder: Path) -> None:
        """Export the classifier into a folder.

        Raises:
            CheckFailedError: it cannot be exported.
            MissingRequirementError: ONNX Runtime is not there.
        """
        path = folder / "classifier.onnx"
        export_classifier(backbone, path)
        self._run, self.head = open_graph(path), backbone.head
        self.batch = _CPU_BATCH
        self.identity = f"{classifier_identity(backbone)} onnxruntime cpu"

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (B, 3, H, W) in [0, 1] to logits (B, classes)."""
        logits = self._run(np.ascontiguousarray(images), None)["logits"]
        return np.asarray(logits, np.float32)


@contextmanager
def open_teacher(backbone: Backbone) -> Iterator[Teacher]:
    """Choose: PyTorch beside a GPU, else ONNX Runtime, else PyTorch on the CPU."""
    if torch.cuda.is_available():
        yield TorchTeacher(backbone, torch.device("cuda"))
        return
    with tempfile.TemporaryDirectory(prefix="ptame-teacher-") as folder:
        yield _cpu_teacher(backbone, Path(folder))


def _cpu_teacher(backbone: Backbone, folder: Path) -> Teacher:
    try:
        return OnnxTeacher(backbone, folder)
    except (CheckFailedError, MissingRequirementError):
        return TorchTeacher(backbone, torch.device("cpu"))


def can_be_kept(backbone: Backbone) -> bool:
    """Whether a classifier's answers are told by its identity.

    What a function asks or reads has no hash: another model or table may stand behind it tomorrow.
    """
    return not (is_function(backbone) or isinstance(backbone.module, FunctionHead))


def classifier_identity(backbone: Backbone) -> str:
    """Return what a classifier's answers to an image in [0, 1] depend on.

    Its weights do not tell all: the code around them may have changed, which its answers to the
    same images show.
    """
    preprocessing = backbone.preprocessing
    head = "" if backbone.head == "softmax" else f" {backbone.head}"
    return (
        f"{backbone.weights.sha256} {preprocessing.mean} {preprocessing.std}{head} "
        f"{answers_sha256(backbone)}"
    )
