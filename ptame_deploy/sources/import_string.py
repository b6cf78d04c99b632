"""Classifiers that code of the user's makes: ``package.module:factory``, ``file.py:factory``."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptame_deploy.backbones import PREPARATION, RESIZING, Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.heads import Head, logits_of
from ptame_deploy.part_records import WeightsRecord
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.user_code import foreign_code, import_function, needs_arguments
from ptame_deploy.weights import record_weights

_ROUNDED = 0.1  # by which rounded or cut-off probabilities may sum to another number than 1
FUNCTION_SOURCE = "function "  # how the source of a function's answers begins


def from_import_string(name: str, head: Head | None) -> Backbone:
    """Call a factory of the user's.

    Args:
        name: the import string.
        head: what made the probabilities that a function returns; None for softmax, if they sum
            to 1.

    Raises:
        InvalidInputError: it cannot be imported, fails, or returns something else.
    """
    factory = import_function(name, "Backbone")
    if needs_arguments(factory):
        message = (
            f"{name} takes arguments. Name a factory, which is called without any and returns an "
            "nn.Module, or a function from images to probabilities."
        )
        raise InvalidInputError(message)
    with foreign_code(f"Backbone {name!r} cannot be imported or made"):
        made = factory()
    if isinstance(made, Backbone):
        return made
    if callable(made) and not isinstance(made, nn.Module):
        return _of_function(name, made, head)
    if not isinstance(made, nn.Module):
        message = (
            f"{name} returned {type(made).__name__}; an nn.Module, a function from images to "
            "probabilities or a Backbone is expected."
        )
        raise InvalidInputError(message)
    if isinstance(made, torch.jit.ScriptModule):
        message = (
            f"{name} returned a TorchScript module, which cannot be traced. Return the source, or "
            "give the file itself (--backbone model.pt)."
        )
        raise InvalidInputError(message)
    if any(tensor.is_meta for tensor in made.state_dict().values()):
        message = (
            f"{name} returned a module on the meta device: it has no weights. Load them first."
        )
        raise InvalidInputError(message)
    made.eval()
    record = record_weights(made, f"factory {name.rpartition(':')[2]}")
    assumed = ("input_size", *PREPARATION)
    return Backbone(name, made, Preprocessing(), 0, None, record, assumed=assumed)


class PythonClassifier(nn.Module):
    """A function of the user's from images to probabilities: whatever it asks, wherever it runs."""

    def __init__(
        self, function: Callable[[NDArray[np.float32]], Any], name: str, head: Head | None = None
    ) -> None:
        """Take a function.

        Args:
            function: from (B, 3, H, W) float32 RGB in [0, 1] to probabilities (B, classes).
            name: how the user named it, for errors.
            head: what made those probabilities; None for softmax, if they sum to 1.
        """
        super().__init__()
        self.function, self.name = function, name
        self.head: Head = head or "softmax"
        self._must_sum = head is None

    @property
    def no_graph(self) -> str:
        """Why it cannot be exported, and what can be done."""
        return (
            f"{self.name} is a Python function, which no graph can hold. Train against it (ptame "
            "train needs its answers alone); to export, give the model behind it with the same "
            "--explainer."
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, classes).

        Raises:
            InvalidInputError: it answers with anything but probabilities, or is to be exported.
        """
        if torch.compiler.is_exporting():
            raise InvalidInputError(self.no_graph)
        if torch.is_grad_enabled() and image.requires_grad:
            message = f"{self.name} is a function without gradient: --preset few needs none."
            raise InvalidInputError(message)
        with foreign_code(f"{self.name} fails on {len(image)} images"):
            found = np.asarray(self.function(image.detach().cpu().numpy()))
        whole = found.ndim == 2 and len(found) == len(image) and found.dtype.kind == "f"
        if not whole or not ((found >= 0) & (found <= 1)).all():
            values = f" of {found.min():.4g} to {found.max():.4g}" if whole and found.size else ""
            message = (
                f"{self.name} must return probabilities, floats in [0, 1] of shape "
                f"({len(image)}, classes); it returned {found.dtype} {found.shape}{values}."
            )
            raise InvalidInputError(message)
        sums = found.sum(axis=1)
        if self._must_sum and found.shape[1] > 1 and np.abs(sums - 1).max() > _ROUNDED:
            message = (
                f"{self.name} returns probabilities that do not sum to 1 ({sums.min():.3g} to "
                f"{sums.max():.3g}). Say --head sigmoid if each class is for itself, --head "
                "softmax if exactly one is right and they are to be scaled."
            )
            raise InvalidInputError(message)
        return torch.from_numpy(logits_of(found, self.head)).to(image.device)


def is_function(backbone: Backbone) -> bool:
    """Whether a classifier is but a function from images to probabilities."""
    return isinstance(backbone.module, PythonClassifier)


def _of_function(
    name: str, function: Callable[[NDArray[np.float32]], Any], head: Head | None
) -> Backbone:
    code = getattr(function, "__code__", None) or type(function).__call__.__code__
    digest = hashlib.sha256(code.co_code).hexdigest()
    weights = WeightsRecord(source=f"{FUNCTION_SOURCE}{name.rpartition(':')[2]}", sha256=digest)
    plain = Preprocessing().not_normalised()
    return Backbone(
        name,
        PythonClassifier(function, name, head),
        plain,
        num_classes=0,
        class_names=None,
        weights=weights,
        head=head or "softmax",
        assumed=("input_size", *RESIZING),
    )
