"""Fitting an explainer on photos: the entry of everything that trains."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptame_deploy.artifacts import Start
from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer import ExplainerNet
from trainer.data import BatchKeys, PhotoBatches, load_batches
from trainer.loop import Precision, Recorder, StepReport, run, silenced
from trainer.module import ExplainerModule, OptimiserSettings
from trainer.presets import Preset
from trainer.start import (
    MAX_FIT_PHOTOS,
    MIN_FIT_PHOTOS,
    StartChoice,
    Started,
    choose_start,
    make_start,
)

_LISTED = 20  # skipped photos that the record names


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        preset: loss and weight decay.
        start: what training begins with.
        epochs: times that every photo is seen.
        max_steps: stop after so many steps, within an epoch too; None for no limit.
        batch_size: photos a step, at most.
        learning_rate: the cycle's peak.
        precision: of the networks' arithmetic; the loss is always computed in float32.
        workers: processes that decode photos; 0 for the training process itself.
        seed: of everything random.
    """

    preset: Preset
    start: StartChoice = "auto"
    epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-4
    precision: Precision = "fp32"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train.

        Raises:
            InvalidInputError: a number is out of its range.
        """
        lowest = {"epochs": 1, "max_steps": 1, "batch_size": 1, "workers": 0, "seed": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                message = f"--{name.replace('_', '-')} must be at least {least}, got {value}."
                raise InvalidInputError(message)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            message = f"--learning-rate must be a positive number, got {self.learning_rate:g}."
            raise InvalidInputError(message)


@dataclass(frozen=True)
class FitResult:
    """A trained explainer.

    Attributes:
        explainer: in eval mode, on the CPU.
        start: what it began with.
        record: how it was trained, for its manifest.
        first: loss terms of the first step.
        last: loss terms of the last step.
        skipped: photos that could not be read, each with the reason.
    """

    explainer: ExplainerNet
    start: Start
    record: dict[str, Any]
    first: dict[str, float]
    last: dict[str, float]
    skipped: list[str]


def _ignore(_: Any) -> None:
    pass


def fit(
    backbone: Backbone,
    auxiliary: Auxiliary,
    photos: Sequence[Path],
    settings: FitSettings,
    *,
    say: Callable[[str], None] = _ignore,
    on_step: Callable[[StepReport], None] = _ignore,
) -> FitResult:
    """Train an explainer. The same seed gives the same weights on the same machine's CPU.

    Args:
        backbone: the classifier that is explained; frozen.
        auxiliary: gives the features; frozen.
        photos: files; no labels are used. Those that cannot be read are skipped and named.
        settings: how to train.
        say: is told what is happening.
        on_step: is told what each step showed.

    Raises:
        InvalidInputError: none of the photos can be read, or too few for the settings.
        CheckFailedError: the loss became infinite or NaN.
        MemoryError: the batch does not fit.
    """
    began = time.monotonic()
    try:
        with torch.random.fork_rng(devices=[]), silenced():
            torch.manual_seed(settings.seed)
            started = _start(backbone, auxiliary, photos, settings, say)
            keys = BatchKeys(len(photos), settings.batch_size, seed=settings.seed)
            total = min(len(keys) * settings.epochs, settings.max_steps or 2**62)
            optimiser = OptimiserSettings(
                settings.learning_rate, settings.preset.weight_decay, total
            )
            module = ExplainerModule(
                backbone, auxiliary, started.explainer, settings.preset.loss, optimiser
            )
            _check_batch(module, min(settings.batch_size, len(photos)), auxiliary)
            recorder = Recorder(total, on_step, dict.fromkeys(started.skipped))
            say(f"Training on {len(photos)} photos, {total} steps ...")
            loader = load_batches(
                PhotoBatches(photos, backbone.preprocessing, augment=True),
                keys,
                workers=settings.workers,
            )
            device = run(
                module,
                loader,
                recorder,
                epochs=settings.epochs,
                max_steps=settings.max_steps,
                precision=settings.precision,
            )
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise MemoryError(str(error).split("\n", maxsplit=1)[0]) from error
        raise
    finally:
        backbone.module.cpu()
        auxiliary.cpu()
    recorder.check()
    record = {
        "preset": settings.preset.name,
        "loss_weights": asdict(settings.preset.loss),
        **started.record(),
        "optimiser": optimiser.record(),
        "epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "batch_size": settings.batch_size,
        "precision": settings.precision,
        "device": device,
        "steps": recorder.steps,
        "seconds": round(time.monotonic() - began, 1),
        "photos": len(photos),
        "skipped_photos": len(recorder.skipped),
        "skipped": list(recorder.skipped)[:_LISTED],
        "first_step": recorder.first,
        "last_step": recorder.last,
    }
    return FitResult(
        explainer=started.explainer.cpu().eval(),
        start=started.start,
        record=record,
        first=recorder.first,
        last=recorder.last,
        skipped=list(recorder.skipped),
    )


def _start(
    backbone: Backbone,
    auxiliary: Auxiliary,
    photos: Sequence[Path],
    settings: FitSettings,
    say: Callable[[str], None],
) -> Started:
    start = choose_start(settings.start, backbone, auxiliary)
    if start == "fit" and settings.start == "auto" and len(photos) < MIN_FIT_PHOTOS:
        say("One photo is too few to fit a start to: starting at random.")
        start = "random"
    chosen = list(photos)
    if start == "fit":
        if len(chosen) > MAX_FIT_PHOTOS:
            random = np.random.default_rng(settings.seed)
            picks = random.choice(len(chosen), MAX_FIT_PHOTOS, replace=False)
            chosen = [chosen[index] for index in sorted(picks)]
        if settings.start == "auto":
            say(f"The classes of {backbone.name} are not those of {auxiliary.name}.")
        say(f"Fitting {auxiliary.name}'s features to the classifier on {len(chosen)} photos ...")
        if torch.cuda.is_available():
            backbone.module.cuda()
            auxiliary.cuda()
    batches = load_batches(
        PhotoBatches(chosen, backbone.preprocessing, augment=False),
        BatchKeys(len(chosen), settings.batch_size, seed=settings.seed, shuffle=False),
        workers=settings.workers,
    )
    started = make_start(start, backbone, auxiliary, batches, seed=settings.seed)
    if started.fit is not None:
        say(f"  predicts {max(started.fit.r2, 0):.0%} of the logits' variance on photos left out")
    return started


def _check_batch(module: ExplainerModule, batch_size: int, auxiliary: Auxiliary) -> None:
    if batch_size < module.min_batch:
        message = (
            f"With one photo a step, BatchNorm needs features of more than one position, and "
            f"{auxiliary.label} ends in 1x1. Give more photos and "
            "--batch-size 2 or more, or a larger --auxiliary-size."
        )
        raise InvalidInputError(message)
