"""What a training leaves behind to be gone on with, and how it is taken up again."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ptame_deploy.errors import ArtifactError, InvalidInputError, reason_of
from ptame_deploy.storage import atomic_file
from trainer.parallel import rank
from trainer.recorder import Recorder

from lightning.pytorch import Callback, LightningModule, Trainer  # isort: skip

_KEY = "ptame"


class Checkpointer(Callback):
    """Saves after a step, now and then and at the end."""

    def __init__(
        self, path: Path, recorder: Recorder, plan: Mapping[str, Any], *, seconds: float
    ) -> None:
        """Prepare to save.

        Args:
            path: the file, which is replaced.
            recorder: knows where steps end; must be called before this.
            plan: what the training is; it must be the same when it goes on.
            seconds: between two checkpoints.
        """
        self.path = path
        self.recorder = recorder
        self.plan = dict(plan)
        self.seconds = seconds
        self._saved = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Save where it is time to."""
        if not self.recorder.at_step:  # in between, gradients would be lost
            return
        ends = self.recorder.is_last or trainer.should_stop
        due = ends or time.monotonic() - self._saved >= self.seconds
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            if rank() == 0:
                with atomic_file(self.path) as temporary:
                    trainer.save_checkpoint(temporary)
            else:
                trainer.save_checkpoint(self.path)  # takes part, and writes nothing
            self._saved = time.monotonic()

    def on_save_checkpoint(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Add what the training is."""
        checkpoint[_KEY] = self.plan


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; no code in it is run.

    Raises:
        InvalidInputError: there is none.
        ArtifactError: it is corrupt, or not one of ours.
    """
    if not path.is_file():
        message = f"There is no training to go on with: {path} does not exist. Leave --resume away."
        raise InvalidInputError(message)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        plan = checkpoint[_KEY]
        dict(plan)
        dict(checkpoint["callbacks"])
        dict(checkpoint["state_dict"])
    except Exception as error:  # unpickling foreign bytes raises almost anything
        reason = reason_of(error)
        message = f"{path} is no checkpoint of ptame train, or corrupt ({reason}). Remove it."
        raise ArtifactError(message) from error
    return checkpoint  # type: ignore[no-any-return]


def plan_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the training of a checkpoint is."""
    return dict(checkpoint[_KEY])


def check_plan(path: Path, made: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to go on with another training than the checkpoint's.

    Args:
        path: of the checkpoint.
        made: the checkpoint's plan.
        asked: what must be the same now.

    Raises:
        InvalidInputError: it is not.
    """
    for name, value in asked.items():
        if name not in made or made[name] != value:
            message = (
                f"{path} belongs to another training: {name} was {made.get(name)!r}, now it is "
                f"{value!r}. Give the same command as before, or another -o."
            )
            raise InvalidInputError(message)


def restore(checkpoint: Mapping[str, Any], *callbacks: Callback) -> None:
    """Give callbacks their state back without running Lightning."""
    for callback in callbacks:
        callback.load_state_dict(checkpoint["callbacks"][callback.state_key])


def fingerprint(items: object) -> str:
    """Hash what can be written as JSON, to compare without keeping it."""
    text = json.dumps(items, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
