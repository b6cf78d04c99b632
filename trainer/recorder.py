"""What the steps of a training showed, and how far it is."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trainer.module  # noqa: F401 - before Lightning: says how to install it
from ptame_deploy.errors import InvalidInputError
from trainer.data import Batch, BatchKeys, Skipped
from trainer.parallel import gather_names, rank, total_count, world_size

from lightning.pytorch import Callback, LightningModule, Trainer  # isort: skip

_LISTED = 20  # skipped photos that an error names
_POINTS = 400  # of the curve that is kept


@dataclass(frozen=True)
class StepReport:
    """What one step showed.

    Attributes:
        step: from 1.
        total: steps that are planned.
        terms: the loss and its terms by name.
        images_per_second: of all processes, since training (or this part of it) began.
    """

    step: int
    total: int
    terms: dict[str, float]
    images_per_second: float


class Recorder(Callback):
    """Keeps what the steps showed, counts how far training is, and stops it when asked to.

    Attributes:
        batches: that were dealt, those of an interrupted training included.
        steps: of the optimiser; batches of bad photos are none.
        first: loss terms of the first step.
        last: loss terms of the last one.
        curve: (steps, loss, cross-entropy, area, variation), means over neighbouring steps.
        stop_signal: the signal that asked training to stop, or 0.
    """

    def __init__(
        self,
        keys: BatchKeys,
        skipped: Skipped,
        on_step: Callable[[StepReport], None],
        accumulate: int = 1,
    ) -> None:
        self.keys = keys
        self.skipped = skipped
        self.on_step = on_step
        self.accumulate = accumulate
        self.total = -(-keys.total // accumulate)
        self.batches = self.steps = 0
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.curve: list[list[float]] = []
        self.stop_signal = 0
        self._every = max(1, self.total // _POINTS)
        self._recent: list[list[float]] = []
        self._usable = False  # whether any batch of the step could be used
        self._images = 0
        self._began = time.monotonic()

    @property
    def at_step(self) -> bool:
        """Whether the optimiser has used all that was computed: the place to stop or save."""
        return self.batches % self.accumulate == 0 or self.is_last

    @property
    def is_last(self) -> bool:
        """Whether all batches were dealt."""
        return self.batches == self.keys.total

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Take this process's part of the batches."""
        self.keys.part = (rank(), world_size())

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        self._began, self._images = time.monotonic(), 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Keep the step's loss terms, and the names of photos that it could not read."""
        self.batches += 1
        self.skipped.add(gather_names(batch.skipped, pl_module.device))
        self._images += total_count(len(batch.images), pl_module.device)
        terms = outputs["terms"] if outputs else None
        if terms is not None:  # else too few of the batch's photos could be read
            self.last = terms
            self.first = self.first or terms
            self._usable = True
        if self.at_step and self._usable:
            self._usable = False
            self.steps += 1
            self._keep(self.last)
            pace = self._images / max(time.monotonic() - self._began, 1e-9)
            self.on_step(StepReport(self.steps, self.total, self.last, pace))
        asked = trainer.strategy.reduce_boolean_decision(self.stop_signal != 0, all=False)
        if asked and self.at_step:
            self.stop_signal = self.stop_signal or signal.SIGINT  # another process was asked
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {
            "batches": self.batches,
            "steps": self.steps,
            "first": self.first,
            "last": self.last,
            "curve": self.curve,
            "recent": self._recent,
            "skipped": list(self.skipped.names),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.batches, self.steps = state_dict["batches"], state_dict["steps"]
        self.first, self.last = state_dict["first"], state_dict["last"]
        self.curve, self._recent = state_dict["curve"], state_dict["recent"]
        self.skipped.add(state_dict["skipped"])

    def finish(self) -> None:
        """Complete the curve, and refuse a training of no steps.

        Raises:
            InvalidInputError: no batch could be used.
        """
        if self.steps == 0:
            reasons = "\n".join(f"  - {reason}" for reason in list(self.skipped.names)[:_LISTED])
            message = f"None of the photos could be used; nothing was trained.\n{reasons}"
            raise InvalidInputError(message.rstrip())
        self._flush()

    def _keep(self, terms: dict[str, float]) -> None:
        self._recent.append([float(self.steps), *terms.values()])
        if len(self._recent) >= self._every:
            self._flush()

    def _flush(self) -> None:
        if self._recent:
            columns = zip(*self._recent, strict=True)
            self.curve.append([sum(column) / len(self._recent) for column in columns])
            self._recent = []
