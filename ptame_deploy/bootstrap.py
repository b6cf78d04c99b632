"""Means over photos with bootstrap intervals, and paired differences."""

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.records import Record

RESAMPLES = 10_000
PERCENT = 95.0
# Where two methods are alike, all of so many photos differ in one direction with a chance of
# 2 / 2^6 = 3 %; of five, 6 %: their interval would exclude 0 more often than 5 % of the time.
DECIDING_PHOTOS = 6

Values = NDArray[np.float64]  # (N,) by photo, NaN where a method was not measured


class Interval(Record):
    """A mean over photos with its bootstrap 95 % interval."""

    mean: float
    low: float
    high: float
    photos: int


def interval(values: Values, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval | None:
    """Return the mean over photos with its percentile bootstrap interval.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3. Every call with as
    many photos draws the same resamples, so that equal data have equal intervals.

    Args:
        values: (N,) one number a photo; NaN counts as not measured.
        seed: of the resamples.
        resamples: how many.

    Returns:
        None where no photo has a number. With one photo the interval is the number itself.
    """
    found = values[~np.isnan(values)]
    if len(found) == 0:
        return None
    generator = np.random.default_rng([seed, len(found)])
    means = np.empty(resamples)
    for start in range(0, resamples, 1000):  # a matrix of all would be 16 MB for 200 photos
        stop = min(start + 1000, resamples)
        chosen = generator.integers(0, len(found), (stop - start, len(found)))
        means[start:stop] = found[chosen].mean(axis=1)
    margin = (100 - PERCENT) / 2
    low, high = np.percentile(means, (margin, 100 - margin))
    return Interval(mean=float(found.mean()), low=float(low), high=float(high), photos=len(found))


def difference(one: Values, other: Values, *, seed: int = 0) -> Interval | None:
    """Return ``one - other`` photo by photo, over the photos that both have.

    Args:
        one: (N,) numbers.
        other: (N,) numbers of the same photos.
        seed: of the resamples.
    """
    return interval(one - other, seed=seed)


def excludes_zero(found: Interval) -> bool:
    """Whether an interval lies on one side of 0; one of under `DECIDING_PHOTOS` says nothing."""
    return found.photos >= DECIDING_PHOTOS and (found.low > 0 or found.high < 0)
