"""Heads that a function of the user's says: from what a classifier returns to probabilities.

For classifiers whose answer is neither one softmax nor a sigmoid for each class: hierarchies, where
a class's probability is its parent's times its own among its siblings; several outputs; ordinal
levels. The fused graph holds the function's operators, and gives log-odds as its logits, so that
whatever reads a multi-label classifier reads these.
"""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.part_records import WeightsRecord
from ptame_deploy.sources.import_string import is_function
from ptame_deploy.synthetic import synthetic_images
from ptame_deploy.user_code import foreign_code, import_function

LEAST = 1e-6  # of a probability and of what it lacks to 1: their log-odds are within +-13.8
_SLACK = 1e-4  # by which sums of probabilities leave [0, 1] in rounding


class FunctionHead(nn.Module):
    """A classifier behind which a function makes probabilities; gives their log-odds."""

    def __init__(self, classifier: nn.Module, function: Callable[[Any], Any]) -> None:
        """Put a function behind a classifier.

        Args:
            classifier: from normalised images (B, 3, H, W) to anything.
            function: from that, in PyTorch, to probabilities (B, classes), each for itself.
        """
        super().__init__()
        self.classifier, self.function = classifier, function

    def forward(self, image: Tensor) -> Tensor:
        """Return log-odds (B, classes)."""
        probabilities: Tensor = self.function(self.classifier(image))
        certain = probabilities.float().clamp(LEAST, 1 - LEAST)
        return certain.log() - (1 - certain).log()


def with_function_head(backbone: Backbone, name: str) -> Backbone:
    """Put a function of the user's behind a classifier.

    Args:
        backbone: the classifier, which may return anything that the function takes. Names of its
            classes are not taken over: the function may make others of them.
        name: the function's import string.

    Raises:
        InvalidInputError: no such function, it fails, or it gives no probabilities.
    """
    if is_function(backbone):
        message = (
            f"{backbone.name} returns probabilities already: leave --head {name} away, and say "
            "--head sigmoid where they are each for itself."
        )
        raise InvalidInputError(message)
    function = import_function(name, "--head")
    backbone.module.eval()
    _check(backbone, function, name)
    code = f"{backbone.weights.sha256} {_source(function, name)}"
    weights = WeightsRecord(
        source=f"{backbone.weights.source}, head {name.rpartition(':')[2]}",
        sha256=hashlib.sha256(code.encode()).hexdigest(),
        random=backbone.weights.random,
    )
    return replace(
        backbone,
        module=FunctionHead(backbone.module, function),
        class_names=None,
        weights=weights,
        head="sigmoid",
    )


def _check(backbone: Backbone, function: Callable[[Any], Any], name: str) -> None:
    height, width = backbone.preprocessing.input_size
    images = torch.from_numpy(synthetic_images(2, height, width))
    with torch.no_grad():
        with foreign_code(f"{backbone.name} fails on images of {height}x{width} pixels"):
            answer = backbone.module(images)
            one = backbone.module(images[:1])
        with foreign_code(f"--head {name} fails on what {backbone.name} returns ({_told(answer)})"):
            found = function(answer)
            alone = function(one)
    whole = isinstance(found, Tensor) and found.dim() == 2 and len(found) == 2
    if not whole or not found.is_floating_point() or found.shape[1] == 0:
        message = (
            f"--head {name} must return probabilities (B, classes) as a tensor; for B = 2 it "
            f"returned {_told(found)}."
        )
        raise InvalidInputError(message)
    low, high = float(found.min()), float(found.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        message = (
            f"--head {name} must return probabilities, each in [0, 1]; it returned {low:.4g} to "
            f"{high:.4g}. Does it lack a softmax or a sigmoid?"
        )
        raise InvalidInputError(message)
    if not torch.allclose(alone.float(), found[:1].float(), atol=_SLACK):
        message = (
            f"--head {name} gives an image other probabilities alone than beside another one, or "
            "at random. Does it take a softmax or a sum over the batch (dim 0)?"
        )
        raise InvalidInputError(message)


def _told(answer: Any) -> str:
    """Describe what foreign code returned."""
    if isinstance(answer, Tensor):
        return f"{str(answer.dtype).removeprefix('torch.')} {tuple(answer.shape)}"
    if isinstance(answer, tuple | list):
        return f"{type(answer).__name__} of {', '.join(map(_told, answer)) or 'nothing'}"
    if isinstance(answer, dict):
        return f"dict of {', '.join(f'{key}: {_told(value)}' for key, value in answer.items())}"
    return type(answer).__name__


def _source(function: Callable[[Any], Any], name: str) -> str:
    """Return what tells a function from another one; of compiled ones there is but the name."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return name
