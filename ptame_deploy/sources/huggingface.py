"""Image classifiers of Hugging Face's transformers: ``hf:NAME``, or ``hf:FOLDER``."""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ptame_deploy.backbones import PREPARATION, Backbone, preprocessing_of
from ptame_deploy.errors import ArtifactError, InvalidInputError, MissingRequirementError, reason_of
from ptame_deploy.hub import is_out_of_reach
from ptame_deploy.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    USUAL_CROP,
    Preprocessing,
)
from ptame_deploy.vision import import_torchvision
from ptame_deploy.weights import record_weights

PREFIX = "hf:"
_EXTRA = 'pip install "ptame-deploy[transformers]"'
_RESCALED, _TOLERANCE = 1 / 255, 1e-3
_SMALL = 384  # ConvNeXt's processor crops below, and squashes from here on


class _Logits(nn.Module):
    """A transformers classifier that takes and gives plain tensors."""

    def __init__(self, model: nn.Module, *, flip_channels: bool) -> None:
        super().__init__()
        self.model = model
        self.flip_channels = flip_channels

    def forward(self, image: Tensor) -> Tensor:
        if self.flip_channels:
            image = image.flip(1)
        logits: Tensor = self.model(pixel_values=image).logits
        return logits


def from_transformers(name: str, *, pretrained: bool) -> Backbone:
    """Load a classifier with its processor's sizes and its class names.

    Args:
        name: ``hf:`` and a name on the hub, or a folder that ``save_pretrained`` wrote.
        pretrained: with its weights; else the architecture alone.

    Raises:
        InvalidInputError: no image classifier, or a processor that is not understood.
        MissingRequirementError: transformers, or the network, is not there.
        ArtifactError: a folder that is not whole.
    """
    transformers = _import_transformers()
    where = name.removeprefix(PREFIX)
    local = Path(where).is_dir()
    offline = not local and is_out_of_reach()
    try:
        config = transformers.AutoConfig.from_pretrained(
            where, trust_remote_code=False, local_files_only=offline
        )
        kind = transformers.AutoModelForImageClassification
        # No code from a repository runs; weights come from safetensors or tensors alone.
        model = (
            kind.from_pretrained(
                where, dtype=torch.float32, trust_remote_code=False, local_files_only=offline
            )
            if pretrained
            else kind.from_config(config)
        )
    except (OSError, RuntimeError, KeyError) as error:
        reason = reason_of(error)
        if local:
            message = f"{name} cannot be loaded by transformers: {reason}"
            raise ArtifactError(message) from error
        message = (
            f"{name} cannot be downloaded ({reason}). Check the name and the network, or give a "
            "folder that save_pretrained wrote."
        )
        raise MissingRequirementError(message) from error
    except ValueError as error:
        reason = reason_of(error)
        message = f"{name} is no image classifier that transformers knows: {reason}"
        raise InvalidInputError(message) from error
    prepared = _processor(transformers, where)
    assumed = () if prepared else PREPARATION
    prepared = prepared or _usual(config)
    module = _Logits(model, flip_channels=bool(prepared.get("do_flip_channel_order")))
    names = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    multi = config.problem_type == "multi_label_classification"
    return Backbone(
        name,
        module,
        read_processor(name, prepared),
        config.num_labels,
        None if names == tuple(f"LABEL_{i}" for i in range(len(names))) else names,
        record_weights(module, f"transformers {where}" if not local else f"folder {where}"),
        head="sigmoid" if multi else "softmax",
        assumed=assumed,
    )


def _processor(transformers: ModuleType, where: str) -> dict[str, Any]:
    """Return the image processor's fields; empty without one."""
    try:
        found, _ = transformers.ImageProcessingMixin.get_image_processor_dict(where)
    except OSError:
        return {}
    fields: dict[str, Any] = found
    return fields


def _usual(config: Any) -> dict[str, Any]:
    """Return the fields of ImageNet's habits at a model's size."""
    return {"size": {"shortest_edge": getattr(config, "image_size", 224)}, "crop_pct": USUAL_CROP}


def read_processor(name: str, prepared: dict[str, Any]) -> Preprocessing:
    """Bring an image processor's fields to ours.

    Args:
        name: for errors.
        prepared: of ``preprocessor_config.json``.

    Raises:
        InvalidInputError: it prepares photos in a way that is not supported.
    """
    size = _sides(prepared.get("size", 224))
    crop = _sides(prepared["crop_size"]) if prepared.get("do_center_crop") else None
    edge = size.get("shortest_edge")
    fraction = prepared.get("crop_pct")
    squash = False
    if edge is not None and fraction is not None and crop is None:  # ConvNeXt
        squash = edge >= _SMALL
        target, resize = (edge, edge), edge if squash else int(edge / fraction)
    elif edge is not None:
        target = (crop["height"], crop["width"]) if crop else (edge, edge)
        resize = edge
    elif {"height", "width"} <= set(size):
        if size["height"] != size["width"]:
            message = (
                f"{name} resizes photos to {size['height']}x{size['width']}, which is not "
                "supported: sides must be equal. Set --resize and --input-size."
            )
            raise InvalidInputError(message)
        squash, resize = True, size["height"]
        target = (crop["height"], crop["width"]) if crop else (resize, resize)
    else:
        message = f"The size {prepared.get('size')} of {name}'s image processor is not understood."
        raise InvalidInputError(message)
    if not prepared.get("do_resize", True):
        message = f"{name} does not resize photos: set --resize and --input-size."
        raise InvalidInputError(message)
    factor = prepared.get("rescale_factor", _RESCALED)
    if not prepared.get("do_rescale", True) or abs(factor * 255 - 1) > _TOLERANCE:
        message = (
            f"{name} rescales pixels by {factor:g} rather than 1/255: say what that is for images "
            "in [0, 1] with --mean and --std, from a factory of yours (file.py:factory)."
        )
        raise InvalidInputError(message)
    normalises = prepared.get("do_normalize", True)
    return preprocessing_of(
        {
            "input_size": target,
            "resize": resize,
            "squash": squash,
            "interpolation": Image.Resampling(prepared.get("resample", 2)).name.lower(),
            "mean": tuple(prepared.get("image_mean") or IMAGENET_MEAN) if normalises else (0,) * 3,
            "std": tuple(prepared.get("image_std") or IMAGENET_STD) if normalises else (1,) * 3,
        }
    )


def _sides(size: int | dict[str, int]) -> dict[str, int]:
    """Older processors wrote a bare number: the shorter edge, or a square's side."""
    return {"height": size, "width": size} if isinstance(size, int) else size


def _import_transformers() -> ModuleType:
    import_torchvision()  # transformers imports it, and must find it whole
    try:
        import transformers
    except ImportError as error:
        message = f"{PREFIX}NAME needs transformers: {_EXTRA}"
        raise MissingRequirementError(message) from error
    transformers.utils.logging.disable_progress_bar()
    module: ModuleType = transformers
    return module
