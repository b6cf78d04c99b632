"""Noisy linear imputation without the noise: removed pixels become the mean of their neighbours.

The mean of removed neighbours makes one sparse linear system per copy, with up to 40 000 unknowns
in three channels. The published code solves it by sparse factorisation. Here it is solved to far
below ROAD's noise by conjugate gradients over a multigrid hierarchy, which needs numpy alone and
the same few iterations for a smooth map's large holes as for a noisy map's scattered ones.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.measures.measure import Image
from ptame_deploy.errors import CheckFailedError, InvalidInputError

TOLERANCE = 5e-4  # of an imputed pixel, in pixel values: an eighth of an 8-bit step

_MOST_ITERATIONS = 60  # 4 to 8 are usual; the rest is room for strange masks
_COARSEST = 13  # pixels at most on the longer side of the level that is inverted

_Grid = NDArray[np.float32]  # (C, H, W), the channels on their own


def impute(image: Image, removed: NDArray[np.bool_]) -> Image:
    """Replace removed pixels by the weighted mean of their eight neighbours, without noise.

    Weights are 1/6 beside, above and below, and 1/12 diagonally. At the photo's border they are
    scaled so that those of the neighbours that exist sum to 1.

    Args:
        image: (3, H, W) in [0, 1]; any number of channels.
        removed: (H, W), True where the pixel is removed.

    Returns:
        (3, H, W), a new array. Imputed pixels are within about `TOLERANCE` of the exact solution.

    Raises:
        InvalidInputError: every pixel is removed.
        CheckFailedError: no solution is found, as for a photo with NaN.
    """
    if removed.all():
        message = (
            f"All {removed.size} pixels are removed, so there is nothing to impute from. Remove "
            "fewer, or use a larger photo."
        )
        raise InvalidInputError(message)
    filled = np.array(image, np.float32)
    if not removed.any():
        return filled
    height, width = removed.shape
    depth = 1
    while (max(height, width) - 1) / 2**depth > _COARSEST - 1:
        depth += 1
    # A grid that halves evenly at every level. What is added belongs to no equation.
    inside = np.zeros((1, *(-(-(side - 1) // 2**depth) * 2**depth + 1 for side in removed.shape)))
    gone = np.zeros(inside.shape[1:], bool)
    gone[:height, :width] = removed
    inside[:, :height, :width] = 1
    known = np.zeros((len(image), *gone.shape), np.float32)
    np.copyto(known[:, :height, :width], image, where=~removed)
    system = _Photo(gone, _neighbours(inside.astype(np.float32))[0])
    right = _neighbours(known) * gone
    solution = _solve(_Hierarchy(system, depth), right)
    np.copyto(filled, solution[:, :height, :width], where=removed)
    return filled


def _neighbours(grid: _Grid) -> _Grid:
    """Return the weighted sum of each pixel's eight neighbours; outside is 0."""
    return (_spread(grid) - 4 * grid) / np.float32(12)


def _spread(grid: _Grid) -> _Grid:
    """Return 12 times the neighbours' weighted sum, and 4 times the pixel itself: 1 2 1 squared.

    In place where it can be: here, fresh memory for each sum costs more than the sum.
    """
    framed = _framed(grid)
    rows = framed[:, :-2] + framed[:, 2:]
    rows += framed[:, 1:-1]
    rows += framed[:, 1:-1]
    total = rows[:, :, :-2] + rows[:, :, 2:]
    total += rows[:, :, 1:-1]
    total += rows[:, :, 1:-1]
    return total


def _framed(grid: _Grid) -> _Grid:
    channels, height, width = grid.shape
    framed = np.zeros((channels, height + 2, width + 2), np.float32)
    framed[:, 1:-1, 1:-1] = grid
    return framed


def _solve(hierarchy: "_Hierarchy", right: _Grid) -> _Grid:
    """Solve by conjugate gradients, each channel on its own, until no pixel moves any more."""
    solution = np.zeros_like(right)
    residual = right.copy()
    direction, previous = np.zeros_like(right), np.ones((len(right), 1, 1), np.float32)
    for _ in range(_MOST_ITERATIONS):
        # One multigrid cycle nearly solves for the error that is left, so that its result says how
        # far the pixels are off. The residual would not: it is tiny in a large hole's middle.
        step = hierarchy.cycle(residual)
        if np.abs(step).max() < TOLERANCE:
            solution += step
            return solution
        progress = _dot(residual, step)
        direction *= _ratio(progress, previous)
        direction += step
        previous = progress
        applied = hierarchy.finest.apply(direction)
        length = _ratio(progress, _dot(direction, applied))
        solution += length * direction
        applied *= length
        residual -= applied
    message = (
        f"ROAD found no imputation within {_MOST_ITERATIONS} iterations. Check the photo for NaN "
        "and infinity."
    )
    raise CheckFailedError(message)


def _dot(a: _Grid, b: _Grid) -> _Grid:
    products: _Grid = np.einsum("cyx,cyx->c", a, b)
    return products.reshape(-1, 1, 1)


def _ratio(a: _Grid, b: _Grid) -> _Grid:
    """Return a / b, and 0 where a channel is solved already and both are 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


class _Level(Protocol):
    """A symmetric system of equations on a grid, one for each point."""

    shape: tuple[int, int]
    relaxation: _Grid  # (H, W): a point's residual times this is the smoother's step

    def apply(self, grid: _Grid) -> _Grid:
        """Multiply with the system's matrix."""
        ...

    def interpolate(self, coarse: _Grid) -> _Grid:
        """Carry a correction over from every second point to every point."""
        ...


class _Photo:
    """The equations of the removed pixels."""

    def __init__(self, gone: NDArray[np.bool_], weights: _Grid) -> None:
        """Set up equations.

        Args:
            gone: (H, W) the unknown pixels.
            weights: (H, W) sum of the weights of the neighbours that a pixel has.
        """
        self.shape: tuple[int, int] = (gone.shape[0], gone.shape[1])
        self._gone = gone.astype(np.float32)
        weights = weights * self._gone
        self.relaxation = _relaxation(weights, 2 * weights)
        # So that the matrix is `_own` times the pixel less `_shared` times `_spread`.
        self._shared = self._gone / 12
        self._own = weights + 4 * self._shared

    def apply(self, grid: _Grid) -> _Grid:
        """Multiply with the matrix; ``grid`` must be 0 where pixels are known."""
        total = _spread(grid)
        total *= self._shared
        np.subtract(self._own * grid, total, out=total)
        return total

    def interpolate(self, coarse: _Grid) -> _Grid:
        """Interpolate a correction; known pixels get none."""
        fine = _interpolate(coarse)
        fine *= self._gone
        return fine


class _Coarse:
    """The same equations for corrections that are linear between every second point (Galerkin)."""

    def __init__(self, fine: _Level) -> None:
        """Derive the equations from a finer level's."""
        height, width = ((side + 1) // 2 for side in fine.shape)
        self.shape: tuple[int, int] = (height, width)
        # Each point meets its eight neighbours only. Points three apart have none in common, so
        # nine right-hand sides, each 1 at every third point, show the whole matrix.
        answers = np.empty((3, 3, height, width), np.float32)
        for row in range(3):  # all nine at once would be slower: they leave the cache
            probes = np.zeros((3, height, width), np.float32)
            for column in range(3):
                probes[column, row::3, column::3] = 1
            answers[row] = _restrict(fine.apply(fine.interpolate(probes)))
        # (3, 3, H, W): what the neighbour one row up to one row down, left to right, adds.
        self._stencil = np.zeros_like(answers)
        for row, column, down, right in np.ndindex(3, 3, 3, 3):
            probe = answers[(row + down - 1) % 3, (column + right - 1) % 3]
            self._stencil[down, right, row::3, column::3] = probe[row::3, column::3]
        self.relaxation = _relaxation(self._stencil[1, 1], np.abs(self._stencil).sum((0, 1)))

    def apply(self, grid: _Grid) -> _Grid:
        """Multiply with the matrix."""
        height, width = self.shape
        framed = _framed(grid)
        total: _Grid = self._stencil[1, 1] * grid
        part = np.empty_like(total)
        for down, right in np.ndindex(3, 3):
            if (down, right) != (1, 1):
                shifted = framed[:, down : down + height, right : right + width]
                total += np.multiply(self._stencil[down, right], shifted, out=part)
        return total

    def interpolate(self, coarse: _Grid) -> _Grid:
        """Interpolate a correction."""
        return _interpolate(coarse)


class _Hierarchy:
    """A system and ever coarser ones of its kind, down to one that is inverted."""

    def __init__(self, finest: _Photo, depth: int) -> None:
        """Derive ``depth`` coarser levels."""
        self.finest = finest
        self._levels: list[_Level] = [finest]
        for _ in range(depth):
            self._levels.append(_Coarse(self._levels[-1]))
        shape = self._levels[-1].shape
        points = shape[0] * shape[1]
        unit = np.eye(points, dtype=np.float32).reshape(points, *shape)
        matrix = self._levels[-1].apply(unit).reshape(points, points).astype(np.float64)
        matrix = (matrix + matrix.T) / 2
        # Points far from every removed pixel have no equation: the small term makes them harmless.
        matrix += 1e-6 * max(matrix.diagonal().max(), 1e-3) * np.eye(points)
        self._inverse = np.linalg.inv(matrix).astype(np.float32)

    def cycle(self, residual: _Grid, level: int = 0) -> _Grid:
        """Return roughly the solution for this right-hand side: one V-cycle, a symmetric one."""
        here = self._levels[level]
        if level == len(self._levels) - 1:
            flat: _Grid = residual.reshape(len(residual), -1) @ self._inverse
            return flat.reshape(residual.shape)
        found = here.relaxation * residual
        coarse = _restrict(residual - here.apply(found))
        found += here.interpolate(self.cycle(coarse, level + 1))
        found += here.relaxation * (residual - here.apply(found))
        return found


def _relaxation(diagonal: _Grid, row_sums: _Grid) -> _Grid:
    """Return steps for a damped Jacobi smoother that cannot diverge.

    Steps under 2 over a row's sum of absolute values converge on any such matrix. In the middle of
    a hole that sum is twice the diagonal, and this is the usual damping by 0.9. Between scattered
    pixels, coarse points overlap so much that the diagonal alone would be too small.
    """
    scale: _Grid = np.maximum(diagonal, np.float32(0.55) * row_sums)
    steps = np.zeros_like(scale)
    np.divide(1, scale, out=steps, where=scale > 1e-6)
    return steps


def _interpolate(coarse: _Grid) -> _Grid:
    """From (C, h, w) to (C, 2h - 1, 2w - 1), linearly."""
    channels, height, width = coarse.shape
    rows = np.empty((channels, 2 * height - 1, width), np.float32)
    rows[:, ::2] = coarse
    rows[:, 1::2] = (coarse[:, :-1] + coarse[:, 1:]) / 2
    fine = np.empty((channels, 2 * height - 1, 2 * width - 1), np.float32)
    fine[:, :, ::2] = rows
    fine[:, :, 1::2] = (rows[:, :, :-1] + rows[:, :, 1:]) / 2
    return fine


def _restrict(fine: _Grid) -> _Grid:
    """From (C, 2h - 1, 2w - 1) to (C, h, w): the transpose of `_interpolate`."""
    half = fine[:, :, 1::2] / 2
    columns = fine[:, :, ::2].copy()
    columns[:, :, :-1] += half
    columns[:, :, 1:] += half
    half = columns[:, 1::2] / 2
    coarse = columns[:, ::2].copy()
    coarse[:, :-1] += half
    coarse[:, 1:] += half
    return coarse
