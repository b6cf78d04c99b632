"""The layer whose activations a CAM method weighs: the last one that still has a place for each."""

import difflib

import torch
from torch import Tensor, nn

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.spatial import SpatialLayer, layer_outputs, spatial_layer


def find_target_layer(
    classifier: nn.Module, image: Tensor, name: str | None = None
) -> SpatialLayer:
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
    outputs = layer_outputs(classifier, image)
    if name is not None:
        shape = outputs.get(name)
        layer = None if shape is None else spatial_layer(name, modules[name], shape)
        if layer is None:
            gives = "never runs" if shape is None else f"gives {tuple(shape)}"
            message = (
                f"--target-layer: {name} {gives}. A layer that gives (B, C, h, w), (B, h, w, C) or "
                "(B, tokens, C) of square patches is needed."
            )
            raise InvalidInputError(message)
        return layer
    found = _transformer_norm(modules, outputs) or _last_spatial(outputs)
    layer = None if found is None else spatial_layer(found, modules[found], outputs[found])
    if layer is None:
        message = "No layer with spatial activations was found: name one with --target-layer."
        raise InvalidInputError(message)
    return layer


def _transformer_norm(modules: dict[str, nn.Module], outputs: dict[str, torch.Size]) -> str | None:
    """Return the first norm of the last block that works on tokens, or None."""
    endings = (".ln_1", ".norm1", ".layernorm_before")  # torchvision, timm, transformers
    norms = [n for n in outputs if n.endswith(endings) and isinstance(modules[n], nn.LayerNorm)]
    found = [n for n in norms if spatial_layer(n, modules[n], outputs[n]) is not None]
    return found[-1] if found else None


def _last_spatial(outputs: dict[str, torch.Size]) -> str | None:
    """Return the last layer with places; one in front of tokens is a stem, not what is meant."""
    names = list(outputs)
    spatial = [n for n in names if len(outputs[n]) == 4 and min(outputs[n][2:]) > 1]
    if not spatial:
        return None
    behind = names[names.index(spatial[-1]) + 1 :]
    return None if any(len(outputs[n]) == 3 for n in behind) else spatial[-1]
