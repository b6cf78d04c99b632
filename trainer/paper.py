"""The paper's recipe: an explainer trained step by step with the masking loss."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import InvalidInputError
from trainer.data import BatchKeys, PhotoBatches, load_batches
from trainer.loop import Precision, Recorder, StepReport, run, silenced
from trainer.loss_weights import Loss
from trainer.module import ExplainerModule, OptimiserSettings
from trainer.networks import lent
from trainer.result import Trained
from trainer.start import StartChoice, start_on_photos

_LISTED = 20  # skipped photos that the record names


@dataclass(frozen=True)
class PaperSettings:
    """How to train.

    Attributes:
        loss: weights of its terms, and weight decay.
        start: what training begins with.
        epochs: times that every photo is seen.
        max_steps: stop after so many steps, within an epoch too; None for no limit.
        batch_size: photos a step, at most.
        learning_rate: the cycle's peak.
        precision: of the networks' arithmetic; the loss is always computed in float32.
        workers: processes that decode photos; 0 for the training process itself.
        seed: of everything random.
    """

    loss: Loss
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


def train(
    backbone: Backbone,
    auxiliary: Auxiliary,
    photos: Sequence[Path],
    settings: PaperSettings,
    *,
    say: Callable[[str], None] = lambda _: None,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> Trained:
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
    with lent(backbone, auxiliary), torch.random.fork_rng(devices=[]), silenced():
        torch.manual_seed(settings.seed)
        started = start_on_photos(
            backbone, auxiliary, photos, settings.start,
            batch_size=settings.batch_size, workers=settings.workers, seed=settings.seed,
            say=say,
        )  # fmt: skip
        keys = BatchKeys(len(photos), settings.batch_size, seed=settings.seed)
        total = min(len(keys) * settings.epochs, settings.max_steps or 2**62)
        optimiser = OptimiserSettings(settings.learning_rate, settings.loss.weight_decay, total)
        module = ExplainerModule(
            backbone, auxiliary, started.explainer, settings.loss.weights, optimiser
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
    recorder.check()
    record = {
        "preset": "paper",
        "loss": settings.loss.name,
        "loss_weights": asdict(settings.loss.weights),
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
    return Trained(
        explainer=started.explainer.cpu().eval(),
        start=started.start,
        record=record,
        skipped=list(recorder.skipped),
    )


def _check_batch(module: ExplainerModule, batch_size: int, auxiliary: Auxiliary) -> None:
    if batch_size < module.min_batch:
        message = (
            f"With one photo a step, BatchNorm needs features of more than one position, and "
            f"{auxiliary.label} ends in 1x1. Give more photos and "
            "--batch-size 2 or more, or a larger --auxiliary-size."
        )
        raise InvalidInputError(message)
