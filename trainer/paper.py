"""The paper's recipe: an explainer trained step by step with the masking loss."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer import ExplainerNet
from trainer.checkpoints import (
    Checkpointer,
    check_plan,
    plan_of,
    read_checkpoint,
    restore,
)
from trainer.data import Batch, BatchKeys, PhotoBatches, Skipped, load_batches, seen_photos
from trainer.loop import run, silenced
from trainer.module import ExplainerModule, OptimiserSettings
from trainer.networks import lent
from trainer.pace import MEASURED, judging_seconds, largest_paying_batch, steps_within
from trainer.paper_settings import PaperSettings, Place
from trainer.plan import plan, split_photos
from trainer.recorder import Recorder, StepReport
from trainer.result import SHOWN, Trained
from trainer.sources import Photo
from trainer.start import start_on_photos
from trainer.validation import Validation
from trainer.validator import ValidationReport, Validator

from lightning.pytorch import Callback  # isort: skip

LISTED = 20  # skipped photos that the record names
LOOKS = 10  # at the photos left out, where the user does not say when
LEAST_STEPS_BETWEEN_LOOKS = 20
_RESERVED = 0.05  # of a time budget, for what is not measured


def train(
    backbone: Backbone,
    auxiliary: Auxiliary,
    photos: Sequence[Photo],
    settings: PaperSettings,
    *,
    place: Place | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_step: Callable[[StepReport], None] = lambda _: None,
    on_validation: Callable[[ValidationReport], None] = lambda _: None,
) -> Trained:
    """Train an explainer. The same seed gives the same weights on the same machine's CPU.

    That holds for a training that was interrupted and resumed, too; and of several processes the
    joined batches' gradients are used, so that only rounding tells them from one.

    Args:
        backbone: the classifier that is explained; frozen.
        auxiliary: gives the features; frozen.
        photos: where they are; no labels are used. Those that cannot be read are skipped and named.
        settings: how to train.
        place: for checkpoints and logs; None to write nothing.
        say: is told what is happening.
        on_step: is told what each step showed.
        on_validation: is told what each look at the photos left out showed.

    Raises:
        InvalidInputError: too few of the photos can be read, or too few for the settings; there is
            no training to resume, or it is another one.
        ArtifactError: the checkpoint is corrupt.
        CheckFailedError: the loss became infinite or NaN.
        MemoryError: the batch does not fit.
        KeyboardInterrupt: training was asked to stop by Ctrl-C (SIGTERM is passed on); with a place
            it can be resumed.
    """
    began = time.monotonic()
    with lent(backbone, auxiliary), torch.random.fork_rng(devices=[]), silenced():
        torch.manual_seed(settings.seed)
        made = _Training(backbone, auxiliary, photos, settings, place, say)
        made.prepare(began, on_step, on_validation)
        device = made.run()
        return made.result(device, time.monotonic() - began)


class _Training:
    """One training: what it is made of, and how far it is."""

    def __init__(
        self,
        backbone: Backbone,
        auxiliary: Auxiliary,
        photos: Sequence[Photo],
        settings: PaperSettings,
        place: Place | None,
        say: Callable[[str], None],
    ) -> None:
        self.backbone = backbone
        self.auxiliary = auxiliary
        self.settings = settings
        self.place = place
        self.say = say
        self.photos, self.left_out = split_photos(photos, settings)
        self.skipped = Skipped(len(photos), settings.max_bad)
        self.asked = plan(backbone, auxiliary, photos, settings)
        self.checkpoint: dict[str, Any] | None = None
        if place is not None and place.resume:
            self.checkpoint = read_checkpoint(place.checkpoint)
            check_plan(place.checkpoint, plan_of(self.checkpoint), self.asked)

    def prepare(
        self,
        began: float,
        on_step: Callable[[StepReport], None],
        on_validation: Callable[[ValidationReport], None],
    ) -> None:
        """Make the start, decide on batches and steps, and set up who watches."""
        settings = self.settings
        self.images = self._images()
        if self.checkpoint is None:
            self.decided = self._decide(began)
        else:
            self.decided = plan_of(self.checkpoint)["decided"]
            self.module = self._module(ExplainerNet(**self.decided["shape"]))
        keys = self._keys(self.decided["batch_size"], self.decided["epochs"], self.decided["most"])
        self.recorder = Recorder(keys, self.skipped, on_step, settings.accumulate)
        self.callbacks: list[Callback] = [self.recorder]
        self.validator: Validator | None = None
        if len(self.images):
            every = max(LEAST_STEPS_BETWEEN_LOOKS, self.recorder.total // LOOKS)
            self.validator = Validator(
                Validation(self.module, self.images, self.decided["batch_size"]),
                self.recorder,
                start=self.decided["start_state"],
                every=settings.validate_every or every,
                patience=settings.patience,
                on_validation=on_validation,
            )
            self.callbacks.append(self.validator)
        if self.place is not None:
            whole = {**self.asked, "decided": self.decided}
            self.callbacks.append(
                Checkpointer(
                    self.place.checkpoint, self.recorder, whole, seconds=self.place.seconds
                )
            )

    def run(self) -> str:
        """Train, as far as it is not done yet.

        Returns:
            The kind of device that it ran on.

        Raises:
            KeyboardInterrupt: it was asked to stop.
        """
        recorder, checkpoint = self.recorder, self.checkpoint
        if checkpoint is not None:
            watching = [one for one in (recorder, self.validator) if one is not None]
            restore(checkpoint, *watching)
            self.module.load_state_dict(checkpoint["state_dict"], strict=False)
            recorder.keys.first = recorder.batches
            self.module.resumed_at = recorder.steps
            self.say(f"Going on after step {recorder.steps} of {recorder.total} ...")
            if self._is_over:
                return str(self.decided["device"])
        else:
            self.say(f"Training on {len(self.photos)} photos, {recorder.total} steps ...")
        device = run(
            self.module,
            self._loader(recorder.keys),
            self.callbacks,
            recorder,
            self.settings.hardware,
            logs=None if self.place is None else self.place.logs,
            checkpoint=None if checkpoint is None or self.place is None else self.place.checkpoint,
        )
        if recorder.stop_signal and not self._is_over:
            kept = "" if self.place is None else "; add --resume to go on from here"
            self.say(f"Stopped after step {recorder.steps} of {recorder.total}{kept}.")
            if recorder.stop_signal == signal.SIGTERM:
                signal.raise_signal(signal.SIGTERM)  # whoever waits for it
            raise KeyboardInterrupt
        return device

    @property
    def _is_over(self) -> bool:
        early = self.validator is not None and self.validator.stopped_early
        return early or self.recorder.is_last

    def result(self, device: str, seconds: float) -> Trained:
        """Describe what came out."""
        settings, recorder, validator = self.settings, self.recorder, self.validator
        recorder.finish()
        skipped = list(self.skipped.names)
        agreement = None if validator is None else validator.agreement
        record = {
            "preset": "paper",
            "loss": settings.loss.name,
            "loss_weights": asdict(settings.loss.weights),
            **self.decided["start"],
            "optimiser": self.module.optimiser.record(),
            "epochs": self.decided["epochs"],
            "max_steps": settings.max_steps,
            "batch_size": self.decided["batch_size"],
            "accumulate": settings.accumulate,
            "precision": settings.hardware.precision,
            "device": device,
            "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
            "devices": settings.hardware.devices,
            "steps": recorder.steps,
            "seconds": round(seconds, 1),
            "resumed": self.checkpoint is not None,
            "photos": len(self.photos) + len(self.left_out),
            "photos_left_out": len(self.left_out),
            "skipped_photos": len(skipped),
            "skipped": skipped[:LISTED],
            "first_step": recorder.first,
            "last_step": recorder.last,
            "curve": recorder.curve,
            **({} if validator is None else validator.record()),
        }
        return Trained(
            explainer=self.module.explainer.cpu().eval(),
            start=self.decided["start"]["start"],
            record=record,
            skipped=skipped,
            gain=None if validator is None else validator.gain,
            own_answers=None if agreement is None else agreement.own,
            other_classes=None if agreement is None else agreement.others,
            started=self._started(),
            shown=self.images[:SHOWN],
        )

    def _started(self) -> ExplainerNet:
        explainer = ExplainerNet(**self.decided["shape"])
        explainer.load_state_dict(self.decided["start_state"])
        return explainer.eval()

    def _decide(self, began: float) -> dict[str, Any]:
        """Make the start, and fix what a resumed training must not decide anew."""
        settings = self.settings
        started = start_on_photos(
            self.backbone, self.auxiliary, self.photos, settings.start,
            batch_size=settings.batch_size or 32, workers=settings.workers, seed=settings.seed,
            say=self.say,
        )  # fmt: skip
        self.skipped.add(started.skipped)
        self.module = self._module(started.explainer)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        batch_size, epochs, most = settings.batch_size, settings.epochs or 1, settings.max_steps
        if batch_size is None:
            size = self.backbone.preprocessing.input_size
            batch_size = largest_paying_batch(
                self.module, size, len(self.photos), device, precision=settings.hardware.precision
            )
            self.say(f"Batches of {batch_size} photos are the largest that pay here.")
        self._check_batch(min(batch_size, len(self.photos)))
        if settings.time_budget is not None:
            left = settings.time_budget * (1 - _RESERVED) - (time.monotonic() - began)
            if len(self.images):
                validation = Validation(self.module, self.images, batch_size)
                left -= judging_seconds(validation, device, looks=LOOKS)
            keys = self._keys(batch_size, MEASURED + 1, None)  # a batch an epoch is enough then
            fitting = steps_within(
                self.module, self._loader(keys), left, device,
                precision=settings.hardware.precision, accumulate=settings.accumulate,
            )  # fmt: skip
            most = min(fitting, most or fitting)
            if settings.epochs is None:
                epochs = -(-most * settings.accumulate // keys.batches_per_epoch)
            self.say(f"{most} steps fit the time.")
        self.module.cpu()
        most_batches = None if most is None else most * settings.accumulate
        total = -(-self._keys(batch_size, epochs, most_batches).total // settings.accumulate)
        self.module.optimiser = replace(self.module.optimiser, total_steps=total)
        explainer = started.explainer
        return {
            "batch_size": batch_size,
            "epochs": epochs,
            "most": most_batches,
            "total_steps": total,
            "device": device.type,
            "start": started.record(),
            "start_state": {n: v.clone() for n, v in explainer.state_dict().items()},
            "shape": {"channels": explainer.channels, "num_classes": explainer.num_classes},
        }

    def _module(self, explainer: ExplainerNet) -> ExplainerModule:
        total = 1 if self.checkpoint is None else self.decided["total_steps"]
        optimiser = OptimiserSettings(
            self.settings.learning_rate, self.settings.loss.weight_decay, total
        )
        weights = self.settings.loss.weights
        return ExplainerModule(self.backbone, self.auxiliary, explainer, weights, optimiser)

    def _keys(self, batch_size: int, epochs: int, most: int | None) -> BatchKeys:
        seed = self.settings.seed
        return BatchKeys(len(self.photos), batch_size, seed=seed, epochs=epochs, most=most)

    def _loader(self, keys: BatchKeys) -> "DataLoader[Batch]":
        photos = PhotoBatches(self.photos, self.backbone.preprocessing, augment=True)
        return load_batches(photos, keys, workers=self.settings.workers)

    def _images(self) -> NDArray[np.uint8]:
        """Read the photos left out, (N, H, W, 3), as the classifier sees them."""
        if not self.left_out:
            return np.empty((0, 1, 1, 3), np.uint8)
        found = []
        for images, unreadable in seen_photos(
            self.left_out, self.backbone.preprocessing, batch_size=32,
            workers=self.settings.workers,
        ):  # fmt: skip
            self.skipped.add(unreadable)
            found.append(images)
        return np.concatenate(found)

    def _check_batch(self, batch_size: int) -> None:
        if batch_size < self.module.min_batch:
            message = (
                f"With one photo a batch, BatchNorm needs features of more than one position, and "
                f"{self.auxiliary.label} ends in 1x1. Give more photos and "
                "--batch-size 2 or more, or a larger --auxiliary-size."
            )
            raise InvalidInputError(message)
