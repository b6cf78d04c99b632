"""The recipe for hundreds to thousands of photos: amortised perturbations that sharpen a start.

Each photo is scored once under a few dozen random masks, and `trainer.amortised` fits what is
linear in the explainer to the scores. No gradient of the classifier is needed, scores are kept for
the next training, and the same photos and seed give the same weights.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.part_records import SuperpixelRecord
from ptame_deploy.progress import Progress, no_progress
from ptame_deploy.superpixels import Superpixels, fits
from trainer.amortised import Rows, cross_fit
from trainer.data import Skipped, seen_photos
from trainer.fitting import FOLDS, Fitting
from trainer.networks import lent
from trainer.perturbation import MaskSettings, ScoreCache
from trainer.result import Trained
from trainer.sources import Photo
from trainer.start import StartChoice, start_on_photos
from trainer.teacher import can_be_kept, open_teacher

# Fewer say too little about photos that are left out, on which the penalty is chosen.
MIN_PHOTOS = 20
_BATCH = 8  # photos that are read at once


@dataclass(frozen=True)
class FewSettings:
    """How to train.

    Attributes:
        start: what training begins with.
        masks: how photos are perturbed.
        rows: taps that get a class-independent row; see `trainer.amortised.FittedTerms`.
        superpixels: what the trained maps are averaged over, where they are fine enough; None for
            nothing.
        workers: processes that decode photos; 0 for the training process itself.
        seed: of everything random but the masks.
        cache: folder where scores are kept; None to keep none.
        max_bad: see `trainer.data.Skipped`.
    """

    start: StartChoice = "auto"
    masks: MaskSettings = field(default_factory=MaskSettings)
    rows: Rows = "start"
    superpixels: SuperpixelRecord | None = field(default_factory=SuperpixelRecord)
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
    progress: Progress = no_progress,
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
        masks = settings.masks
        cache = None
        if settings.cache is not None and can_be_kept(backbone):
            cache = ScoreCache(settings.cache, teacher, masks)
        superpixels = _superpixels(settings.superpixels, auxiliary, say)
        fitting = Fitting(
            backbone,
            auxiliary,
            started.explainer,
            teacher,
            masks,
            settings.rows,
            cache,
            superpixels,
        )
        with progress(f"Scoring under {masks.count} masks each", len(photos)) as advance:
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
    others = fitting.judge_others(found)
    explainer = started.explainer.cpu().eval()
    before = copy.deepcopy(explainer)
    terms = fitting.terms.shared(found.coefficients)
    terms.apply_to(explainer)
    if superpixels is not None:
        explainer.superpixels = superpixels.record
    record = {
        "preset": "few",
        **started.record(),
        "masks": asdict(settings.masks),
        "rows": settings.rows,
        "superpixels": None if superpixels is None else superpixels.record.model_dump(),
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
        "other_classes": None if others is None else others.model_dump(),
        "curve": fitting.curve(found),
        "teacher": teacher.identity,
        "seconds": round(time.monotonic() - began, 1),
    }
    return Trained(
        explainer=explainer,
        start=started.start,
        record=record,
        skipped=list(skipped.names),
        gain=gain,
        own_answers=gain.trained,
        other_classes=others,
        started=before,
        shown=np.stack(fitting.shown),
        # Of an activation map nothing else need be kept; a fit is of these photos.
        terms=terms if started.start == "activation-map" else None,
    )


def _superpixels(
    record: SuperpixelRecord | None, auxiliary: Auxiliary, say: Callable[[str], None]
) -> Superpixels | None:
    if record is None:
        return None
    if not fits(record, auxiliary.map_size):
        height, width = auxiliary.map_size
        say(f"Maps of {height}x{width} are too coarse for superpixels: trained without.")
        return None
    return Superpixels(record, auxiliary.map_size)


def _refuse_few(readable: int, skipped: Sequence[str]) -> None:
    reasons = "".join(f"\n  - {reason}" for reason in skipped[:5])
    message = (
        f"--preset few needs at least {MIN_PHOTOS} photos that can be read, and on which the "
        f"classifier's answer depends on what is hidden; there are at most {readable}. Give more "
        f"photos.{reasons}"
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
