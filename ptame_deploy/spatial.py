"""Layers of a classifier whose output still has a place for each value."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Reshape = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SpatialLayer:
    """A layer with places.

    Attributes:
        name: dotted, within the classifier.
        module: the layer.
        channels: of its output.
        size: height and width of its output.
        reshape: from its output to (B, C, h, w); None where it is that already.
        extra_tokens: of a transformer, in front of the patches' (the class token).
    """

    name: str
    module: nn.Module
    channels: int
    size: tuple[int, int]
    reshape: Reshape | None = None
    extra_tokens: int = 0

    def features(self, output: Tensor) -> Tensor:
        """Bring the layer's output to (B, C, h, w)."""
        return output if self.reshape is None else self.reshape(output)


def layer_outputs(classifier: nn.Module, images: Tensor) -> dict[str, torch.Size]:
    """Run once, and return each module's output shape in the order in which they finish.

    Args:
        classifier: from images to logits.
        images: (B, 3, H, W), as the classifier takes them.
    """
    shapes: dict[str, torch.Size] = {}
    handles = []

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                shapes.pop(name, None)  # one that runs twice stands where it ran last
                shapes[name] = output.shape

        return hook

    for name, module in classifier.named_modules():
        if name:
            handles.append(module.register_forward_hook(note(name)))
    try:
        with torch.no_grad():
            classifier(images)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def spatial_layer(name: str, module: nn.Module, shape: torch.Size) -> SpatialLayer | None:
    """Describe a layer by its output's shape; None where that has no places.

    Args:
        name: dotted, within the classifier.
        module: the layer.
        shape: (B, C, h, w), (B, h, w, C), or (B, tokens, C) with square patches.
    """
    if len(shape) == 4 and shape[1] == shape[2] != shape[3]:  # a square: channels come last
        if shape[1] == 1:
            return None
        return SpatialLayer(
            name, module, shape[3], (shape[1], shape[2]), lambda output: output.permute(0, 3, 1, 2)
        )
    if len(shape) == 4:
        size = (shape[2], shape[3])
        return SpatialLayer(name, module, shape[1], size) if min(size) > 1 else None
    found = _side(shape)
    if found is None:
        return None
    extra, side = found

    def reshape(output: Tensor) -> Tensor:
        patches = output[:, extra:].transpose(1, 2)
        # No len(): an exported graph would be frozen to one batch.
        return patches.reshape(output.shape[0], shape[2], side, side)

    return SpatialLayer(name, module, shape[2], (side, side), reshape, extra)


def _side(shape: torch.Size) -> tuple[int, int] | None:
    """Return (extra tokens, side) of (B, tokens, C) with square patches, or None."""
    if len(shape) != 3:
        return None
    for extra in (1, 0, 2, 5):  # class token; none; distillation; four registers
        side = math.isqrt(max(0, shape[1] - extra))
        if side > 1 and side * side == shape[1] - extra:
            return extra, side
    return None
