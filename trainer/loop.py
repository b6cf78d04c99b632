"""Lightning's loop, kept quiet: it trains, keeps checkpoints and logs, and stops when asked to."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Literal

from torch.utils.data import DataLoader

from trainer.data import Batch
from trainer.hardware import Hardware, Precision
from trainer.module import ExplainerModule  # before Lightning: says how to install it
from trainer.recorder import Recorder

from lightning.pytorch import Callback, LightningModule, Trainer  # isort: skip
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger  # isort: skip

_LIGHTNING_PRECISION: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")
_LOGGED = 2000  # lines of a log, at most


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
