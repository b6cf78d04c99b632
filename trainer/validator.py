"""Judges the explainer while it trains, and stops a training that gets no better."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ptame_deploy.explainer import ExplainerNet
from trainer.class_agreement import ClassAgreement
from trainer.module import ExplainerModule
from trainer.recorder import Recorder
from trainer.result import Gain
from trainer.validation import Judged, Validation, compare, decisive

from lightning.pytorch import Callback, LightningModule, Trainer  # isort: skip


@dataclass(frozen=True)
class ValidationReport:
    """One look at the photos left out.

    Attributes:
        step: after which it was taken; 0 for the start.
        judged: by form; all at the decisive percentage.
    """

    step: int
    judged: list[Judged]

    @property
    def drop(self) -> float:
        """The mean that decides, in percent; lower is better."""
        return float(decisive(self.judged).mean())

    def record(self) -> dict[str, Any]:
        """Describe the means for a manifest and a checkpoint."""
        return {
            "step": self.step,
            "measures": [
                {
                    "percent": one.percent,
                    "contrast_matched": one.matched,
                    "average_drop": float(one.drop.mean()),
                    "increase": float(one.increase.mean()),
                }
                for one in self.judged
            ],
        }


class Validator(Callback):
    """Judges every so many steps and keeps the best weights.

    Attributes:
        history: what was found, as records; the first is the start's.
        stopped_early: whether it stopped training.
        gain: what training gained, once it is over.
        agreement: of maps with scores of masked copies, once it is over.
        taken: step of the weights that were kept: the last, or the best where it stopped early.
    """

    def __init__(
        self,
        validation: Validation,
        recorder: Recorder,
        *,
        start: Mapping[str, torch.Tensor],
        every: int,
        patience: int | None,
        on_validation: Callable[[ValidationReport], None],
    ) -> None:
        """Prepare.

        Args:
            validation: judges.
            recorder: knows where steps end; must be called before this.
            start: the start's weights, which the outcome is compared with.
            every: steps between two looks.
            patience: looks without a new best until training is stopped; None for never.
            on_validation: is told what was found.
        """
        self.validation = validation
        self.recorder = recorder
        self.every = every
        self.patience = patience
        self.on_validation = on_validation
        self.start = dict(start)
        self.history: list[dict[str, Any]] = []
        self.stopped_early = False
        self.gain: Gain | None = None
        self.agreement: ClassAgreement | None = None
        self.taken: int | None = None
        self._measures: dict[str, list[dict[str, Any]]] = {}
        self._best: tuple[float, int, dict[str, torch.Tensor]] | None = None
        self._looks_since = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the start, unless training goes on from a checkpoint."""
        if not self.history:
            self._look(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Judge where it is time to."""
        recorder = self.recorder
        if not recorder.at_step:
            return
        is_last = recorder.is_last
        is_new = self.history[-1]["step"] != recorder.steps  # bad photos alone make no step
        if is_new and (is_last or recorder.steps % self.every == 0):
            self._look(trainer, pl_module)
        if is_last or self.stopped_early:
            self._conclude(pl_module)

    def record(self) -> dict[str, Any]:
        """Describe what was found, for a manifest."""
        return {
            "validation": self.history,
            "measures": self._measures,
            "stopped_early": self.stopped_early,
            "weights_of_step": self.taken,
            "gain": None if self.gain is None else self.gain.record(),
            **({} if self.agreement is None else self.agreement.record()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        assert self._best is not None
        return {
            "history": self.history,
            "stopped_early": self.stopped_early,
            "best": list(self._best),
            "looks_since": self._looks_since,
            "measures": self._measures,
            "taken": self.taken,
            "gain": None if self.gain is None else self.gain.record(),
            "agreement": None if self.agreement is None else self.agreement.record(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.history = state_dict["history"]
        self.stopped_early = state_dict["stopped_early"]
        drop, step, state = state_dict["best"]
        self._best = (drop, step, state)
        self._looks_since = state_dict["looks_since"]
        self._measures, self.taken = state_dict["measures"], state_dict["taken"]
        gain = state_dict["gain"]
        self.gain = None if gain is None else Gain.from_record(gain)
        kept = state_dict.get("agreement")  # older ones have none
        self.agreement = None if kept is None else ClassAgreement.from_record(kept)

    def _conclude(self, module: LightningModule) -> None:
        """Take the weights that are to stay, and compare them with start and floors."""
        assert isinstance(module, ExplainerModule)
        assert self._best is not None
        self.taken = self.recorder.steps
        if self.stopped_early:
            _, self.taken, state = self._best
            module.explainer.load_state_dict(state)
        explainer = module.explainer
        start = ExplainerNet(explainer.channels, explainer.num_classes).to(module.device)
        start.load_state_dict(self.start)
        judged = self.validation.judge_all(
            {
                "start": self.validation.explainer_maps(start),
                "trained": self.validation.explainer_maps(explainer),
                **self.validation.floor_maps(seed=0),
            }
        )
        self.gain = compare(judged["start"], judged["trained"])
        self.agreement = self.validation.agreement(explainer)
        self._measures = {name: [one.record() for one in rows] for name, rows in judged.items()}

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, ExplainerModule)
        maps = self.validation.explainer_maps(module.explainer)
        report = ValidationReport(self.recorder.steps, self.validation.judge(maps))
        record = report.record()
        self.history.append(record)
        for one in record["measures"]:
            form = "matched" if one["contrast_matched"] else "published"
            names = {f"validation/{n}_{form}": one[n] for n in ("average_drop", "increase")}
            for logger in trainer.loggers:
                logger.log_metrics(names, step=self.recorder.steps)
        self.on_validation(report)
        if self._best is None or report.drop < self._best[0]:
            state = {n: v.detach().cpu().clone() for n, v in module.explainer.state_dict().items()}
            self._best = (report.drop, self.recorder.steps, state)
            self._looks_since = 0
        else:
            self._looks_since += 1
        if self.patience is not None and self._looks_since >= self.patience:
            self.stopped_early = trainer.should_stop = True
