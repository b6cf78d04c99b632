"""Frozen networks made faster: BatchNorms become part of the convolutions in front of them.

In eval mode a BatchNorm is a scale and a shift a channel, which a convolution can have in its own
weights. Pairs are found by running the network, so that no code has to be traced; whether the
result is the same network is not believed but measured.
"""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Largest difference of an output, relative to the outputs' largest value: rounding is near 1e-6.
TOLERANCE = 1e-4

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(network: Network, run: Callable[[Network], Sequence[Tensor]]) -> Network:
    """Return the same network with fewer operations; what was given stays as it is.

    Args:
        network: frozen, in eval mode.
        run: runs a network on an example and returns its outputs.

    Returns:
        A copy with folded convolutions; the network itself where there is nothing to fold, where
        it cannot be copied, or where the copy answers otherwise.
    """
    try:
        with torch.no_grad():
            pairs, expected = _find_pairs(network, run)
            if not pairs:
                return network
            folded = copy.deepcopy(network)
            for conv, norm in pairs:
                _fold(folded, conv, norm)
            found = run(folded)
    except Exception:  # noqa: BLE001 - foreign code; the network as it is works
        return network
    return folded if _same(found, expected) else network


def _find_pairs(
    network: Network, run: Callable[[Network], Sequence[Tensor]]
) -> tuple[list[tuple[str, str]], Sequence[Tensor]]:
    """Return the names of convolutions and of the BatchNorms that take their outputs."""
    names = {module: name for name, module in network.named_modules()}
    made: list[tuple[Tensor, nn.Module]] = []  # holds the tensors, so that none is taken anew
    calls: dict[nn.Module, int] = {}
    pairs: list[tuple[nn.Module, nn.Module]] = []

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            made.append((output, module))
        else:
            pairs.extend((conv, module) for tensor, conv in made if tensor is inputs[0])

    hooks = [
        module.register_forward_hook(after)
        for module in names
        if isinstance(module, nn.Conv2d) or _is_plain(module)
    ]
    try:
        expected = run(network)
    finally:
        for hook in hooks:
            hook.remove()
    # Every time that either of them ran, it was with the other.
    found = [
        pair
        for pair, times in Counter(pairs).items()
        if [calls[one] for one in pair] == [times] * 2
    ]
    return [(names[conv], names[norm]) for conv, norm in found], expected


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a BatchNorm with fixed statistics, alone or with timm's activation."""
    if not isinstance(module, nn.BatchNorm2d) or module.training or module.running_var is None:
        return False
    return type(module) is nn.BatchNorm2d or _activation(module) is not None


def _activation(norm: nn.Module) -> nn.Module | None:
    """Return what timm's BatchNormAct2d does after it has normalised."""
    parts = [getattr(norm, name, None) for name in ("drop", "act")]
    if type(norm).__name__ != "BatchNormAct2d" or not all(isinstance(p, nn.Module) for p in parts):
        return None
    return nn.Sequential(*(part for part in parts if isinstance(part, nn.Module)))


def _fold(network: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(conv, nn.Conv2d)
    affine = norm
    if norm.weight is None:
        affine = copy.deepcopy(norm)
        affine.weight = nn.Parameter(torch.ones_like(norm.running_var))
        affine.bias = nn.Parameter(torch.zeros_like(norm.running_var))
    _replace(
        network, conv_name, fuse_conv_bn_eval(conv, affine).requires_grad_(requires_grad=False)
    )
    _replace(network, norm_name, _activation(norm) or nn.Identity())


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module.eval())


def _same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape or not torch.isfinite(other).all():
            return False
        if (one - other).abs().max() > TOLERANCE * other.abs().max().clamp(min=1e-6):
            return False
    return True
