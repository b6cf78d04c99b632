"""The classifiers that are explained: torchvision's by name, timm's, or the user's own."""

import difflib
import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ptame_deploy.artifacts import MAX_NAME_LENGTH, ClassifierRecord, WeightsRecord, is_class_name
from ptame_deploy.errors import InvalidInputError, PtameError
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.pretrained import build_timm, build_torchvision
from ptame_deploy.vision import import_timm, import_torchvision
from ptame_deploy.weights import override_weights, record_weights

TIMM_PREFIX = "timm:"
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Backbone:
    """A frozen classifier with what a caller must know to feed it.

    Attributes:
        name: how the user named it.
        module: maps normalised images (B, 3, H, W) to logits (B, classes).
        preprocessing: from photo to normalised image.
        num_classes: length of the logits.
        class_names: a name for each class, or None.
        weights: where the weights came from, with their hash.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    num_classes: int
    class_names: tuple[str, ...] | None
    weights: WeightsRecord

    def record(self) -> ClassifierRecord:
        """Describe the classifier for a manifest."""
        names = None if self.class_names is None else list(self.class_names)
        return ClassifierRecord(
            name=self.name, num_classes=self.num_classes, class_names=names, weights=self.weights
        )


def load_backbone(
    name: str,
    *,
    weights: str | None = None,
    preprocessing: dict[str, Any] | None = None,
    class_names: str | Sequence[str] | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a classifier, frozen and in eval mode.

    Args:
        name: a torchvision name (``resnet50``), ``timm:NAME``, or an import string
            ``package.module:factory`` or ``path/to/file.py:factory``, whose factory returns an
            ``nn.Module`` from normalised images to logits, or a `Backbone`.
        weights: a file (safetensors, or a checkpoint of tensors alone), ``random``, or None for
            the pretrained ones (import string: those that the factory loads).
        preprocessing: fields of `Preprocessing` that replace the model's own.
        class_names: the names, ``imagenet``, or a file: a JSON list, or one name a line.
        seed: for random weights.

    Raises:
        InvalidInputError: no such model, or weights, sizes or names that do not fit.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: a corrupt file of weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.startswith(TIMM_PREFIX):
            backbone = _from_timm(name, pretrained=weights is None)
        elif ":" in name:
            backbone = _from_import_string(name)
        else:
            backbone = _from_torchvision(name, pretrained=weights is None)
        if preprocessing:
            merged = {**backbone.preprocessing.model_dump(), **preprocessing}
            backbone = replace(backbone, preprocessing=_preprocessing(merged))
        size, fresh = backbone.preprocessing.input_size, backbone.weights.random
        source = override_weights(backbone.module, weights, size, fresh=fresh)
    if source is not None:
        backbone = replace(backbone, weights=record_weights(backbone.module, source))
    if class_names is not None:
        backbone = replace(backbone, class_names=_class_names(class_names))
    backbone.module.eval().requires_grad_(requires_grad=False)
    return _checked(backbone)


def imagenet_class_names() -> tuple[str, ...]:
    """Return ImageNet's 1000 class names in their usual order."""
    models = import_torchvision().models
    return tuple(models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def _from_torchvision(name: str, *, pretrained: bool) -> Backbone:
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"Did you mean {', '.join(close)}? " if close else ""
        message = (
            f"No torchvision classifier is called {name!r}. {hint}Other sources: timm:NAME, "
            "package.module:factory, path/to/file.py:factory."
        )
        raise InvalidInputError(message)
    kinds = models.get_model_weights(name)
    chosen = getattr(kinds, "IMAGENET1K_V1", None) or kinds.DEFAULT
    module, source = build_torchvision(name, pretrained=pretrained)
    transform = chosen.transforms()
    preprocessing = _preprocessing(
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


def _from_timm(name: str, *, pretrained: bool) -> Backbone:
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
    preprocessing = _preprocessing(
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


def _from_import_string(name: str) -> Backbone:
    factory = _import_factory(name)
    with _foreign_code(name):
        made = factory()
    if isinstance(made, Backbone):
        return made
    if not isinstance(made, nn.Module):
        message = f"{name} returned {type(made).__name__}; an nn.Module or a Backbone is expected."
        raise InvalidInputError(message)
    if isinstance(made, torch.jit.ScriptModule):
        message = (
            f"{name} returned a TorchScript module, which cannot be traced. Return the source."
        )
        raise InvalidInputError(message)
    if any(tensor.is_meta for tensor in made.state_dict().values()):
        message = (
            f"{name} returned a module on the meta device: it has no weights. Load them first."
        )
        raise InvalidInputError(message)
    made.eval()
    record = record_weights(made, f"factory {name.rpartition(':')[2]}")
    return Backbone(name, made, Preprocessing(), 0, None, record)


def _import_factory(name: str) -> Callable[[], Any]:
    source, _, attribute = name.rpartition(":")
    import_torchvision()  # the user's module may import it too, and must find it whole
    with _foreign_code(name):
        module = _import_file(source) if source.endswith(".py") else importlib.import_module(source)
        factory = getattr(module, attribute)
    if not callable(factory):
        message = f"{name!r} is not a function that returns the classifier."
        raise InvalidInputError(message)
    return factory  # type: ignore[no-any-return]


def _import_file(source: str) -> ModuleType:
    path = Path(source).resolve()
    if not path.is_file():
        message = f"{source} does not exist."
        raise InvalidInputError(message)
    # Under a name of its own: a user's onnx.py must not stand in for the package.
    spec = importlib.util.spec_from_file_location(f"_ptame_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up here
    sys.path.append(str(path.parent))  # for what lies beside the file
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@contextmanager
def _foreign_code(name: str) -> Iterator[None]:
    """Tell a failure of the user's own code from one of ours."""
    try:
        yield
    except (PtameError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        reason = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
        message = f"Backbone {name!r} cannot be imported or made: {type(error).__name__}: {reason}"
        raise InvalidInputError(message) from error


def _preprocessing(fields: dict[str, Any]) -> Preprocessing:
    from pydantic import ValidationError

    try:
        return Preprocessing.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"Preprocessing is not usable: {where}: {first['msg']} (got {first['input']!r})."
        raise InvalidInputError(message) from error


def _class_names(given: str | Sequence[str]) -> tuple[str, ...]:
    if given == "imagenet":
        return imagenet_class_names()
    names = _read_names(given) if isinstance(given, str) else list(given)
    cleaned = tuple(" ".join(name.split()) for name in names)
    for name in cleaned:
        if not is_class_name(name):
            message = (
                f"Class name {name[:50]!r} is not text, or over {MAX_NAME_LENGTH} characters long."
            )
            raise InvalidInputError(message)
    return cleaned


def _read_names(given: str) -> list[str]:
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        message = (
            f"Class names {given} cannot be read ({error}). Give a JSON list, one name a line, "
            "or 'imagenet'."
        )
        raise InvalidInputError(message) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        message = f"Class names {given} are not a list of names."
        raise InvalidInputError(message)
    return names


def _checked(backbone: Backbone) -> Backbone:
    """Run the classifier once: the shape of its answer is the number of classes."""
    height, width = backbone.preprocessing.input_size
    try:
        with torch.no_grad():
            logits = backbone.module(torch.zeros(2, 3, height, width))
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # the classifier is foreign code
        reason = str(error).split("\n", maxsplit=1)[0]
        message = (
            f"{backbone.name} fails on an input of {height}x{width} pixels ({reason}). "
            "Set --input-size and --resize to what it was trained with."
        )
        raise InvalidInputError(message) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[0] != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        message = f"{backbone.name} must return logits (B, classes); for B = 2 it returned {got}."
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
    return replace(backbone, num_classes=num_classes)
