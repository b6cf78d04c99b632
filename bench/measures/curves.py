"""Deletion and insertion: how fast the class goes, or comes, as pixels change in the map's order.

Petsiuk et al., "RISE", BMVC 2018, section 4.1. Only the order of a map's pixels counts, so that
contrast does not move these numbers.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.measures.measure import Column, Image, Map, MeasureSettings, Reading
from ptame_deploy.errors import InvalidInputError

# The blur of the authors' public code: a Gaussian cut to 11 x 11 pixels. So short a kernel is
# nearly a box filter; it blurs enough that most classifiers lose the class.
BLUR_SIGMA = 5.0
BLUR_TAPS = 11

_SOURCE = "Petsiuk et al., RISE, BMVC 2018, section 4.1"


def most_salient_first(saliency: Map) -> NDArray[np.intp]:
    """Order a map's pixels; every measure that removes pixels one by one takes this order.

    Of pixels that tie, the one further down, or further right in the same row, comes first. This
    is the exact reverse of the order of `ptame_deploy.faithfulness.ranks`, so that the
    contrast-matched masks keep the very pixels that deletion takes first.

    Args:
        saliency: (H, W), larger is more important.

    Returns:
        (H * W,) positions in the flattened map, the most salient one first.

    Raises:
        InvalidInputError: a map that is not (H, W), or with NaN, which has no order.
    """
    if saliency.ndim != 2 or saliency.size == 0:
        message = f"A map must be (H, W) with at least one pixel, got shape {saliency.shape}."
        raise InvalidInputError(message)
    if np.isnan(saliency).any():
        count = int(np.isnan(saliency).sum())
        message = (
            f"The map has NaN in {count} of {saliency.size} pixels, so they have no order. Check "
            "the method that made it."
        )
        raise InvalidInputError(message)
    # Reversed rather than sorted by -saliency: that would turn the tie rule around.
    return np.argsort(saliency, axis=None, kind="stable")[::-1]


def check_fit(image: Image, saliency: Map) -> None:
    """Check that a map has its photo's size.

    Args:
        image: (3, H, W).
        saliency: (H, W).

    Raises:
        InvalidInputError: they differ.
    """
    if image.ndim != 3 or image.shape[1:] != saliency.shape:
        message = (
            f"The map is {saliency.shape} and the photo {image.shape}: resize the map to the "
            "photo's height and width first."
        )
        raise InvalidInputError(message)


class _Curve:
    """Pixels change in equal steps, the most salient ones first."""

    def __init__(self, settings: MeasureSettings) -> None:
        """Choose the number of points and the colour.

        Raises:
            InvalidInputError: fewer than one step.
        """
        if settings.steps < 1:
            message = f"A curve needs at least 1 step, got {settings.steps}."
            raise InvalidInputError(message)
        self.steps = settings.steps
        self.mean = settings.mean

    @property
    def fractions(self) -> NDArray[np.float32]:
        """(steps + 1,) share of changed pixels, from 0 to 1."""
        return np.linspace(0.0, 1.0, self.steps + 1, dtype=np.float32)

    def _parts(self, saliency: Map) -> Iterator[NDArray[np.intp]]:
        """Yield the pixels that change in each step; together they are all pixels, each once."""
        order = most_salient_first(saliency)
        ends = [round(order.size * step / self.steps) for step in range(self.steps + 1)]
        for start, end in pairwise(ends):
            yield order[start:end]


class Deletion(_Curve):
    """Pixels become the classifier's mean colour; a good map makes the class go early.

    The measure is the area under the class's probability over the share of deleted pixels, by the
    trapezoid rule, in percent. The curve's first point is the whole photo, its last one nothing
    but the mean colour.
    """

    name = "deletion"
    columns = (
        Column(
            name="deletion",
            label="Deletion",
            better="lower",
            source=_SOURCE,
        ),
    )

    @property
    def settings(self) -> dict[str, float | str]:
        """Points of the curve, and the colour of deleted pixels."""
        return {"steps": self.steps, "mean": ",".join(f"{value:g}" for value in self.mean)}

    def variants(self, image: Image, saliency: Map) -> Iterator[Image]:
        """Delete step by step, ``steps`` copies; see `Measure.variants`."""
        check_fit(image, saliency)
        current = np.array(image, np.float32, order="C")
        pixels = current.reshape(3, -1)
        colour = np.array(self.mean, np.float32)[:, None]
        for part in self._parts(saliency):
            pixels[:, part] = colour
            yield current

    def read(self, before: float, after: NDArray[np.float32]) -> Reading:
        """Return the area under the curve in percent; the whole photo is its first point."""
        curve = np.concatenate([[before], after]).astype(np.float32)
        return Reading({"deletion": area(curve)}, curve)


class Insertion(_Curve):
    """Pixels come back into a blurred photo; a good map makes the class come early.

    The measure is the area under the class's probability over the share of inserted pixels, by the
    trapezoid rule, in percent. The curve's first point is the blurred photo, its last one the whole
    photo. Blurred rather than one colour, as in the paper, so that an inserted patch makes no sharp
    edges of its own.
    """

    name = "insertion"
    columns = (
        Column(
            name="insertion",
            label="Insertion",
            better="higher",
            source=_SOURCE,
        ),
    )

    @property
    def settings(self) -> dict[str, float | str]:
        """Points of the curve, and the blur."""
        return {"steps": self.steps, "blur_sigma": BLUR_SIGMA, "blur_taps": BLUR_TAPS}

    def variants(self, image: Image, saliency: Map) -> Iterator[Image]:
        """Insert step by step, ``steps`` copies from the blurred one; see `Measure.variants`."""
        check_fit(image, saliency)
        current = blur(image)
        pixels, whole = current.reshape(3, -1), image.reshape(3, -1)
        for part in self._parts(saliency):
            yield current
            # After the yield: the copy with everything inserted is the whole photo, known already.
            pixels[:, part] = whole[:, part]

    def read(self, before: float, after: NDArray[np.float32]) -> Reading:
        """Return the area under the curve in percent; the whole photo is its last point."""
        curve = np.concatenate([after, [before]]).astype(np.float32)
        return Reading({"insertion": area(curve)}, curve)


def area(curve: NDArray[np.float32]) -> float:
    """Return the area under equally spaced points over [0, 1], by the trapezoid rule, in percent.

    Args:
        curve: (n,) probabilities, n >= 2.
    """
    points = curve.astype(np.float64)
    return 100 * float(((points[1:] + points[:-1]) / 2).mean())


def blur(image: Image) -> Image:
    """Blur a photo: Gaussian of `BLUR_SIGMA` pixels cut to `BLUR_TAPS`, for any photo size.

    The border is repeated outwards. The authors' code pads with their mean colour, which would
    leave a frame around every blurred photo.

    Args:
        image: (3, H, W) in [0, 1].

    Returns:
        (3, H, W), a new array.
    """
    reach = BLUR_TAPS // 2
    taps = np.exp(-(np.arange(-reach, reach + 1, dtype=np.float64) ** 2) / (2 * BLUR_SIGMA**2))
    taps /= taps.sum()
    result = np.asarray(image, np.float32)
    for axis in (1, 2):
        size = result.shape[axis]
        padding = [(reach, reach) if one == axis else (0, 0) for one in range(3)]
        padded = np.pad(result, padding, mode="edge")
        result = np.zeros_like(result)
        for shift, tap in enumerate(taps.astype(np.float32)):
            part = [slice(None)] * 3
            part[axis] = slice(shift, shift + size)
            result += tap * padded[tuple(part)]
    return result
