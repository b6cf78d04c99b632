"""Masks at each tap's size: what a map shows through a mask, without enlarging the map."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.random_masks import stretch

Matrix = NDArray[np.float32]


class MaskProjector:
    """Brings masks from the image's size to each tap's: the transpose of how maps are enlarged.

    The sum of a map times a mask over the image is then the sum of the tap's small map times the
    projected mask: exact, and without any enlarged map. In two steps, since superpixels act between
    them: the matrix of their averages is symmetric, so that masks are averaged as maps are.
    """

    def __init__(
        self,
        tap_sizes: Sequence[tuple[int, int]],
        image_size: tuple[int, int],
        taps: Sequence[int],
        map_size: tuple[int, int] | None = None,
    ) -> None:
        """Prepare for taps.

        Args:
            tap_sizes: heights and widths of all taps, fine to coarse.
            image_size: height and width of the masks.
            taps: positions of those that masks are projected to.
            map_size: height and width of the maps; None for the finest tap's.
        """
        map_size = map_size or tap_sizes[0]
        self._taps = {
            tap: tuple(
                _enlarging([*(size[axis] for size in reversed(tap_sizes[: tap + 1])), side])
                for axis, side in enumerate(map_size)
            )
            for tap in taps
        }
        self._whole = [
            _enlarging([side, full]) for side, full in zip(map_size, image_size, strict=True)
        ]
        self._area = image_size[0] * image_size[1]

    def to_map(self, masks: Matrix) -> Matrix:
        """Project masks (J, H, W) to the maps' own size, (J, h, w).

        With a map, their product's sum is a mean over the image's pixels.
        """
        return _project(masks, *self._whole) / np.float32(self._area)

    def to_taps(self, masks: Matrix) -> dict[int, Matrix]:
        """Project masks of the maps' own size, (J, h, w), on: (J, h_l * w_l) by tap."""
        return {
            tap: _project(masks, *axes).reshape(len(masks), -1) for tap, axes in self._taps.items()
        }


def _project(masks: Matrix, rows: Matrix, columns: Matrix) -> Matrix:
    """Bring masks (J, H, W) to (J, h, w) by (H, h) and (W, w)."""
    count, height, width = masks.shape
    narrow = masks.reshape(-1, width) @ columns  # one large product, then small ones
    return np.asarray(rows.T @ narrow.reshape(count, height, -1), np.float32)


def _enlarging(sizes: Sequence[int]) -> Matrix:
    """Return (last, first): how one axis is enlarged from the first size to the next, and so on."""
    matrix = np.eye(sizes[0], dtype=np.float32)
    for finer in sizes[1:]:
        if finer != len(matrix):
            matrix = stretch(len(matrix), finer) @ matrix
    return matrix
