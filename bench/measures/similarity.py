"""How alike two maps of the same photo are, whatever their contrast."""

import numpy as np

from bench.measures.measure import Map
from ptame_deploy.drift import average_ranks, correlation
from ptame_deploy.errors import InvalidInputError


def spearman(a: Map, b: Map) -> float:
    """Return the rank correlation of two maps.

    Pixels that tie share the mean of their ranks. No strictly rising transform of either map
    changes it.

    Args:
        a: (H, W).
        b: (H, W).

    Returns:
        -1 to 1. 0 where either map is flat: it ranks nothing, so it agrees with nothing, not even
        with another flat one.

    Raises:
        InvalidInputError: the sizes differ, or a map has NaN or infinity.
    """
    _check(a, b)
    if _flat(a) or _flat(b):
        return 0.0
    return _within(correlation(average_ranks(a), average_ranks(b)))


def pearson(a: Map, b: Map) -> float:
    """Return the linear correlation of two maps' pixels.

    Args:
        a: (H, W).
        b: (H, W).

    Returns:
        -1 to 1; 0 where either map is flat, as in `spearman`.

    Raises:
        InvalidInputError: the sizes differ, or a map has NaN or infinity.
    """
    _check(a, b)
    if _flat(a) or _flat(b):
        return 0.0
    return _within(correlation(a, b))


def _check(a: Map, b: Map) -> None:
    if a.shape != b.shape or a.size == 0:
        message = f"Two maps must be of one size to be compared, got {a.shape} and {b.shape}."
        raise InvalidInputError(message)
    for one in (a, b):
        if not np.isfinite(one).all():
            count = int((~np.isfinite(one)).sum())
            message = (
                f"A map has NaN or infinity in {count} of {one.size} pixels and cannot be "
                "compared. Check the method that made it."
            )
            raise InvalidInputError(message)


def _flat(one: Map) -> bool:
    return bool(one.min() == one.max())


def _within(value: float) -> float:
    """Take rounding back that would leave -1 to 1."""
    return min(1.0, max(-1.0, value))
