"""Who is compared with whom in an evaluation, and how a method fares against another."""

import math
from collections.abc import Mapping
from typing import Literal

from bench.evaluation.results import Evaluation, MeasureRecord, MethodRecord
from bench.methods.cost import Family
from bench.methods.ptame import START
from ptame_deploy.bootstrap import Interval, excludes_zero

Outcome = Literal["better", "worse", "undecided"]

FAMILIES: tuple[Family, ...] = ("p-tame", "cam", "gradient", "perturbation", "given", "floor")


def measured(evaluation: Evaluation) -> list[MethodRecord]:
    """Return the methods that were measured: P-TAME first, floors last."""
    found = (method for method in evaluation.methods if method.status == "measured")
    return sorted(found, key=lambda m: (m.name != evaluation.reference, FAMILIES.index(m.family)))


def reference_of(evaluation: Evaluation) -> MethodRecord | None:
    """Return the row of the method that the others are compared with, if it was measured."""
    found = None if evaluation.reference is None else evaluation.method(evaluation.reference)
    return found if found is not None and found.status == "measured" else None


def plain_name(method: MethodRecord) -> str:
    """Return a method's name without the run that `ptame report` puts behind it."""
    return method.name.partition("@")[0]


def is_same_method(method: MethodRecord, evaluation: Evaluation) -> bool:
    """Whether this is P-TAME in another precision, runtime or run: the same method once more.

    The untrained start is not: it is what training starts from. Nor is P-TAME with another
    explainer, of a run that `ptame report` merged.
    """
    other = method.name != evaluation.reference and plain_name(method) != START
    reference = reference_of(evaluation)
    same = reference is None or method.settings == reference.settings
    return method.family == "p-tame" and other and same


def is_partial(method: MethodRecord, evaluation: Evaluation) -> bool:
    """Whether a method ran on fewer photos than there are: its means are of other photos."""
    return method.photos < evaluation.photos


def marked(method: MethodRecord, evaluation: Evaluation) -> str:
    """Return a method's label, with a dagger where it ran on fewer photos."""
    return f"{method.label} †" if is_partial(method, evaluation) else method.label


def rivals(evaluation: Evaluation) -> list[MethodRecord]:
    """Return the other methods: neither P-TAME in any form nor a floor."""
    return [m for m in measured(evaluation) if m.family not in ("p-tame", "floor")]


def deciding(evaluation: Evaluation) -> list[MeasureRecord]:
    """Return the columns that contrast cannot move: only they say who is better."""
    return [measure for measure in evaluation.measures if not measure.contrast_moves]


def winner(evaluation: Evaluation, measure: MeasureRecord) -> MethodRecord | None:
    """Return who wins a column, and nobody on one that contrast moves."""
    if measure.contrast_moves:
        return None
    names = [v.winner for v in evaluation.verdicts if v.column == measure.name and v.winner]
    found = evaluation.method(names[0]) if names else None
    return found if found is not None and found.status == "measured" else None


def outcome(difference: Interval, measure: MeasureRecord) -> Outcome:
    """Say whether a paired difference, this method minus another, is for this method."""
    if not excludes_zero(difference):
        return "undecided"
    return "better" if (difference.low > 0) == (measure.better == "higher") else "worse"


def outcomes(
    differences: Mapping[str, Interval], evaluation: Evaluation
) -> dict[Outcome, list[MeasureRecord]]:
    """Sort the columns that contrast cannot move by how a method fares on them."""
    found: dict[Outcome, list[MeasureRecord]] = {"better": [], "worse": [], "undecided": []}
    for measure in deciding(evaluation):
        difference = differences.get(measure.name)
        if difference is not None and math.isfinite(difference.mean):
            found[outcome(difference, measure)].append(measure)
    return found


def cautions(evaluation: Evaluation) -> list[str]:
    """Return all that must be known before the numbers are read, once each."""
    found = [*evaluation.subject.cautions, *evaluation.warnings]
    for method in measured(evaluation):
        said = evaluation.subject.cautions if method.family == "p-tame" else ()
        found += [f"{method.label}: {text}" for text in method.cautions if text not in said]
    return list(dict.fromkeys(found))
