"""From attended features and fusion rows to maps of classes: the paper's form, and the fast one.

Ntrougkas, Mezaris, Patras, IEEE OJSP 2025, section III.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def all_class_maps(attended: Sequence[Tensor], fusion: Tensor, *, like: Sequence[Tensor]) -> Tensor:
    """Bring all depths to the finest's size, concatenate, fuse by class (paper, section III).

    Args:
        attended: (B, C_l, h_l, w_l) by depth, fine to coarse.
        fusion: (classes, sum of C_l).
        like: taps whose sizes the maps go through from coarse to fine; the first has the result's.

    Returns:
        (B, classes, h, w).
    """
    upsampled = [_climb(maps, like, like[0]) for maps in attended]
    return functional.conv2d(torch.cat(upsampled, dim=1), fusion[:, :, None, None])


def chosen_class_maps(
    attended: Sequence[Tensor], fusion: Tensor, class_index: Tensor, *, like: Sequence[Tensor]
) -> Tensor:
    """Fuse each depth at its own size for the chosen classes, then add up coarse to fine.

    Exact, since fusion acts on channels alone and upsampling on positions alone: they commute.

    Args:
        attended: (B, C_l, h_l, w_l) by depth, fine to coarse.
        fusion: (classes, sum of C_l).
        class_index: (B, K) int64.
        like: taps whose sizes the maps go through from coarse to fine; the first has the result's.

    Returns:
        (B, K, h, w).
    """
    return maps_of_rows(attended, functional.embedding(class_index, fusion), like=like)


def maps_of_rows(attended: Sequence[Tensor], rows: Tensor, *, like: Sequence[Tensor]) -> Tensor:
    """Fuse each depth at its own size by fusion rows, then add up coarse to fine.

    Args:
        attended: (B, C_l, h_l, w_l) by depth, fine to coarse.
        rows: (B, K, sum of C_l).
        like: taps whose sizes the maps go through from coarse to fine; the first has the result's.

    Returns:
        (B, K, h, w).
    """
    channels = [maps.shape[1] for maps in attended]
    fused = [
        torch.matmul(row, maps.flatten(2)).unflatten(2, maps.shape[2:])  # (B, K, h_l, w_l)
        for row, maps in zip(torch.split(rows, channels, dim=2), attended, strict=True)
    ]
    total: Tensor = fused[-1]
    for finer in reversed(fused[:-1]):
        total = _climb(total, like, finer) + finer
    return _climb(total, like, like[0])


def _climb(maps: Tensor, taps: Sequence[Tensor], top: Tensor) -> Tensor:
    """Enlarge maps to the size of ``top``, from one tap's size to the next finer one's.

    From size to size, as the paper does: repeated 2x upsampling is smoother than one large step.
    """
    for tap in reversed(taps):
        if maps.shape[-2] < tap.shape[-2] <= top.shape[-2]:
            maps = _upsample(maps, tap)
    return maps


def _upsample(maps: Tensor, like: Tensor) -> Tensor:
    height, width = like.shape[-2:]
    if (height, width) == (2 * maps.shape[-2], 2 * maps.shape[-1]):
        # The same numbers; exported as a constant scale instead of a computed size.
        return functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
    return functional.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
