"""The recipe for hundreds to thousands of photos: amortised perturbations from the start above.

Each photo is scored once under a few dozen random masks, and `trainer.amortised` fits what is
linear in the explainer to the scores. No gradient of the classifier is needed, scores are kept for
the next training, and the same photos and seed give the same weights.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.fused import NormalisedClassifier
from ptame_deploy.preprocessing import to_float
from trainer.amortised import (
    CrossFit,
    MaskProjector,
    Moments,
    Rows,
    Sample,
    SharedTerms,
    agreement,
    cross_fit,
    make_sample,
    ridge,
    total,
)
from trainer.data import Skipped, seen_photos
from trainer.networks import lent
from trainer.perturbation import (
    MaskSettings,
    PhotoScores,
    ScoreCache,
    Teacher,
    masks_of,
    photo_sha256,
    score_photo,
)
from trainer.result import SHOWN, Gain, Trained
from trainer.sources import Photo
from trainer.start import StartChoice, start_on_photos
from trainer.teacher import open_teacher

FOLDS = 5
# Fewer say too little about photos that are left out, on which the penalty is chosen.
MIN_PHOTOS = 20
# Photos whose equations are held, to tell how well photos left out are predicted.
JUDGED = 500
MEASURE = "agreement with the scores of masked copies"
_BATCH = 8  # photos that are read, and that are added to the sums, at once
_SAVED_EVERY = 5.0  # seconds of scores that a kill may lose

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class FewSettings:
    """How to train.

    Attributes:
        start: what training begins with.
        masks: how photos are perturbed.
        rows: taps that get a class-independent row; see `trainer.amortised.SharedTerms`.
        workers: processes that decode photos; 0 for the training process itself.
        seed: of everything random but the masks.
        cache: folder where scores are kept; None to keep none.
        max_bad: see `trainer.data.Skipped`.
    """

    start: StartChoice = "auto"
    masks: MaskSettings = field(default_factory=MaskSettings)
    rows: Rows = "start"
    workers: int = 0
    seed: int = 0
    cache: Path | None = None
    max_bad: float | None = None

    def __post_init__(self) -> None:
        """Refuse a limit that is none; see `trainer.data.Skipped`."""
        Skipped(0, self.max_bad)


def train(
    backbone: Backbone,
    auxiliary: Auxiliary,
    photos: Sequence[Photo],
    settings: FewSettings,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda _description, _total: nullcontext(lambda _: None),
) -> Trained:
    """Train an explainer.

    Args:
        backbone: the classifier that is explained; frozen.
        auxiliary: gives the features; frozen.
        photos: where they are; no labels are used. Those that cannot be read are skipped and named.
        settings: how to train.
        say: is told what is happening.
        progress: shows how far it is: called with a description and a number of photos, it gives
            a context whose value is called with the number just done.

    Raises:
        InvalidInputError: too few photos can be read, or the start is random.
        CheckFailedError: the classifier's answers cannot be used.
    """
    began = time.monotonic()
    if settings.start == "random":
        message = (
            "--preset few sharpens a start that explains something already: --start random has "
            "nothing to sharpen. Use --start fit, or --preset paper."
        )
        raise InvalidInputError(message)
    if len(photos) < MIN_PHOTOS:
        _refuse_few(len(photos), [])
    skipped = Skipped(len(photos), settings.max_bad)
    with (
        lent(backbone, auxiliary),
        torch.random.fork_rng(devices=[]),
        open_teacher(backbone) as teacher,
    ):
        started = start_on_photos(
            backbone, auxiliary, photos, settings.start,
            batch_size=_BATCH, workers=settings.workers, seed=settings.seed, say=say,
        )  # fmt: skip
        fitting = _Fitting(backbone, auxiliary, started.explainer, teacher, settings)
        count = settings.masks.count
        with progress(f"Scoring under {count} masks each", len(photos)) as advance:
            try:
                for image in _images(photos, backbone, settings.workers, skipped, advance):
                    fitting.add(image)
            finally:  # on Ctrl-C too: the next run goes on from here
                fitting.finish()
    if fitting.photos < MIN_PHOTOS or sum(fold.photos > 0 for fold in fitting.folds) < FOLDS:
        _refuse_few(fitting.photos, list(skipped.names))
    say("Fitting ...")
    found = cross_fit(fitting.folds, fitting.terms.start)
    gain = fitting.judge(found)
    before = copy.deepcopy(started.explainer).cpu().eval()
    with torch.no_grad():
        started.explainer.fusion.weight.copy_(
            torch.from_numpy(fitting.terms.fused(found.coefficients))
        )
    record = {
        "preset": "few",
        **started.record(),
        "masks": asdict(settings.masks),
        "rows": settings.rows,
        "photos": len(photos),
        "photos_used": fitting.photos,
        "skipped_photos": len(skipped.names),
        "classifier_passes": fitting.passes,
        "photos_scored_before": fitting.known,
        "coefficients": len(found.coefficients),
        "penalty": found.penalty,
        "gains": found.coefficients[: len(fitting.terms.gained)].tolist(),
        "folds": FOLDS,
        "gain": gain.record(),
        "curve": fitting.curve(found),
        "teacher": teacher.identity,
        "seconds": round(time.monotonic() - began, 1),
    }
    return Trained(
        explainer=started.explainer.cpu().eval(),
        start=started.start,
        record=record,
        skipped=list(skipped.names),
        gain=gain,
        started=before,
        shown=np.stack(fitting.shown),
    )


def _refuse_few(readable: int, skipped: Sequence[str]) -> None:
    reasons = "".join(f"\n  - {reason}" for reason in skipped[:5])
    message = (
        f"--preset few needs at least {MIN_PHOTOS} photos on which the classifier's answer depends "
        f"on what is hidden; there are {readable}. Give more photos, or export the untrained start "
        f"(ptame export).{reasons}"
    )
    raise InvalidInputError(message)


def _images(
    photos: Sequence[Photo],
    backbone: Backbone,
    workers: int,
    skipped: Skipped,
    advance: Callable[[int], None],
) -> Iterator[NDArray[np.uint8]]:
    """Yield photos (H, W, 3) as the classifier sees them; those that cannot be read are named."""
    seen = seen_photos(photos, backbone.preprocessing, batch_size=_BATCH, workers=workers)
    for images, unreadable in seen:
        if unreadable:
            skipped.add(unreadable)
            advance(len(unreadable))
        for image in images:
            yield image
            advance(1)


class _Fitting:
    """Photo after photo: its scores, its features, and what they add to the sums."""

    def __init__(
        self,
        backbone: Backbone,
        auxiliary: Auxiliary,
        explainer: ExplainerNet,
        teacher: Teacher,
        settings: FewSettings,
    ) -> None:
        self.classifier = NormalisedClassifier(backbone).eval()
        self.auxiliary = auxiliary.to(self.classifier.mean.device)
        self.explainer = explainer.to(self.classifier.mean.device).eval()
        self.teacher = teacher
        self.settings = settings
        self.size = backbone.preprocessing.input_size
        self.terms = SharedTerms(explainer, settings.rows)
        self.project = MaskProjector(auxiliary.tap_sizes, self.size)
        self.folds = [Moments(len(self.terms.start)) for _ in range(FOLDS)]
        self.photos = self.passes = self.known = 0
        self.shown: list[NDArray[np.uint8]] = []
        self._cache = (
            None if settings.cache is None else ScoreCache(settings.cache, teacher, settings.masks)
        )
        self._kept = {} if self._cache is None else self._cache.find()
        self._unsaved: list[tuple[str, PhotoScores]] = []
        self._saved = time.monotonic()
        self._seen: set[str] = set()
        self._judged: list[tuple[int, Sample]] = []
        self._waiting: list[list[Sample]] = [[] for _ in range(FOLDS)]

    def add(self, image: NDArray[np.uint8]) -> None:
        """Score a photo (H, W, 3) and add it; one that was there already adds nothing."""
        photo = photo_sha256(image)
        if photo in self._seen:
            return
        self._seen.add(photo)
        masks = masks_of(photo, self.settings.masks, self.size)
        scored = self._score(photo, image, masks)
        device = self.classifier.mean.device
        whole = torch.from_numpy(to_float(image[None])).to(device)
        with torch.inference_mode():
            _, features = self.auxiliary.observe(self.classifier, whole)
            attended = [
                branch(tap)[0].flatten(1).float().cpu().numpy()
                for branch, tap in zip(self.explainer.branches, features, strict=True)
            ]
        columns = self.terms.columns(attended, self.project(masks), scored.class_index)
        shown = masks.mean(axis=(1, 2))
        sample = make_sample(columns, scored.scores, shown, self.terms.start)
        if sample is None:
            return
        # By the photo itself, so that neither order nor other photos move it to another fold.
        fold = int(photo[:8], 16) % FOLDS
        if len(self._judged) < JUDGED:
            self._judged.append((fold, sample))
        self.photos += 1
        if len(self.shown) < SHOWN:
            self.shown.append(image)
        self._waiting[fold].append(sample)
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
        """Compare start and fit on photos that the fit was not made of."""
        start = np.array([agreement(one, self.terms.start) for _, one in self._judged])
        trained = np.array([agreement(one, found.left_out[fold]) for fold, one in self._judged])
        return Gain.of(MEASURE, start, trained)

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

    def _score(
        self, photo: str, image: NDArray[np.uint8], masks: NDArray[np.float32]
    ) -> PhotoScores:
        known = self._kept.get(photo)
        if known is not None and len(known.scores) >= len(masks):
            self.known += 1
            return PhotoScores(known.class_index, known.scores[: len(masks)])
        scored = score_photo(self.teacher, image, masks, known)
        self.passes += len(masks) + 1 if known is None else len(masks) - len(known.scores)
        self._unsaved.append((photo, scored))
        if time.monotonic() - self._saved > _SAVED_EVERY:
            self._save()
        return scored

    def _save(self) -> None:
        if self._cache is not None and self._unsaved:
            self._cache.keep(self._unsaved)
        self._unsaved, self._saved = [], time.monotonic()
