"""Lightning's loop, kept quiet: it trains and reports, writes no files and lets Ctrl-C through."""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch.utils.data import DataLoader

from ptame_deploy.errors import InvalidInputError
from trainer.data import Batch
from trainer.module import ExplainerModule  # before Lightning: says how to install it

from lightning.pytorch import Callback, LightningModule, Trainer  # isort: skip

Precision = Literal["fp32", "bf16"]
_LIGHTNING_PRECISION: dict[Precision, Literal["32-true", "bf16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
}
_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")
_LISTED = 20  # skipped photos that an error names


@dataclass(frozen=True)
class StepReport:
    """What one step showed.

    Attributes:
        step: from 1.
        total: steps that are planned.
        terms: the loss and its terms by name.
    """

    step: int
    total: int
    terms: dict[str, float]


class Recorder(Callback):
    """Keeps what the steps showed, and notices an interrupt."""

    def __init__(
        self, total: int, on_step: Callable[[StepReport], None], skipped: dict[str, None]
    ) -> None:
        self.total = total
        self.on_step = on_step
        self.steps = 0
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.skipped = skipped  # an ordered set: every epoch meets the same files again
        self.interrupted = False

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Keep the step's loss terms, and the names of photos that it could not read."""
        self.skipped.update(dict.fromkeys(batch.skipped))
        if not outputs:  # too few of the batch's photos could be read
            return
        self.steps += 1
        self.last = outputs["terms"]
        self.first = self.first or self.last
        self.on_step(StepReport(self.steps, self.total, self.last))

    def on_exception(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        exception: BaseException,
    ) -> None:
        """Notice an interrupt, which Lightning does not pass on."""
        self.interrupted = isinstance(exception, KeyboardInterrupt)

    def check(self) -> None:
        """Refuse a training of no steps.

        Raises:
            InvalidInputError: no batch could be used.
        """
        if self.steps == 0:
            reasons = "\n".join(f"  - {reason}" for reason in list(self.skipped)[:_LISTED])
            message = f"None of the photos could be used; nothing was trained.\n{reasons}"
            raise InvalidInputError(message.rstrip())


def run(
    module: ExplainerModule,
    loader: "DataLoader[Batch]",
    recorder: Recorder,
    *,
    epochs: int,
    max_steps: int | None,
    precision: Precision,
) -> str:
    """Run Lightning, which writes nothing.

    Args:
        module: what is trained, in place.
        loader: its batches.
        recorder: is told what the steps showed.
        epochs: times that the loader is gone through.
        max_steps: stop after so many, or None.
        precision: of the networks' arithmetic.

    Returns:
        The kind of device that it ran on.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        precision=_LIGHTNING_PRECISION[precision],
        max_epochs=epochs,
        max_steps=max_steps or -1,
        callbacks=[recorder],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    device = trainer.strategy.root_device.type
    with _interrupts_propagate(recorder):
        trainer.fit(module, loader)
    return device


@contextmanager
def _interrupts_propagate(recorder: Recorder) -> Iterator[None]:
    """Let Ctrl-C through: Lightning exits with its own code, or returns as if it were done.

    Raises:
        KeyboardInterrupt: training was interrupted.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not recorder.interrupted:
            raise
    finally:
        if in_main_thread:  # Lightning ignores the signal from the first one on
            signal.signal(signal.SIGINT, handler)
    if recorder.interrupted:
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
