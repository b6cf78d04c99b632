"""Does a map point at the object? The pointing game, and its energy-based form.

Both compare a map with boxes that people drew, and ask no classifier: a classifier that looks
beside the object makes an honest map lose.
"""

import math
from collections.abc import Sequence

import numpy as np

from bench.measures.curves import most_salient_first
from bench.measures.measure import Column, Map
from ptame_deploy.errors import InvalidInputError

InputBox = tuple[float, float, float, float]  # left, top, right, bottom in the map's pixels

# The paper's margin, in pixels of the map. At 224 pixels it is about 7 % of the side; it does not
# grow with larger inputs, so name the input size along with the number.
TOLERANCE = 15.0

COLUMNS = (
    Column(
        name="pointing",
        label="Pointing game",
        better="higher",
        source="Zhang et al., Excitation Backprop, IJCV 2018",
    ),
    Column(
        name="pointing_energy",
        label="Energy pointing",
        better="higher",
        contrast_moves=True,
        source="Wang et al., Score-CAM, CVPR Workshops 2020, section 4.3",
    ),
)


def pointing_hit(saliency: Map, boxes: Sequence[InputBox], tolerance: float = TOLERANCE) -> float:
    """Say whether the map's largest pixel lies in a box, or near one.

    Of pixels that tie for the largest, the one that `most_salient_first` puts first counts: the
    furthest down, then the furthest right.

    Args:
        saliency: (H, W), larger is more important.
        boxes: in the map's pixels, as `bench.measures.boxes.to_input` gives them.
        tolerance: largest distance from the pixel's centre to the nearest box, in pixels.

    Returns:
        100 for a hit, else 0. A flat map points nowhere: 0.

    Raises:
        InvalidInputError: no boxes, a map without an order, or a negative tolerance.
    """
    _check(boxes)
    if not tolerance >= 0:
        message = f"The pointing game's tolerance must be 0 pixels or more, got {tolerance}."
        raise InvalidInputError(message)
    largest = int(most_salient_first(saliency)[0])
    if saliency.min() == saliency.max():
        return 0.0
    row, column = divmod(largest, saliency.shape[1])
    x, y = column + 0.5, row + 0.5
    nearest = min(
        math.hypot(max(left - x, 0.0, x - right), max(top - y, 0.0, y - bottom))
        for left, top, right, bottom in boxes
    )
    return 100.0 if nearest <= tolerance else 0.0


def pointing_energy(saliency: Map, boxes: Sequence[InputBox]) -> float:
    """Return the share of the map's sum that lies in the boxes, in percent.

    Args:
        saliency: (H, W); what is negative counts as 0.
        boxes: in the map's pixels. A pixel is in a box if its centre is; one in two boxes counts
            once.

    Returns:
        0 to 100. A map of zeros gives 0; a flat one above 0 the boxes' share of the area.

    Raises:
        InvalidInputError: no boxes, or a map with NaN or infinity.
    """
    _check(boxes)
    if not np.isfinite(saliency).all():
        count = int((~np.isfinite(saliency)).sum())
        message = (
            f"The map has NaN or infinity in {count} of {saliency.size} pixels. Check the method "
            "that made it."
        )
        raise InvalidInputError(message)
    energy = np.maximum(saliency, 0).astype(np.float64)
    total = float(energy.sum())
    if total == 0:
        return 0.0
    height, width = saliency.shape
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    inside = np.zeros(saliency.shape, bool)
    for left, top, right, bottom in boxes:
        inside |= (left <= columns) & (columns < right) & (top <= rows) & (rows < bottom)
    return 100 * float(energy[inside].sum()) / total


def _check(boxes: Sequence[InputBox]) -> None:
    if not boxes:
        message = (
            "The pointing game needs at least one box. Leave out photos whose boxes all lie "
            "outside the classifier's crop."
        )
        raise InvalidInputError(message)
