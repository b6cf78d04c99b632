"""Random masks that hide parts of an image: what RISE and amortised training perturb with.

Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
BMVC 2018, section 3.2.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.errors import InvalidInputError


def stream_masks(
    count: int, height: int, width: int, *, cells: int, keep: float, batch: int, seed: int
) -> Iterator[NDArray[np.float32]]:
    """Make masks batch by batch, the same ones for a seed whatever the batch.

    A grid of 0s and 1s is stretched bilinearly to one cell more than the image on each axis, and
    the image's size is cut out at a random place.

    Args:
        count: number of masks.
        height: pixels.
        width: pixels.
        cells: side of the coarse random grid.
        keep: probability that a grid cell stays visible.
        batch: masks at once.
        seed: of grids and places.

    Yields:
        (b, height, width) float32 in [0, 1], b <= ``batch``. The array is overwritten by the next
        step.

    Raises:
        InvalidInputError: a number is out of its range.
    """
    if count < 1 or cells < 1 or batch < 1 or not 0 < keep < 1:
        message = (
            "Random masks need at least 1 mask, 1 cell, a batch of 1 and 0 < keep < 1; got "
            f"{count} masks, {cells} cells, batch {batch}, keep {keep}."
        )
        raise InvalidInputError(message)
    grid_seed, shift_seed = np.random.SeedSequence(seed).spawn(2)
    # Two generators, so that the masks do not depend on where one batch ends and the next begins.
    grids, shifts = np.random.default_rng(grid_seed), np.random.default_rng(shift_seed)
    cell_height, cell_width = -(-height // cells), -(-width // cells)
    rows = stretch(cells, (cells + 1) * cell_height)
    columns = stretch(cells, (cells + 1) * cell_width)
    buffer = np.empty((batch, height, width), np.float32)
    for start in range(0, count, batch):
        size = min(batch, count - start)
        visible = grids.random((size, cells, cells)) < keep
        corner = (shifts.random((size, 2)) * (cell_height, cell_width)).astype(np.intp)
        # Stretching is linear on each axis, so cutting first saves the pixels that nobody sees.
        vertical = rows[corner[:, :1] + np.arange(height)]  # (b, height, cells)
        horizontal = columns[corner[:, 1:] + np.arange(width)].swapaxes(1, 2)  # (b, cells, width)
        masks = buffer[:size]
        np.matmul(vertical @ visible.astype(np.float32), horizontal, out=masks)
        yield masks


def stretch(cells: int, size: int) -> NDArray[np.float32]:
    """Return (size, cells): the bilinear weights that stretch one axis, pixel centres aligned.

    Args:
        cells: values on the axis.
        size: pixels on it after stretching (`torch.nn.functional.interpolate` with
            ``align_corners=False``).
    """
    positions = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    distance = np.abs(positions[:, None] - np.arange(cells))
    return np.asarray(np.maximum(0, 1 - distance), np.float32)
