"""Photos scored and seen once, gathered into the sums of a fit."""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.bootstrap import Interval, interval
from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.fused import NormalisedClassifier
from ptame_deploy.preprocessing import to_float
from ptame_deploy.superpixels import Superpixels
from trainer.amortised import (
    CrossFit,
    FittedTerms,
    Moments,
    Rows,
    Sample,
    agreement,
    make_sample,
    ridge,
    total,
)
from trainer.mask_projector import MaskProjector, Matrix
from trainer.perturbation import (
    MaskSettings,
    PhotoScores,
    ScoreCache,
    Teacher,
    masks_of,
    photo_sha256,
    score_photo,
)
from trainer.result import SHOWN, Gain

FOLDS = 5
# Photos whose equations are held, to tell how well photos left out are predicted.
JUDGED = 500
MEASURE = "agreement with the scores of masked copies"
_BATCH = 8  # photos that are added to the sums at once
_SAVED_EVERY = 5.0  # seconds of scores that a kill may lose


class Fitting:
    """Photo after photo: its scores, its features, and what they add to the sums.

    Attributes:
        terms: what is fitted.
        folds: sums over disjoint photos.
        photos: that were added.
        passes: of the classifier that this took.
        known: photos whose scores an earlier run kept.
        shown: (H, W, 3) uint8, the first few photos.
    """

    def __init__(
        self,
        backbone: Backbone,
        auxiliary: Auxiliary,
        explainer: ExplainerNet,
        teacher: Teacher,
        masks: MaskSettings,
        rows: Rows,
        cache: ScoreCache | None,
        superpixels: Superpixels | None = None,
    ) -> None:
        """Begin with no photo.

        Args:
            backbone: the classifier.
            auxiliary: gives the features.
            explainer: the start.
            teacher: scores masked copies.
            masks: how photos are perturbed.
            rows: taps that get a class-independent row.
            cache: where scores are kept, or None.
            superpixels: what the maps go through, or None.
        """
        self.classifier = NormalisedClassifier(backbone).eval()
        self.auxiliary = auxiliary.to(self.classifier.mean.device)
        self.explainer = explainer.to(self.classifier.mean.device).eval()
        self.teacher = teacher
        self.masks = masks
        self.size = backbone.preprocessing.input_size
        self.terms = FittedTerms(explainer, rows)
        map_size = None if superpixels is None else superpixels.size
        self.project = MaskProjector(auxiliary.tap_sizes, self.size, self.terms.read, map_size)
        self.folds = [Moments(len(self.terms.start)) for _ in range(FOLDS)]
        self.photos = self.passes = self.known = 0
        self.shown: list[NDArray[np.uint8]] = []
        self._superpixels = superpixels
        self._cache = cache
        self._kept = {} if cache is None else cache.find()
        self._unsaved: list[tuple[str, PhotoScores]] = []
        self._saved = time.monotonic()
        self._seen: set[str] = set()
        self._judged: list[tuple[int, Sample]] = []
        self._others: list[tuple[int, Sample]] = []  # of the second-best class
        self._waiting: list[list[Sample]] = [[] for _ in range(FOLDS)]

    def add(self, image: NDArray[np.uint8]) -> None:
        """Score a photo (H, W, 3) and add it; one that was there already adds nothing."""
        photo = photo_sha256(image)
        if photo in self._seen:
            return
        self._seen.add(photo)
        masks = masks_of(photo, self.masks, self.size)
        scored = self._score(photo, image, masks)
        device = self.classifier.mean.device
        whole = torch.from_numpy(to_float(image[None])).to(device)
        with torch.inference_mode():
            features = self.auxiliary.extract(self.classifier, whole)
            attended = {tap: self._attend(tap, features[tap]) for tap in self.terms.read}
        small = self.project.to_taps(self._pool(image, self.project.to_map(masks)))
        seen = self.terms.seen(attended, small)
        shown = masks.mean(axis=(1, 2))
        answer, *others = (
            make_sample(self.terms.columns(seen, index), scores, shown, self.terms.start)
            for index, scores in zip(scored.classes, scored.scores, strict=True)
        )
        if answer is None:
            return
        # By the photo itself, so that neither order nor other photos move it to another fold.
        fold = int(photo[:8], 16) % FOLDS
        if len(self._judged) < JUDGED:
            self._judged.append((fold, answer))
            self._others += [(fold, other) for other in others if other is not None]
        self.photos += 1
        if len(self.shown) < SHOWN:
            self.shown.append(image)
        self._waiting[fold].append(answer)
        if len(self._waiting[fold]) >= _BATCH:  # one large product is faster than many small ones
            self.folds[fold].add(self._waiting[fold])
            self._waiting[fold] = []

    def finish(self) -> None:
        """Add what waits, and save what is not saved."""
        for fold, samples in zip(self.folds, self._waiting, strict=True):
            if samples:
                fold.add(samples)
        self._save()

    def judge(self, found: CrossFit) -> Gain:
        """Compare start and fit on photos that the fit was not made of.

        Both go through the superpixels: coarse masks cannot tell what those gain.
        """
        start = np.array([agreement(one, self.terms.start) for _, one in self._judged])
        trained = np.array([agreement(one, found.left_out[fold]) for fold, one in self._judged])
        return Gain.of(MEASURE, start, trained)

    def judge_others(self, found: CrossFit) -> Interval | None:
        """Tell how maps of the second-best class do, on photos left out.

        Nothing was fitted to them: a map of a class that is not the answer is as good as its own
        row of the start.

        Returns:
            None for a classifier of one class.
        """
        if not self._others:
            return None
        own = np.array([agreement(one, found.left_out[fold]) for fold, one in self._others])
        return interval(own)

    def curve(self, found: CrossFit) -> list[tuple[int, float]]:
        """Return how the last fold's photos are predicted by fits of 1, 2, ... other folds.

        Returns:
            (photos to train on, mean agreement); the first is the start's.
        """
        *others, _ = self.folds
        judged = [one for fold, one in self._judged if fold == len(others)]
        if not judged:
            return []
        fits = [(0, self.terms.start)]
        for count in range(1, len(others) + 1):
            sums = total(others[:count])
            fits.append((sums.photos, ridge(sums, self.terms.start, [found.penalty])[0]))
        return [
            (photos, float(np.mean([agreement(one, fit) for one in judged])))
            for photos, fit in fits
        ]

    def _pool(self, image: NDArray[np.uint8], masks: Matrix) -> Matrix:
        """Bring masks (J, h, w) to a photo's superpixels, as its map is."""
        if self._superpixels is None:
            return masks
        whole = torch.from_numpy(to_float(image[None]))
        with torch.inference_mode():
            regions = self._superpixels.regions(whole)
            pooled = self._superpixels.pool(regions, torch.from_numpy(masks)[None])
        return np.asarray(pooled[0].numpy())

    def _attend(self, tap: int, features: Tensor) -> Matrix:
        """Return what a branch makes of one photo's tap (1, C_l, h_l, w_l), (C_l, h_l * w_l)."""
        branch = self.explainer.branches[tap]
        attended = features.relu() if branch.is_identity else branch(features)
        return attended[0].flatten(1).float().cpu().numpy()

    def _score(
        self, photo: str, image: NDArray[np.uint8], masks: NDArray[np.float32]
    ) -> PhotoScores:
        known = self._kept.get(photo)
        if known is not None and known.masks >= len(masks):
            self.known += 1
            return known.of_first(len(masks))
        scored = score_photo(self.teacher, image, masks, known)
        self.passes += len(masks) + 1 if known is None else len(masks) - known.masks
        self._unsaved.append((photo, scored))
        if time.monotonic() - self._saved > _SAVED_EVERY:
            self._save()
        return scored

    def _save(self) -> None:
        if self._cache is not None and self._unsaved:
            self._cache.keep(self._unsaved)
        self._unsaved, self._saved = [], time.monotonic()
