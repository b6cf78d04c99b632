"""Does a map show what the classifier needs? Average drop and increase in confidence.

Chattopadhay et al., "Grad-CAM++", WACV 2018; percentages of kept pixels as in the P-TAME paper.
Both measures hide what a map leaves out and ask the classifier again. As published they use the
map's soft values, so that contrast alone moves them; the contrast-matched form replaces every map
by its ranks and keeps pixels whole.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ptame_deploy.errors import InvalidInputError

PERCENTAGES = (100, 50, 15)  # of the pixels that are kept

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class DropIncrease:
    """Two measures over the same photos.

    Attributes:
        average_drop: mean of ``max(0, before - after) / before`` in percent; lower is better.
        increase: share of photos with ``after > before`` in percent; higher is better.
    """

    average_drop: float
    increase: float


def drop_and_increase(before: NDArray[np.float32], after: NDArray[np.float32]) -> DropIncrease:
    """Compare the explained class's probability before and after masking.

    Args:
        before: (N,) probability of each photo's explained class on the whole photo.
        after: (N,) probability of the same class on the masked photo.

    Raises:
        InvalidInputError: no photos.
    """
    if len(before) == 0:
        message = "Average drop needs at least one photo."
        raise InvalidInputError(message)
    drop = np.maximum(0.0, before - after) / before
    return DropIncrease(100 * float(drop.mean()), 100 * float((after > before).mean()))


def masks(saliency: Maps, size: tuple[int, int], percent: int, *, matched: bool) -> Maps:
    """Turn maps into masks of what is kept.

    Args:
        saliency: (N, h, w) in [0, 1].
        size: height and width of the photos; maps are resized bilinearly.
        percent: of the pixels that are kept: those strictly above the quantile.
        matched: the contrast-matched form.

    Returns:
        (N, H, W) in [0, 1]. As published: the map's soft values, 0 where nothing is kept.
        Contrast-matched: at 100 % the pixels' ranks, uniform on [0, 1]; below, 1 or 0.

    Raises:
        InvalidInputError: a percentage that is not in 1 to 100.
    """
    if not 1 <= percent <= 100:
        message = f"The percentage of kept pixels must be 1 to 100, got {percent}."
        raise InvalidInputError(message)
    resized = np.stack([resize(one, size) for one in saliency])
    values = ranks(resized) if matched else resized
    if percent == 100:
        return values
    kept = np.stack([one > _quantile(one, percent) for one in values])
    return kept.astype(np.float32) if matched else np.where(kept, values, np.float32(0))


def ranks(maps: Maps) -> Maps:
    """Replace each map by its pixels' ranks, uniform on [0, 1].

    Ties are broken by position, row by row: the same way for every method.

    Args:
        maps: (N, H, W).
    """
    flat = maps.reshape(len(maps), -1)
    order = np.argsort(flat, axis=1, kind="stable")
    spread = np.linspace(0.0, 1.0, flat.shape[1], dtype=np.float32)
    ranked = np.empty_like(flat, dtype=np.float32)
    np.put_along_axis(ranked, order, np.broadcast_to(spread, flat.shape), axis=1)
    return ranked.reshape(maps.shape)


def resize(one: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize one map (h, w) bilinearly to ``size``, height and width; one of that size stays."""
    height, width = size
    if one.shape == size:
        return one
    image = Image.fromarray(np.asarray(one, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)


def _quantile(values: NDArray[np.float32], percent: int) -> np.float32:
    """Return the value that ``percent`` of the pixels lie strictly above, ties apart."""
    flat = values.reshape(-1)
    removed = flat.size - round(flat.size * percent / 100)
    return np.partition(flat, removed - 1)[removed - 1]  # type: ignore[no-any-return]
