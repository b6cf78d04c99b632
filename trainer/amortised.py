"""Amortised perturbations: an explainer fitted in closed form to scores of masked photos.

A map explains a photo if, multiplied with a mask and summed, it predicts how the classifier scores
the masked photo (the additive model behind RISE, LIME and KernelSHAP; amortised over photos as in
Jethani et al., "FastSHAP", ICLR 2022, and Covert et al., "Stochastic amortization", NeurIPS 2024).
For frozen branches a map is linear in its fusion weights, so that the best ones under a ridge
penalty come from one pass over the photos, without steps, learning rates or a gradient of the
classifier.

What is fitted is small and shared by all classes, because most classes are on no photo: one gain
and one class-independent row for each tap that the start reads. Rows at the finer taps predict the
scores of photos left out better still, but the maps become rough, and the classifier is less sure
of what such maps keep (scripts/training_trials.py compares both on photos of yours).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ptame_deploy.explainer import ExplainerNet, SharedTerms
from trainer.mask_projector import Matrix

# Ridge penalties that are tried, relative to the columns' mean variance.
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_TINY = 1e-12

Vector = NDArray[np.float64]
Rows = Literal["start", "all"]
Seen = Mapping[int, Matrix]


class FittedTerms:
    """What is fitted: gains of the start's own rows, and class-independent rows.

    Attributes:
        start: (P,) the coefficients with which the explainer is its start.
        gained: positions of the taps that the start reads.
        rows: positions of the taps that have a class-independent row.
        read: positions of the taps that are needed for either.
    """

    def __init__(self, explainer: ExplainerNet, rows: Rows = "start") -> None:
        """Take a start.

        Args:
            explainer: its branches stay, its fusion rows are what gains act on.
            rows: ``start`` for rows at the taps that the start reads; ``all`` for every tap.
        """
        ends = list(accumulate(explainer.channels))
        self._taps = [slice(end - c, end) for end, c in zip(ends, explainer.channels, strict=True)]
        self._fusion = explainer.fusion.weight.detach().cpu().numpy()
        self.gained = [tap for tap, part in enumerate(self._taps) if self._fusion[:, part].any()]
        self.rows = list(range(len(ends))) if rows == "all" else self.gained
        self.read = sorted({*self.gained, *self.rows})
        width = sum(explainer.channels[tap] for tap in self.rows)
        self.start = np.zeros(len(self.gained) + width)
        self.start[: len(self.gained)] = 1

    def seen(self, attended: Mapping[int, Matrix], masks: Mapping[int, Matrix]) -> Seen:
        """Compute what each channel shows through each mask, (J, C_l) by tap that is read.

        Args:
            attended: (C_l, h_l * w_l) by tap that is read, what the branches give.
            masks: (J, h_l * w_l) by tap that is read, projected.
        """
        return {tap: masks[tap] @ attended[tap].T for tap in self.read}

    def columns(self, seen: Seen, class_index: int) -> Matrix:
        """Compute what each coefficient adds to the predicted scores of a photo's masked copies.

        Args:
            seen: of `seen`.
            class_index: the explained class.

        Returns:
            (J, P).
        """
        row = self._fusion[class_index]
        gains = [seen[tap] @ row[self._taps[tap]] for tap in self.gained]
        return np.concatenate([np.stack(gains, axis=1), *(seen[tap] for tap in self.rows)], axis=1)

    def shared(self, coefficients: Vector) -> SharedTerms:
        """Return the change of the start that coefficients stand for."""
        terms = SharedTerms([part.stop - part.start for part in self._taps])
        gains, rest = np.split(coefficients, [len(self.gained)])
        for gain, tap in zip(gains, self.gained, strict=True):
            terms.gains[tap] = float(gain)
        for tap in self.rows:
            part = self._taps[tap]
            row, rest = np.split(rest, [part.stop - part.start])
            terms.row[part] = torch.from_numpy(row)
        return terms


@dataclass(frozen=True)
class Sample:
    """One photo's equations, brought to one scale.

    Attributes:
        columns: (J, P).
        scores: (J,) of unit length.
    """

    columns: Matrix
    scores: Matrix


def make_sample(columns: Matrix, scores: Matrix, shown: Matrix, start: Vector) -> Sample | None:
    """Remove what no map could be ranked by, and bring photos to one scale.

    The scores' level and their dependence on how much a mask shows say nothing about places.

    Args:
        columns: (J, P), see `FittedTerms.columns`.
        scores: (J,) of the masked copies.
        shown: (J,) mean of each mask.
        start: (P,) coefficients of the start, whose prediction gets unit length.

    Returns:
        None for a photo whose scores, or whose start, do not depend on the place at all.
    """
    known = np.stack([np.ones_like(shown), shown], axis=1).astype(np.float64)
    basis, _ = np.linalg.qr(known)
    left_columns = columns - basis @ (basis.T @ columns)
    left_scores = scores - basis @ (basis.T @ scores)
    length = float(np.linalg.norm(left_scores))
    scale = float(np.linalg.norm(left_columns @ start))
    if length < _TINY or scale < _TINY:
        return None
    return Sample(
        (left_columns / scale).astype(np.float32), (left_scores / length).astype(np.float32)
    )


class Moments:
    """Sums over photos that a least-squares fit needs; their size does not grow with photos."""

    def __init__(self, width: int) -> None:
        """Begin with no photo, for ``width`` coefficients."""
        self.gram = np.zeros((width, width), np.float32)
        self.cross = np.zeros(width)
        self.photos = 0

    def add(self, samples: Sequence[Sample]) -> None:
        """Add photos."""
        columns = np.concatenate([sample.columns for sample in samples])
        scores = np.concatenate([sample.scores for sample in samples])
        self.gram += columns.T @ columns
        self.cross += (columns.T @ scores).astype(np.float64)
        self.photos += len(samples)

    def without(self, other: "Moments") -> "Moments":
        """Return the sums over the photos that are not among another's."""
        rest = Moments(0)
        rest.gram, rest.cross = self.gram - other.gram, self.cross - other.cross
        rest.photos = self.photos - other.photos
        return rest

    def error(self, coefficients: Vector) -> float:
        """Return the summed squared error of predictions; the scores of a photo have length 1."""
        squares = coefficients @ (self.gram.astype(np.float64) @ coefficients)
        return float(self.photos - 2 * coefficients @ self.cross + squares)


def total(parts: Sequence[Moments]) -> Moments:
    """Add up sums over different photos."""
    result = Moments(len(parts[0].cross))
    for part in parts:
        result.gram += part.gram
        result.cross += part.cross
        result.photos += part.photos
    return result


def ridge(moments: Moments, start: Vector, penalties: Sequence[float]) -> list[Vector]:
    """Fit coefficients that are pulled towards the start, not towards 0.

    The start's length is free: only the order of a map's pixels counts.

    Args:
        moments: of the photos.
        start: (P,) coefficients of the start.
        penalties: relative to the columns' mean variance.

    Returns:
        (P,) for each penalty.
    """
    gram = moments.gram.astype(np.float64)
    prior = start * float(moments.cross @ start) / max(float(start @ gram @ start), _TINY)
    residual = moments.cross - gram @ prior
    scale = max(float(np.trace(gram)) / len(gram), _TINY)
    fits, diagonal = [], gram.diagonal().copy()
    for penalty in penalties:
        np.fill_diagonal(gram, diagonal + penalty * scale)
        fits.append(prior + np.linalg.solve(gram, residual))
    return fits


@dataclass(frozen=True)
class CrossFit:
    """A fit whose penalty was chosen on photos left out.

    Attributes:
        coefficients: (P,) from all photos.
        penalty: the one that was chosen, relative.
        left_out: (P,) for each fold, from the other folds' photos alone.
    """

    coefficients: Vector
    penalty: float
    left_out: list[Vector]


def cross_fit(folds: Sequence[Moments], start: Vector) -> CrossFit:
    """Choose the penalty by the error on each fold of a fit to the others, then fit to all.

    Args:
        folds: sums over disjoint photos, at least two of them with photos.
        start: (P,) coefficients of the start.
    """
    whole = total(folds)
    tried = [ridge(whole.without(fold), start, PENALTIES) for fold in folds]
    errors = [
        sum(fold.error(fits[number]) for fold, fits in zip(folds, tried, strict=True))
        for number in range(len(PENALTIES))
    ]
    best = int(np.argmin(errors))
    chosen = PENALTIES[best]
    return CrossFit(ridge(whole, start, [chosen])[0], chosen, [fits[best] for fits in tried])


def agreement(sample: Sample, coefficients: Vector) -> float:
    """Return the cosine between predicted and measured scores of one photo, -1 to 1."""
    predicted = sample.columns.astype(np.float64) @ coefficients
    return float(predicted @ sample.scores) / max(float(np.linalg.norm(predicted)), _TINY)
