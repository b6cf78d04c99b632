"""Classifiers of torchvision and timm, by name."""

import difflib
import math

from ptame_deploy.backbones import (
    IMAGENET_CLASSES,
    Backbone,
    imagenet_class_names,
    preprocessing_of,
)
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.pretrained import build_timm, build_torchvision
from ptame_deploy.vision import import_timm, import_torchvision
from ptame_deploy.weights import record_weights

TIMM_PREFIX = "timm:"


def from_torchvision(name: str, *, pretrained: bool) -> Backbone:
    """Make a classifier of torchvision, by its name.

    Raises:
        InvalidInputError: no such classifier.
        MissingRequirementError: weights that cannot be downloaded.
    """
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"Did you mean {', '.join(close)}? " if close else ""
        message = (
            f"No torchvision classifier is called {name!r}. {hint}Other sources: timm:NAME, "
            "hf:NAME or hf:FOLDER (transformers), model.onnx, model.pt2, model.pt, "
            "package.module:factory, path/to/file.py:factory."
        )
        raise InvalidInputError(message)
    kinds = models.get_model_weights(name)
    chosen = getattr(kinds, "IMAGENET1K_V1", None) or kinds.DEFAULT
    module, source = build_torchvision(name, pretrained=pretrained)
    transform = chosen.transforms()
    preprocessing = preprocessing_of(
        {
            "input_size": (transform.crop_size[0],) * 2,
            "resize": transform.resize_size[0],
            "interpolation": transform.interpolation.value,
            "mean": tuple(transform.mean),
            "std": tuple(transform.std),
        }
    )
    names = tuple(chosen.meta["categories"])
    return Backbone(name, module, preprocessing, len(names), names, record_weights(module, source))


def from_timm(name: str, *, pretrained: bool) -> Backbone:
    """Make a classifier of timm, by ``timm:NAME``.

    Raises:
        InvalidInputError: no such model, or one that crops photos in a way of its own.
        MissingRequirementError: weights that cannot be downloaded.
    """
    timm = import_timm()
    model_name = name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(model_name.partition(".")[0]):
        close = difflib.get_close_matches(model_name, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        message = f"timm has no model {model_name!r}.{hint}"
        raise InvalidInputError(message)
    module, source = build_timm(model_name, pretrained=pretrained)
    config = timm.data.resolve_model_data_config(module)
    if config["crop_mode"] not in ("center", "squash"):
        message = (
            f"{name} crops by {config['crop_mode']!r}, which is not supported (center, squash)."
        )
        raise InvalidInputError(message)
    height, width = config["input_size"][1:]
    preprocessing = preprocessing_of(
        {
            "input_size": (height, width),
            "resize": math.floor(height / config["crop_pct"]),
            "squash": config["crop_mode"] == "squash",
            "interpolation": config["interpolation"],
            "mean": config["mean"],
            "std": config["std"],
        }
    )
    tag = str(module.pretrained_cfg.get("tag") or "")  # type: ignore[union-attr,operator]
    num_classes = int(module.num_classes)  # type: ignore[arg-type]
    # Tags end with the last data set that a model was trained on: in1k, fb_in22k_ft_in1k.
    names = imagenet_class_names() if num_classes == IMAGENET_CLASSES and "in1k" in tag else None
    return Backbone(name, module, preprocessing, num_classes, names, record_weights(module, source))
