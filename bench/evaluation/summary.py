"""From values by photo to rows, differences and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.evaluation.collect import Collected
from bench.evaluation.results import MapTime, MethodRecord, SanityRecord, Verdict
from bench.evaluation.verdicts import verdict
from bench.measures.measure import Column
from bench.methods.floors import GAUSSIAN
from bench.methods.method import Method, Row, Unavailable
from bench.methods.ptame import REFERENCE, START
from ptame_deploy.bootstrap import Interval, Values, difference, interval

# P-TAME's other precisions and runtimes are the same method, and do not compete with it.
COMPETING = (REFERENCE, START)


@dataclass(frozen=True)
class Measured:
    """One row with what was found, or why nothing was.

    Attributes:
        row: the method.
        found: its values; None where it could not run.
        reason: why it could not, or why on fewer photos.
        sanity: its checks, where they were made.
        time: of one map.
    """

    row: Row
    found: Collected | None
    reason: str | None = None
    sanity: SanityRecord | None = None
    time: MapTime | None = None


def method_records(measured: Sequence[Measured], columns: Sequence[Column]) -> list[MethodRecord]:
    """Summarise every method.

    Args:
        measured: in the order of tables.
        columns: of the measures.
    """
    values = {m.row.name: m.found.values for m in measured if m.found is not None}
    return [_record(one, values, columns) for one in measured]


def verdicts(measured: Sequence[Measured], columns: Sequence[Column], photos: int) -> list[Verdict]:
    """Name the winners, where there are some; see `bench.evaluation.verdicts.verdict`.

    P-TAME's other precisions and runtimes are the same method and do not compete with it.
    """
    contestants = [
        m
        for m in measured
        if m.found is not None
        and m.found.photos == photos
        and (m.row.family != "p-tame" or m.row.name in COMPETING)
    ]
    found = []
    for column in columns:
        values = {m.row.name: m.found.values[column.name] for m in contestants if m.found}
        complete = [name for name, numbers in values.items() if not np.isnan(numbers).any()]
        one = verdict(column, values, complete)
        if one is not None:
            found.append(one)
    return found


def means(values: Mapping[str, Values]) -> dict[str, Interval]:
    """Return each column's mean with its interval; a column without numbers is left out."""
    found = {name: interval(numbers) for name, numbers in values.items()}
    return {name: one for name, one in found.items() if one is not None}


def _record(
    one: Measured, values: Mapping[str, Mapping[str, Values]], columns: Sequence[Column]
) -> MethodRecord:
    row = one.row
    if isinstance(row, Unavailable) or one.found is None:
        return MethodRecord(
            name=row.name,
            label=row.label,
            family=row.family,
            status="skipped",
            reason=row.reason if isinstance(row, Unavailable) else one.reason,
        )
    found = one.found
    return MethodRecord(
        name=row.name,
        label=row.label,
        family=row.family,
        status="measured",
        reason=one.reason,
        runtime=row.runtime,
        precision=row.precision,
        settings=dict(row.settings),
        cautions=list(row.cautions),
        cost=row.cost,
        time=one.time,
        photos=found.photos,
        other_class=found.other_class,
        values=means(found.values),
        against_reference=_differences(row, found, values.get(REFERENCE), REFERENCE, columns),
        against_gaussian=_differences(row, found, values.get(GAUSSIAN), GAUSSIAN, columns),
        curves={name: [float(v) for v in c.mean(axis=0)] for name, c in found.curves.items()},
        sanity=one.sanity,
    )


def _differences(
    row: Method,
    found: Collected,
    other: Mapping[str, Values] | None,
    name: str,
    columns: Sequence[Column],
) -> dict[str, Interval]:
    if other is None or row.name == name:
        return {}
    pairs = {c.name: difference(found.values[c.name], other[c.name]) for c in columns}
    return {column: one for column, one in pairs.items() if one is not None}
