"""Two bench runs side by side: what got faster or slower, and what makes them incomparable."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from bench.results import Comparison, Device, Latency, Reading, SpeedReport, SuiteReport
from ptame_deploy.errors import InvalidInputError, reason_of

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("", "batch", "A, p50 ms", "B, p50 ms", "B / A", "A, images/s", "B, images/s", "")
_NOTHING = "-"
SAME_SUBJECT = (
    "graph_sha256",
    "input_size",
    "classes",
    "explained_classes",
    "auxiliary_input_sizes",
)
SAME_SETTINGS = ("mode", "threads", "streams", "rise_masks", "seconds", "iterations", "seed")
_ReportFile = TypeAdapter(SpeedReport | SuiteReport)


@dataclass(frozen=True)
class Pair:
    """One row at one batch size, in both runs.

    Attributes:
        name: of model and row.
        batch: images a run.
        before: in A.
        after: in B.
    """

    name: str
    batch: int
    before: Reading
    after: Reading

    @property
    def ratio(self) -> float | None:
        """Median latency in B over that in A; under 1, B is faster."""
        if self.before.latency is None or self.after.latency is None:
            return None
        return self.after.latency.p50_ms / self.before.latency.p50_ms

    @property
    def within_noise(self) -> bool:
        """Whether the difference is smaller than either run's own coefficient of variation."""
        ratio = self.ratio
        if ratio is None:
            return False
        noise = max(_variation(self.before.latency), _variation(self.after.latency))
        return abs(ratio - 1) * 100 <= noise


@dataclass(frozen=True)
class RatioPair:
    """A ratio that was taken within each of the two runs, so that their machines cancel out."""

    name: str
    batch: int
    before: Comparison
    after: Comparison


def read_reports(path: Path) -> list[SpeedReport]:
    """Read what ``ptame bench --json`` or ``make bench`` wrote.

    Raises:
        InvalidInputError: there is no such file, or it is something else.
    """
    try:
        found = _ReportFile.validate_json(path.read_bytes())
    except OSError as error:
        message = f"{path} cannot be read: {reason_of(error)}."
        raise InvalidInputError(message) from error
    except ValidationError as error:
        message = f"{path} is not what ptame bench --json writes, or of another version."
        raise InvalidInputError(message) from error
    return found.reports if isinstance(found, SuiteReport) else [found]


def pairs(before: list[SpeedReport], after: list[SpeedReport]) -> list[Pair]:
    """Match the rows of two runs by model, row and batch size.

    Raises:
        InvalidInputError: the runs have no row in common.
    """
    others = {key: reading for report in after for key, reading in _readings(report)}
    found = [
        Pair(f"{key[0]}: {key[1]}", key[2], reading, others[key])
        for report in before
        for key, reading in _readings(report)
        if key in others
    ]
    if not found:
        message = "The two runs have no row in common: other models, precisions or batch sizes."
        raise InvalidInputError(message)
    return found


def ratio_pairs(before: list[SpeedReport], after: list[SpeedReport]) -> list[RatioPair]:
    """Match the ratios that were taken within the runs."""
    others = {(_subject(r), c.name, c.of, c.batch): c for r in after for c in r.comparisons}
    return [
        RatioPair(
            f"{_subject(report)}: {c.name}{f' of {c.of}' if c.of else ''}",
            c.batch,
            c,
            others[_subject(report), c.name, c.of, c.batch],
        )
        for report in before
        for c in report.comparisons
        if (_subject(report), c.name, c.of, c.batch) in others
    ]


def differences(before: list[SpeedReport], after: list[SpeedReport]) -> list[str]:
    """List what else differs between two runs, a line each: their times hide it."""
    others = {_subject(report): report for report in after}
    found = [
        line
        for report in before
        if _subject(report) in others
        for line in _differences(report, others[_subject(report)])
    ]
    return list(dict.fromkeys(found))


def _differences(before: SpeedReport, after: SpeedReport) -> list[str]:
    name = _subject(before)
    compared: list[tuple[str, object, object]] = [
        ("runtime", before.runtime, after.runtime),
        ("RISE's batch", before.rise.batch, after.rise.batch),
    ]
    for prefix, fields, a, b in (
        (f"{name}: ", SAME_SUBJECT, before.subject, after.subject),
        ("", tuple(Device.model_fields), before.device, after.device),
        ("", SAME_SETTINGS, before.settings, after.settings),
    ):
        compared += [(f"{prefix}{f}", getattr(a, f), getattr(b, f)) for f in fields]
    rows = {row.name: row.runtime for row in after.contenders}
    compared += [
        (f"{row.name}: runtime", row.runtime, rows[row.name])
        for row in before.contenders
        if row.name in rows
    ]
    versions = before.provenance.versions, after.provenance.versions
    common = sorted(versions[0].keys() & versions[1].keys())
    compared += [(package, versions[0][package], versions[1][package]) for package in common]
    return [f"{what}: {a} / {b}" for what, a, b in compared if a != b]


def pairs_table(found: list[Pair]) -> "Table":
    """Lay the rows out as a table."""
    from rich.table import Table

    table = Table()
    for position, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if position in (0, 7) else "right")
    for pair in found:
        ratio = pair.ratio
        table.add_row(
            pair.name,
            str(pair.batch),
            _p50(pair.before.latency),
            _p50(pair.after.latency),
            _NOTHING if ratio is None else f"{ratio:.3f}",
            _rate(pair.before),
            _rate(pair.after),
            "within their noise" if pair.within_noise else "",
        )
    return table


def ratio_line(pair: RatioPair) -> str:
    """Say how a ratio changed."""
    a, b = pair.before.time, pair.after.time
    return (
        f"{pair.name}, batch {pair.batch}: {a.value:.3f} (quartiles {a.p25:.3f} to {a.p75:.3f}) "
        f"-> {b.value:.3f} ({b.p25:.3f} to {b.p75:.3f})"
    )


def _readings(report: SpeedReport) -> Iterator[tuple[tuple[str, str, int], Reading]]:
    for row in report.contenders:
        for reading in row.readings:
            yield (_subject(report), row.name, reading.batch), reading


def _subject(report: SpeedReport) -> str:
    subject = report.subject
    form = f" ({subject.form} form)" if subject.form else ""
    return f"{subject.pair}, {subject.precision}{form}"


def _variation(latency: Latency | None) -> float:
    return 0.0 if latency is None else latency.variation_percent


def _p50(latency: Latency | None) -> str:
    return _NOTHING if latency is None else f"{latency.p50_ms:.2f}"


def _rate(reading: Reading) -> str:
    rate = reading.images_per_s
    return _NOTHING if rate is None else f"{rate:.1f}"
