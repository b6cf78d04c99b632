"""Lightning's loop, kept quiet: it trains, keeps checkpoints and logs, and stops when asked to."""

import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from torch.utils.data import DataLoader

from ptame_deploy.errors import InvalidInputError
from trainer.data import Batch, BatchKeys, Skipped
from trainer.hardware import Hardware, Precision
from trainer.module import ExplainerModule  # before Lightning: says how to install it
from trainer.parallel import gather_names, rank, total_count, world_size

from lightning.pytorch import Callback, LightningModule, Trainer  # isort: skip
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger  # isort: skip

_LIGHTNING_PRECISION: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")
_LISTED = 20  # skipped photos that an error names
_POINTS = 400  # of the curve that is kept
_LOGGED = 2000  # lines of a log, at most


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


def run(
    module: ExplainerModule,
    loader: "DataLoader[Batch]",
    callbacks: list[Callback],
    recorder: Recorder,
    hardware: Hardware,
    *,
    logs: Path | None,
    checkpoint: Path | None,
) -> str:
    """Run Lightning over a loader once; its epochs are the loader's own affair.

    Args:
        module: what is trained, in place.
        loader: its batches.
        callbacks: are told what happens, in this order.
        recorder: one of them; Ctrl-C and SIGTERM set its ``stop_signal``, and training stops after
            the step. A second Ctrl-C stops at once.
        hardware: what to run on.
        logs: folder of CSV and TensorBoard logs, or None.
        checkpoint: to go on from, or None.

    Returns:
        The kind of device that it ran on.

    Raises:
        KeyboardInterrupt: it was interrupted twice.
    """
    trainer = Trainer(
        accelerator="auto",
        devices=hardware.devices,
        strategy="ddp" if hardware.devices > 1 else "auto",
        precision=_LIGHTNING_PRECISION[hardware.precision],
        max_epochs=1,
        accumulate_grad_batches=recorder.accumulate,
        callbacks=callbacks,
        use_distributed_sampler=False,
        logger=[] if logs is None else _loggers(logs),
        log_every_n_steps=max(1, recorder.total // _LOGGED),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    device = trainer.strategy.root_device.type
    noticed = _Noticed()
    trainer.callbacks.append(noticed)  # type: ignore[attr-defined]
    with _asked_to_stop(recorder), _interrupts_propagate(noticed):
        trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
    return device


class _Noticed(Callback):
    """Notices an interrupt, which Lightning does not pass on."""

    interrupted = False

    def on_exception(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        exception: BaseException,
    ) -> None:
        self.interrupted = isinstance(exception, KeyboardInterrupt)


def _loggers(folder: Path) -> list[Logger]:
    """Return a CSV log, and TensorBoard's where it is installed; each start has its own files."""
    part = sum(1 for _ in folder.glob("part_*")) if folder.is_dir() else 0
    version = f"part_{part}"
    loggers: list[Logger] = [CSVLogger(folder.parent, folder.name, version=version)]
    with suppress(ModuleNotFoundError):  # the CSV file holds the same numbers
        loggers.append(TensorBoardLogger(folder.parent, folder.name, version=version))
    return loggers


@contextmanager
def _asked_to_stop(recorder: Recorder) -> Iterator[None]:
    """Turn the first Ctrl-C, or SIGTERM, into a wish to stop after the step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if recorder.stop_signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        recorder.stop_signal = number

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _interrupts_propagate(noticed: _Noticed) -> Iterator[None]:
    """Let Ctrl-C through: Lightning exits with its own code, or returns as if it were done.

    Raises:
        KeyboardInterrupt: training was interrupted.
    """
    try:
        yield
    except SystemExit:
        if not noticed.interrupted:
            raise
    if noticed.interrupted:
        raise KeyboardInterrupt


@contextmanager
def silenced() -> Iterator[None]:
    """Keep Lightning's tips and warnings to itself; what matters is said by ptame."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
