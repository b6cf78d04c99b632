"""All methods by name, and making the chosen ones for one classifier."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.graphs import BenchGraphs
from bench.measures.judge import Judge
from bench.methods import cam, floors, gradients, perturbation, ptame
from bench.methods.cost import Family
from bench.methods.gradients import GradientSettings
from bench.methods.method import Row, Unavailable
from bench.methods.perturbation import PerturbationSettings
from bench.runtimes import RuntimeChoice
from ptame_deploy.errors import InvalidInputError, PtameError

if TYPE_CHECKING:
    from bench.methods.source import ClassifierSource
    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.explainer import ExplainerNet

# P-TAME and the floors are what all others are read against: they always run.
ALWAYS = (ptame.REFERENCE, floors.GAUSSIAN, floors.RANDOM)
NAMES = (
    ptame.REFERENCE, *cam.NAMES, *gradients.NAMES, *perturbation.NAMES, floors.GAUSSIAN,
    floors.RANDOM,
)  # fmt: skip
NEEDS_SOURCE = "needs gradients or inner layers, which a graph does not have: give --backbone"


@dataclass(frozen=True)
class Source:
    """The networks in PyTorch, where they are at hand.

    Attributes:
        classifier: with its normalisation.
        auxiliary: the explainer's features.
        explainer: as in the fused graph; None where only the graph is at hand.
        start: makes the fused graph of the untrained start; None where the explainer is that.
    """

    classifier: "ClassifierSource"
    auxiliary: "Auxiliary"
    explainer: "ExplainerNet | None"
    start: Callable[[], BenchGraphs] | None


@dataclass(frozen=True)
class Subject:
    """What is compared: one classifier with its explainer, in all the forms that are there.

    Attributes:
        graphs: fused graphs, the reference first.
        judge: the classifier that judges, and that the black-box methods ask.
        choice: what runs the graphs.
        workspace: a folder for graphs that are made on the way.
        engines: folders of TensorRT engines of the same model.
        source: the networks in PyTorch, or None.
    """

    graphs: Sequence[BenchGraphs]
    judge: Judge
    choice: RuntimeChoice
    workspace: Path
    engines: Sequence[Path] = ()
    source: Source | None = None


@dataclass(frozen=True)
class MethodSettings:
    """What the methods can be set to."""

    seed: int = 0
    target_layer: str | None = None
    gradient: GradientSettings = field(default_factory=GradientSettings)
    perturbation: PerturbationSettings = field(default_factory=PerturbationSettings)


def check_names(names: Sequence[str]) -> None:
    """Refuse names of methods that do not exist.

    Raises:
        InvalidInputError: with the nearest names, and all.
    """
    for name in names:
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=3)
            hint = f" Did you mean {', '.join(close)}?" if close else ""
            message = f"No method {name!r}.{hint} There are: {', '.join(NAMES)}."
            raise InvalidInputError(message)


def make_methods(
    subject: Subject, settings: MethodSettings, names: Sequence[str] | None = None
) -> list[Row]:
    """Make the chosen methods, those that cannot run here with the reason.

    Args:
        subject: what is explained.
        settings: of the methods.
        names: which; None for all. ``p-tame`` stands for its every form, and always runs, as do
            the floors.

    Returns:
        Rows, P-TAME's reference first.

    Raises:
        InvalidInputError: a name that does not exist, or a target layer that does not.
        ArtifactError: a graph or engine that cannot be loaded.
    """
    check_names(names or ())
    chosen = set(NAMES if names is None else (*names, *ALWAYS))
    rows: list[Row] = list(_ptame(subject))
    reference = subject.graphs[0].manifest
    source, seed = subject.source, settings.seed
    judge = subject.judge
    if source is None:
        rows += _unavailable(cam.NAMES, "cam", NEEDS_SOURCE)
        rows += _unavailable(gradients.NAMES, "gradient", NEEDS_SOURCE)
    else:
        classifier = source.classifier
        if chosen & cam.NAMES.keys():
            rows += _or_reason(
                lambda: cam.cam_methods(classifier, judge, settings.target_layer), cam.NAMES, "cam"
            )
        if chosen & gradients.NAMES.keys():
            rows += _or_reason(
                lambda: gradients.gradient_methods(classifier, seed, settings.gradient),
                gradients.NAMES,
                "gradient",
            )
    if chosen & perturbation.NAMES.keys():
        rows += perturbation.perturbation_methods(
            judge,
            f"{reference.classifier.weights.sha256} {reference.precision}",
            reference.precision,
            seed,
            settings.perturbation,
        )
    rows += floors.floors(seed)
    return [row for row in rows if row.name in chosen or row.family == "p-tame"]


def _ptame(subject: Subject) -> list[Row]:
    """Make P-TAME's rows, the reference first; with an untrained explainer that is the start."""
    manifest, source = subject.graphs[0].manifest, subject.source
    if subject.choice.name == "pytorch":  # it runs the source, no graphs
        assert source is not None
        assert source.explainer is not None
        parts = (source.classifier, source.auxiliary, source.explainer, manifest)
        label = ptame.reference_label(manifest)
        return [ptame.source_method(ptame.REFERENCE, label, *parts)]
    rows: list[Row] = list(
        ptame.graph_methods(subject.graphs, subject.choice, subject.workspace / "chosen")
    )
    for folder in subject.engines:
        name, label = f"{ptame.REFERENCE}-engine-{folder.name}", f"P-TAME engine {folder.name}"
        try:
            rows.append(ptame.engine_method(name, label, folder))
        except PtameError as error:
            rows.append(Unavailable(name, label, "p-tame", str(error)))
    if source is None or source.explainer is None:
        reason = "needs the networks' source: give --backbone, and --explainer where it was trained"
        rows.append(Unavailable(ptame.SOURCE, ptame.SOURCE_LABEL, "p-tame", reason))
    else:
        parts = (source.classifier, source.auxiliary, source.explainer, manifest)
        rows.append(ptame.source_method(ptame.SOURCE, ptame.SOURCE_LABEL, *parts))
    if manifest.explainer.state == "initialised":
        return rows
    if source is None or source.start is None:
        reason = "needs the classifier's source: give --backbone"
        rows.append(Unavailable(ptame.START, ptame.START_LABEL, "p-tame", reason))
    else:
        start = source.start()
        path, label = start.fused, ptame.START_LABEL
        rows.append(ptame.graph_method(ptame.START, label, path, start.manifest, subject.choice))
    return rows


def _or_reason(
    make: Callable[[], Sequence[Row]], names: dict[str, str], family: Family
) -> list[Row]:
    """Make a library's methods, or a row with the reason for each."""
    try:
        return list(make())
    except InvalidInputError:
        raise  # the user's own options
    except PtameError as error:
        return _unavailable(names, family, str(error))


def _unavailable(names: dict[str, str], family: Family, reason: str) -> list[Row]:
    return [Unavailable(name, label, family, reason) for name, label in names.items()]
