"""A bounded search over the loss weights, for classifiers that the paper's sets do not fit.

Every trial is a short training with other weights on the same photos. What counts is what counts in
`trainer.validation`: the contrast-matched average drop at 50 % on the same photos left out. The
paper's own sets are tried first, so that what is found is never worse than they are there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import (
    ArtifactError,
    CheckFailedError,
    InvalidInputError,
    MissingRequirementError,
)
from ptame_deploy.storage import writable
from trainer.checkpoints import check_plan
from trainer.loss_weights import LOSSES, Loss, LossWeights, write_loss
from trainer.paper import train
from trainer.paper_settings import PaperSettings
from trainer.plan import plan
from trainer.sources import Photo
from trainer.validator import ValidationReport

try:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as error:
    _message = f'Tuning needs Optuna ({error}). Install it: pip install "ptame-deploy[train]"'
    raise MissingRequirementError(_message) from error

STUDY, LOSS_FILE = "study.log", "loss.json"
_NAME, _PLAN, _START, _DIVERGED = "loss weights", "plan", "start", "diverged"
# The paper's sets lie well within these bounds; all but power and border are searched by magnitude.
_CROSS_ENTROPY, _AREA, _VARIATION = (0.01, 3.0), (0.05, 3.0), (1e-6, 1e-2)
_WEIGHT_DECAY, _POWER, _BORDER = (1e-5, 0.3), (0.2, 1.0), (0.0, 0.5)


@dataclass(frozen=True)
class TrialReport:
    """What one trial showed.

    Attributes:
        number: from 1.
        loss: what was tried.
        drop: the contrast-matched average drop at 50 % in percent, lower is better; None where
            the trial was given up early, or diverged.
        best: the lowest drop so far, None where there is none yet.
    """

    number: int
    loss: Loss
    drop: float | None
    best: float | None


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        loss: the best weights.
        drop: their average drop on the photos left out, in percent.
        start: that of the start, before any training.
        trials: that were made, those that were given up included.
    """

    loss: Loss
    drop: float
    start: float
    trials: int


def tune(
    backbone: Backbone,
    auxiliary: Auxiliary,
    photos: Sequence[Photo],
    settings: PaperSettings,
    folder: Path,
    *,
    trials: int,
    resume: bool = False,
    on_trial: Callable[[TrialReport], None] = lambda _: None,
) -> Tuned:
    """Search, and write the best weights to ``loss.json``.

    Finished trials are kept at once: a kill loses the one that is running.

    Args:
        backbone: the classifier that is explained; frozen.
        auxiliary: gives the features; frozen.
        photos: where they are; no labels are used.
        settings: of every trial; its loss is replaced.
        folder: of the search's files; made if need be.
        trials: how many in all, those of an interrupted search included.
        resume: go on with the search that is there.
        on_trial: is told what each trial showed.

    Raises:
        InvalidInputError: no photos are left out, fewer trials than the paper's sets, a search that
            is there already, none to resume, or another one.
        ArtifactError: the search's file is corrupt.
        CheckFailedError: no trial came to its end.
    """
    if trials < len(LOSSES):
        message = f"--trials must be at least {len(LOSSES)}, the paper's sets, got {trials}."
        raise InvalidInputError(message)
    asked = plan(backbone, auxiliary, photos, settings)
    del asked["loss"]  # it is what is searched
    study = _open(folder, asked, settings.seed, resume=resume)

    search = _Search(study, backbone, auxiliary, photos, settings, on_trial)
    left = trials - len(_finished(study))
    if left > 0:
        # A diverging training is a trial's outcome, not the search's.
        study.optimize(search, n_trials=left, catch=(CheckFailedError,), callbacks=[search.told])
    complete = [one for one in _finished(study) if one.state == TrialState.COMPLETE]
    if not complete:
        message = "No trial came to its end: all diverged. Use a smaller --learning-rate."
        raise CheckFailedError(message)
    found = Tuned(
        _loss(study.best_params), study.best_value, study.user_attrs[_START], len(_finished(study))
    )
    write_loss(folder / LOSS_FILE, found.loss)
    return found


@dataclass(frozen=True)
class _Search:
    """What Optuna calls: one training, and word of its outcome."""

    study: optuna.Study
    backbone: Backbone
    auxiliary: Auxiliary
    photos: Sequence[Photo]
    settings: PaperSettings
    on_trial: Callable[[TrialReport], None]

    def __call__(self, trial: Trial) -> float:
        settings = replace(self.settings, loss=_suggest(trial))

        def look(report: ValidationReport) -> None:
            if report.step == 0:
                self.study.set_user_attr(_START, report.drop)
            trial.report(report.drop, report.step)
            if report.step and trial.should_prune():
                raise optuna.TrialPruned

        try:
            result = train(self.backbone, self.auxiliary, self.photos, settings, on_validation=look)
        except CheckFailedError:
            trial.set_user_attr(_DIVERGED, True)  # noqa: FBT003 (its value)
            raise
        if result.gain is None:
            message = "No photos are left out to judge by: give more, or say --validation N."
            raise InvalidInputError(message)
        return result.gain.trained.mean

    def told(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Pass on what a trial showed."""
        done = _finished(study)
        best = min((one.value for one in done if one.value is not None), default=None)
        drop = trial.value if trial.state == TrialState.COMPLETE else None
        self.on_trial(TrialReport(len(done), _loss(trial.params), drop, best))


def _open(folder: Path, asked: dict[str, Any], seed: int, *, resume: bool) -> optuna.Study:
    """Open the search's file, and make it go through the paper's sets first."""
    path = folder / STUDY
    if path.exists() != resume:
        message = (
            f"There is no search to go on with: {path} does not exist. Leave --resume away."
            if resume
            else f"{folder} holds a search: add --resume to go on with it, or choose another -o."
        )
        raise InvalidInputError(message)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            study = optuna.create_study(
                study_name=_NAME,
                storage=JournalStorage(JournalFileBackend(str(path))),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=len(LOSSES) + 2),
                load_if_exists=True,
            )
            made = study.user_attrs.get(_PLAN)
        except OSError:
            raise
        except Exception as error:  # its reader raises almost anything on foreign bytes
            message = f"{path} is no search of ptame tune, or corrupt ({error}). Remove it."
            raise ArtifactError(message) from error
    # Another seed each time: the same one would try the same weights again after a resume.
    study.sampler = optuna.samplers.TPESampler(seed=seed + 100_003 * len(_finished(study)))
    if made is None:
        study.set_user_attr(_PLAN, asked)
    else:
        check_plan(path, made, asked)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # a kill left it
    tried = [one.params for one in _finished(study)]
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    queued = [one.system_attrs.get("fixed_params") for one in waiting]
    for loss in LOSSES.values():
        parameters = _parameters(loss)
        if parameters not in tried and parameters not in queued:
            study.enqueue_trial(parameters)
    return study


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count: completed, given up or diverged; not those a kill ended."""
    return [
        one
        for one in study.get_trials(deepcopy=False)
        if one.state in (TrialState.COMPLETE, TrialState.PRUNED)
        or one.user_attrs.get(_DIVERGED, False)
    ]


def _suggest(trial: Trial) -> Loss:
    parameters: dict[str, Any] = {
        "cross_entropy": trial.suggest_float("cross_entropy", *_CROSS_ENTROPY, log=True),
        "area": trial.suggest_float("area", *_AREA, log=True),
        "area_power": trial.suggest_float("area_power", *_POWER),
        "weight_decay": trial.suggest_float("weight_decay", *_WEIGHT_DECAY, log=True),
        "smooth": trial.suggest_categorical("smooth", [False, True]),
    }
    if parameters["smooth"]:
        parameters["variation"] = trial.suggest_float("variation", *_VARIATION, log=True)
        parameters["border_weight"] = trial.suggest_float("border_weight", *_BORDER)
    return _loss(parameters)


def _loss(parameters: dict[str, Any]) -> Loss:
    known = next((one for one in LOSSES.values() if _parameters(one) == parameters), None)
    if known is not None:
        return known
    weights = LossWeights(
        cross_entropy=parameters["cross_entropy"],
        area=parameters["area"],
        variation=parameters.get("variation", 0.0),
        area_power=parameters["area_power"],
        border_weight=parameters.get("border_weight", 0.0),
    )
    return Loss("tuned", weights, parameters["weight_decay"])


def _parameters(loss: Loss) -> dict[str, Any]:
    weights = loss.weights
    found: dict[str, Any] = {
        "cross_entropy": weights.cross_entropy,
        "area": weights.area,
        "area_power": weights.area_power,
        "weight_decay": loss.weight_decay,
        "smooth": weights.variation > 0,
    }
    if weights.variation > 0:
        found |= {"variation": weights.variation, "border_weight": weights.border_weight}
    return found
