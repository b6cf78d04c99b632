"""Explainers that were trained elsewhere: a state dict of attention branches and a fusion.

Names differ from one code base to the next, so that tensors are recognised by what they are: a
square 1x1 convolution with bias and, beside it, a BatchNorm of as many channels are a branch
(Ntrougkas, Mezaris, Patras, "P-TAME", IEEE OJSP 2025, section III); a 1x1 convolution from all
channels to all classes is the fusion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer import ExplainerNet

_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class ImportedExplainer:
    """An explainer, and what became of each tensor of the checkpoint.

    Attributes:
        explainer: in eval mode.
        taken: names that were used, by the explainer's own names.
        left: names that were not.
    """

    explainer: ExplainerNet
    taken: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def import_explainer(
    state: Mapping[str, Tensor], channels: Sequence[int], num_classes: int
) -> ImportedExplainer:
    """Find branches and fusion in a state dict.

    Args:
        state: tensors by name; other networks' tensors among them are left.
        channels: of the auxiliary's taps, fine to coarse. Branches of equal channels are taken in
            the state dict's order.
        num_classes: of the classifier.

    Raises:
        InvalidInputError: a branch or the fusion is missing, or the fusion or a branch's BatchNorm
            has several candidates.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        parent, _, leaf = name.rpartition(".")
        modules.setdefault(parent, {})[leaf] = tensor
    taken: dict[str, str] = {}
    explainer = ExplainerNet(channels, num_classes)
    used: set[str] = set()
    for number, count in enumerate(channels):
        conv = _the_branch(modules, used, count, number)
        norm = _the_norm(modules, used, conv, count)
        used |= {conv, norm}
        taken |= _take(f"branches.{number}.conv", conv, ("weight", "bias"))
        taken |= _take(f"branches.{number}.norm", norm, _STATISTICS)
        if _COUNTER in modules[norm]:
            taken |= _take(f"branches.{number}.norm", norm, (_COUNTER,))
    fusion = _the_fusion(modules, sum(channels), num_classes)
    taken |= _take("fusion", fusion, ("weight",))
    own = explainer.state_dict()
    found = {name: state[source].reshape(own[name].shape) for name, source in taken.items()}
    _check_finite(found, taken)
    explainer.load_state_dict({**own, **found})
    # A bias of the fusion would be one number a class: normalising the map takes it away.
    gone = {*taken.values(), f"{fusion}.bias"}
    left = [name for name in state if name not in gone]
    return ImportedExplainer(explainer.eval(), taken, left)


def _take(own: str, source: str, leaves: Sequence[str]) -> dict[str, str]:
    prefix = f"{source}." if source else ""
    return {f"{own}.{leaf}": f"{prefix}{leaf}" for leaf in leaves}


def _the_branch(
    modules: Mapping[str, Mapping[str, Tensor]], used: set[str], count: int, number: int
) -> str:
    """Return the first unused module that is a square 1x1 convolution with bias."""
    for name, tensors in modules.items():
        if name not in used and _has(tensors, weight=(count, count, 1, 1), bias=(count,)):
            return name
    square = ", ".join(
        f"{name} {tuple(tensors['weight'].shape)}"
        for name, tensors in modules.items()
        if "weight" in tensors and tensors["weight"].dim() == 4 and "bias" in tensors
    )
    message = (
        f"The checkpoint has no attention branch {number + 1} for {count} channels: expected a "
        f"1x1 convolution of weight ({count}, {count}, 1, 1) and bias ({count},). Convolutions "
        f"with bias that are there: {square or 'none'}. Is it for another --auxiliary?"
    )
    raise InvalidInputError(message)


def _the_norm(
    modules: Mapping[str, Mapping[str, Tensor]], used: set[str], conv: str, count: int
) -> str:
    """Return the one unused BatchNorm beside the convolution, or else a level above it."""
    shapes = dict.fromkeys(_STATISTICS, (count,))
    norms = [name for name, of in modules.items() if name not in used and _has(of, **shapes)]
    parts = conv.split(".")
    for depth in range(len(parts) - 1, max(0, len(parts) - 3), -1):
        near = [name for name in norms if name.split(".")[:depth] == parts[:depth]]
        if len(near) == 1:
            return near[0]
        if near:
            break
    names = ", ".join(norms) or "none"
    message = (
        f"The checkpoint has no BatchNorm that clearly belongs to {conv}: expected weight, bias, "
        f"running_mean and running_var of shape ({count},) beside it. Candidates: {names}."
    )
    raise InvalidInputError(message)


def _the_fusion(
    modules: Mapping[str, Mapping[str, Tensor]], channels: int, num_classes: int
) -> str:
    shapes = ((num_classes, channels, 1, 1), (num_classes, channels))
    found = [
        name
        for name, tensors in modules.items()
        if any(_has(tensors, weight=shape) for shape in shapes)
    ]
    if len(found) == 1:
        return found[0]
    message = (
        f"The checkpoint has {len(found) or 'no'} fusion layers ({', '.join(found) or 'none'}): "
        f"expected one 1x1 convolution of weight {shapes[0]}. Is it for another classifier or "
        "--auxiliary?"
    )
    raise InvalidInputError(message)


def _has(tensors: Mapping[str, Tensor], **shapes: tuple[int, ...]) -> bool:
    return all(leaf in tensors and tensors[leaf].shape == shape for leaf, shape in shapes.items())


def _check_finite(found: Mapping[str, Tensor], taken: Mapping[str, str]) -> None:
    for name, tensor in found.items():
        if not torch.isfinite(tensor.float()).all():
            message = f"{taken[name]} holds NaN or infinity: the checkpoint is broken."
            raise InvalidInputError(message)
