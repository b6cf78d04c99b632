"""The layer whose activations a CAM method weighs: the last one that still has a place for each."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptame_deploy.errors import InvalidInputError

Reshape = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TargetLayer:
    """Where a CAM method looks.

    Attributes:
        name: dotted, within the classifier.
        module: the layer.
        channels: of its activations.
        reshape: from its output to (B, C, h, w); None where it is that already.
        extra_tokens: of a transformer, in front of the patches' (the class token).
    """

    name: str
    module: nn.Module
    channels: int
    reshape: Reshape | None = None
    extra_tokens: int = 0


def find_target_layer(classifier: nn.Module, image: Tensor, name: str | None = None) -> TargetLayer:
    """Find the last layer with spatial activations, or take the one that was named.

    A convolutional network's is the last module that gives (B, C, h, w) with more than one place.
    A vision transformer's is the norm in front of its last block's attention: behind the last
    block only the class token reaches the head, so patches have no gradient there.

    Args:
        classifier: from images to logits.
        image: (1, 3, H, W), to see the shapes of what its layers give.
        name: of a module, as ``named_modules`` has it, or None to search.

    Raises:
        InvalidInputError: no such module, one whose output has no places, or none was found.
    """
    modules = dict(classifier.named_modules())
    if name is not None and name not in modules:
        close = difflib.get_close_matches(name, modules, n=3)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        message = f"--target-layer: the classifier has no module {name!r}.{hint}"
        raise InvalidInputError(message)
    outputs = _outputs(classifier, image)
    if name is not None:
        shape = outputs.get(name)
        layer = None if shape is None else _target(name, modules[name], shape)
        if layer is None:
            gives = "never runs" if shape is None else f"gives {tuple(shape)}"
            message = (
                f"--target-layer: {name} {gives}. A layer that gives (B, C, h, w), (B, h, w, C) or "
                "(B, tokens, C) of square patches is needed."
            )
            raise InvalidInputError(message)
        return layer
    found = _transformer_norm(modules, outputs) or _last_spatial(outputs)
    layer = None if found is None else _target(found, modules[found], outputs[found])
    if layer is None:
        message = "No layer with spatial activations was found: name one with --target-layer."
        raise InvalidInputError(message)
    return layer


def _outputs(classifier: nn.Module, image: Tensor) -> dict[str, torch.Size]:
    """Run once, and return each module's output shape in the order in which they finish."""
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
            classifier(image)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _transformer_norm(modules: dict[str, nn.Module], outputs: dict[str, torch.Size]) -> str | None:
    """Return the first norm of the last block that works on tokens, or None."""
    endings = (".ln_1", ".norm1", ".layernorm_before")  # torchvision, timm, transformers
    norms = [n for n in outputs if n.endswith(endings) and isinstance(modules[n], nn.LayerNorm)]
    found = [n for n in norms if _target(n, modules[n], outputs[n]) is not None]
    return found[-1] if found else None


def _last_spatial(outputs: dict[str, torch.Size]) -> str | None:
    """Return the last layer with places; one in front of tokens is a stem, not what is meant."""
    names = list(outputs)
    spatial = [n for n in names if len(outputs[n]) == 4 and min(outputs[n][2:]) > 1]
    if not spatial:
        return None
    behind = names[names.index(spatial[-1]) + 1 :]
    return None if any(len(outputs[n]) == 3 for n in behind) else spatial[-1]


def _side(shape: torch.Size) -> tuple[int, int] | None:
    """Return (extra tokens, side) of (B, tokens, C) with square patches, or None."""
    if len(shape) != 3:
        return None
    for extra in (1, 0, 2, 5):  # class token; none; distillation; four registers
        side = math.isqrt(max(0, shape[1] - extra))
        if side > 1 and side * side == shape[1] - extra:
            return extra, side
    return None


def _target(name: str, module: nn.Module, shape: torch.Size) -> TargetLayer | None:
    if len(shape) == 4 and isinstance(module, nn.LayerNorm) and shape[1] == shape[2]:
        return TargetLayer(name, module, shape[3], lambda output: output.permute(0, 3, 1, 2))
    if len(shape) == 4:
        return TargetLayer(name, module, shape[1]) if min(shape[2:]) > 1 else None
    found = _side(shape)
    if found is None:
        return None
    extra, side = found

    def reshape(output: Tensor) -> Tensor:
        patches = output[:, extra:].transpose(1, 2)
        return patches.reshape(len(output), shape[2], side, side)

    return TargetLayer(name, module, shape[2], reshape, extra)
