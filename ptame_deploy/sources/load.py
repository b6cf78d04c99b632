"""Load a classifier by name, whatever kind of name it is."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptame_deploy.backbones import Backbone, imagenet_class_names, preprocessing_of
from ptame_deploy.errors import InvalidInputError, PtameError, reason_of
from ptame_deploy.heads import Head, checked_head, names_function
from ptame_deploy.part_records import MAX_NAME_LENGTH, is_class_name
from ptame_deploy.sources import huggingface, import_string, library, onnx_file, programs
from ptame_deploy.sources.function_head import with_function_head
from ptame_deploy.sources.probabilities import (
    LogProbabilities,
    looks_like_probabilities,
    without_second_softmax,
)
from ptame_deploy.synthetic import synthetic_images
from ptame_deploy.weights import override_weights, record_weights


def load_backbone(
    name: str,
    *,
    weights: str | None = None,
    preprocessing: dict[str, Any] | None = None,
    fallback: dict[str, Any] | None = None,
    class_names: str | Sequence[str] | None = None,
    head: str | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a classifier, frozen and in eval mode.

    Args:
        name: a torchvision name (``resnet50``), ``timm:NAME``, ``hf:NAME`` or ``hf:FOLDER``
            (transformers); a file: ``model.onnx`` (see `ptame_deploy.sources.onnx_file.from_onnx`
            for what may stand behind it), ``model.pt2`` (``torch.export``) or ``model.pt``
            (TorchScript); or an import string ``package.module:factory`` or
            ``path/to/file.py:factory``, whose factory returns an ``nn.Module`` from normalised
            images to logits, a function from images in [0, 1] to probabilities, or a `Backbone`.
        weights: a file (safetensors, or a checkpoint of tensors alone), ``random``, or None for
            the pretrained ones (import string: those that the factory loads). Files that are whole
            programs bring their own.
        preprocessing: fields of `Preprocessing` that replace the model's own.
        fallback: fields that are taken where the source says nothing of them.
        class_names: the names, ``imagenet``, or a file: a JSON list, or one name a line.
        head: ``sigmoid`` for multi-label and binary classifiers; an import string of a function
            from what the classifier returns to probabilities (see
            `ptame_deploy.sources.function_head`); None for what the source says.
        seed: for random weights.

    Raises:
        InvalidInputError: no such model, or weights, sizes or names that do not fit.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: a corrupt file.
        CheckFailedError: a compiled program that does not run, or for one fixed batch alone.
    """
    function = head if names_function(head) else None
    named = checked_head(head) if function is None else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        said = {**(fallback or {}), **(preprocessing or {})}
        backbone = _from_source(name, said.get("input_size"), named, pretrained=weights is None)
        of_fallback = {k: said[k] for k in said if k in backbone.assumed}
        said = {**of_fallback, **(preprocessing or {})}
        if said:
            backbone = _prepared_as_said(backbone, said)
        size, fresh = backbone.preprocessing.input_size, backbone.weights.random
        if weights is not None and not any(True for _ in backbone.module.parameters()):
            message = f"{name} brings its own weights: leave --weights away."
            raise InvalidInputError(message)
        source = override_weights(backbone.module, weights, size, fresh=fresh)
    if source is not None:
        backbone = replace(backbone, weights=record_weights(backbone.module, source))
    if function is not None:
        backbone = with_function_head(backbone, function)
    if class_names is not None:
        backbone = replace(backbone, class_names=_class_names(class_names))
    if named is not None:
        backbone = replace(backbone, head=named)
    backbone.module.eval().requires_grad_(requires_grad=False)
    return _checked(backbone)


def _from_source(
    name: str, asked_size: tuple[int, int] | None, head: Head | None, *, pretrained: bool
) -> Backbone:
    """Ask the module that knows this kind of name."""
    if onnx_file.is_onnx(name):
        return onnx_file.from_onnx(name, asked_size)
    suffix = Path(name).suffix.lower()
    if name.startswith(library.TIMM_PREFIX):
        return library.from_timm(name, pretrained=pretrained)
    if name.startswith(huggingface.PREFIX):
        return huggingface.from_transformers(name, pretrained=pretrained)
    if suffix == programs.PROGRAM_SUFFIX:
        return programs.from_program(name)
    if suffix in programs.SCRIPT_SUFFIXES:
        return programs.from_script(name, asked_size)
    if ":" in name:
        return import_string.from_import_string(name, head)
    return library.from_torchvision(name, pretrained=pretrained)


def _prepared_as_said(backbone: Backbone, said: dict[str, Any]) -> Backbone:
    usual = backbone.preprocessing
    if "input_size" in said and "resize" not in said:
        usual = usual.at(said["input_size"])
    return replace(
        backbone,
        preprocessing=preprocessing_of({**usual.model_dump(), **said}),
        assumed=tuple(field for field in backbone.assumed if field not in said),
    )


def _class_names(given: str | Sequence[str]) -> tuple[str, ...]:
    if given == "imagenet":
        return imagenet_class_names()
    names = read_class_names(given) if isinstance(given, str) else list(given)
    cleaned = tuple(" ".join(name.split()) for name in names)
    for name in cleaned:
        if not is_class_name(name):
            message = (
                f"Class name {name[:50]!r} is not text, or over {MAX_NAME_LENGTH} characters long."
            )
            raise InvalidInputError(message)
    return cleaned


def read_class_names(given: str) -> list[str]:
    """Read a file of class names.

    Args:
        given: a JSON list, or one name a line.

    Raises:
        InvalidInputError: it cannot be read, or holds something else.
    """
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        message = (
            f"Class names {given} cannot be read ({reason_of(error)}). "
            "Give a JSON list, one name a line, or 'imagenet'."
        )
        raise InvalidInputError(message) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        message = f"Class names {given} are not a list of names."
        raise InvalidInputError(message)
    return names


def _checked(backbone: Backbone) -> Backbone:
    """Run the classifier once: the shape of its answer is the number of classes."""
    height, width = backbone.preprocessing.input_size
    images = torch.from_numpy(synthetic_images(2, height, width))
    images[1] = 0
    try:
        with torch.no_grad():
            logits = backbone.module(images)
    except (MemoryError, PtameError):
        raise
    except (Exception, SystemExit) as error:  # the classifier is foreign code
        reason = reason_of(error)
        message = (
            f"{backbone.name} fails on an input of {height}x{width} pixels ({reason}). "
            "Set --input-size and --resize to what it was trained with."
        )
        raise InvalidInputError(message) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[0] != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        message = (
            f"{backbone.name} must return logits (B, classes); for B = 2 it returned {got}. Where "
            "that is what it should return, name a function to probabilities: --head."
        )
        raise InvalidInputError(message)
    if logits.shape[1] == 1 and backbone.head == "softmax":
        message = (
            f"{backbone.name} gives one number, whose softmax is always 1. Say --head sigmoid if "
            "it is a binary classifier."
        )
        raise InvalidInputError(message)
    if logits.dtype != torch.float32 or logits.shape[1] == 0:
        got = f"{logits.dtype} {tuple(logits.shape)}"
        message = f"{backbone.name} must return float32 logits of at least one class, got {got}."
        raise InvalidInputError(message)
    num_classes = logits.shape[1]
    names = backbone.class_names
    if names is not None and len(names) != num_classes:
        message = (
            f"{len(names)} class names were given for the {num_classes} classes of {backbone.name}."
        )
        raise InvalidInputError(message)
    backbone = without_second_softmax(replace(backbone, num_classes=num_classes), logits)
    if _is_of_a_library(backbone.name) or isinstance(backbone.module, LogProbabilities):
        return backbone
    doubt = looks_like_probabilities(backbone, logits)
    return backbone if doubt is None else replace(backbone, doubts=(doubt,))


def _is_of_a_library(name: str) -> bool:
    """Whether a library's habits say that a classifier gives logits."""
    prefixes = (library.TIMM_PREFIX, huggingface.PREFIX)
    return name.startswith(prefixes) or not (":" in name or Path(name).suffix)
