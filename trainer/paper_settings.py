"""What the paper's recipe can be told."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from ptame_deploy.errors import InvalidInputError
from trainer.data import Skipped
from trainer.hardware import Hardware
from trainer.loss_weights import Loss
from trainer.start import StartChoice


@dataclass(frozen=True)
class PaperSettings:
    """How to train.

    Attributes:
        loss: weights of its terms, and weight decay.
        start: what training begins with.
        epochs: times that every photo is seen; None for once, or as often as the time allows.
        max_steps: stop after so many steps, within an epoch too; None for no limit.
        batch_size: photos a batch, at most; None for the largest that pays on this machine.
        accumulate: batches a step.
        learning_rate: the cycle's peak.
        time_budget: seconds that training may take; the cycle is made to fit. None for no limit.
        validation: photos left out to judge on; None for every tenth, up to 200.
        validate_every: steps between two looks at them; None for ten looks.
        patience: looks without a new best until training is stopped; None for never.
        max_bad: see `trainer.data.Skipped`.
        hardware: what to run on.
        workers: processes that decode photos; 0 for the training process itself.
        seed: of everything random.
    """

    loss: Loss
    start: StartChoice = "auto"
    epochs: int | None = None
    max_steps: int | None = None
    batch_size: int | None = 32
    accumulate: int = 1
    learning_rate: float = 1e-4
    time_budget: float | None = None
    validation: int | None = None
    validate_every: int | None = None
    patience: int | None = None
    max_bad: float | None = None
    hardware: Hardware = field(default_factory=Hardware)
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train.

        Raises:
            InvalidInputError: a number is out of its range, or settings exclude each other.
        """
        lowest = {
            "epochs": 1, "max_steps": 1, "batch_size": 1, "accumulate": 1, "validation": 0,
            "validate_every": 1, "patience": 1, "workers": 0, "seed": 0,
        }  # fmt: skip
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                message = f"--{name.replace('_', '-')} must be at least {least}, got {value}."
                raise InvalidInputError(message)
        for name in ("learning_rate", "time_budget"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                message = f"--{name.replace('_', '-')} must be a positive number, got {value:g}."
                raise InvalidInputError(message)
        if self.hardware.devices > 1 and (self.batch_size is None or self.time_budget is not None):
            message = (
                "--auto-batch and --time-budget measure one process. Measure with --devices 1, and "
                "give the result as --batch-size and --max-steps."
            )
            raise InvalidInputError(message)
        if self.patience is not None and self.validation == 0:
            message = "--patience needs photos to look at: leave --validation 0 away."
            raise InvalidInputError(message)
        Skipped(0, self.max_bad)


@dataclass(frozen=True)
class Place:
    """Where a training keeps what it needs to go on, and its logs.

    Attributes:
        folder: made if need be.
        resume: go on with the training that is there.
        seconds: between two checkpoints.
    """

    folder: Path
    resume: bool = False
    seconds: float = 60.0

    @property
    def checkpoint(self) -> Path:
        """The file that a training goes on from."""
        return self.folder / "last.ckpt"

    @property
    def logs(self) -> Path:
        """The folder of the logs."""
        return self.folder / "logs"
