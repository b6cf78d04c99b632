"""An evaluation as tables: laid out once, written as Markdown here and as HTML by the page."""

import csv
import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.evaluation.results import Evaluation, Family, Interval, MeasureRecord, MethodRecord

Outcome = Literal["better", "worse", "undecided"]

NOTHING = "–"
FAMILIES: tuple[Family, ...] = ("p-tame", "cam", "gradient", "perturbation", "floor")
GAUSSIAN = "the centred Gaussian"
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKDOWN = re.compile(r"([\\`*_\[\]|~#!])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ARROWS = {"higher": "↑", "lower": "↓"}
_CHECKS = {"other_class": "other class", "noise": "noise", "cascade": "randomised layers"}


@dataclass(frozen=True)
class Cell:
    """One cell: what it says, what stands smaller behind it, and whether it wins its column."""

    text: str
    detail: str = ""
    wins: bool = False


@dataclass(frozen=True)
class Row:
    """One row; its first cell is its head."""

    cells: tuple[Cell, ...]
    family: Family | None = None
    emphasised: bool = False


@dataclass(frozen=True)
class Grid:
    """One table.

    Attributes:
        name: unique among an evaluation's tables.
        caption: one sentence.
        header: of each column; the first is the rows' heads.
        rows: at least one.
        notes: sentences that stand below it.
        prose: whether the cells hold words, which line up on the left.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    prose: bool = False


def clean(text: str) -> str:
    """Take out what no file may hold or what turns text around; names come from anywhere."""
    signs = (" " if unicodedata.category(sign) == "Cc" else sign for sign in text)
    return "".join(sign for sign in signs if sign not in _BIDI)


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Write a number for people: a true minus, never minus zero, a dash where there is none."""
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", "−")


def many(count: int, what: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def milliseconds(value: float) -> str:
    """Write a time with about three digits."""
    if not math.isfinite(value):
        return NOTHING
    if value >= 100:
        return f"{value:,.0f}"
    return number(value, 1 if value >= 10 else 2)


def digits_of(measure: MeasureRecord | None) -> int:
    """Return how many decimals a column has: percent need fewer than shares."""
    return 1 if measure is not None and 50 <= measure.high - measure.low < math.inf else 3


def interval_cell(found: Interval | None, digits: int, *, wins: bool = False) -> Cell:
    """Write a mean with its interval."""
    if found is None or not math.isfinite(found.mean):
        return Cell(NOTHING)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Cell(number(found.mean, digits), wins=wins)
    span = f"[{number(found.low, digits)}, {number(found.high, digits)}]"
    return Cell(number(found.mean, digits), span, wins)


def label_of(measure: MeasureRecord, evaluation: Evaluation) -> str:
    """Return a column's label; where two columns share it, their forms tell them apart."""
    if Counter(other.label for other in evaluation.measures)[measure.label] < 2:
        return measure.label
    return f"{measure.label} {'published' if measure.contrast_moves else 'matched'}"


def measured(evaluation: Evaluation) -> list[MethodRecord]:
    """Return the methods that were measured: P-TAME first, floors last."""
    found = (method for method in evaluation.methods if method.status == "measured")
    return sorted(found, key=lambda m: (m.name != evaluation.reference, FAMILIES.index(m.family)))


def reference_of(evaluation: Evaluation) -> MethodRecord | None:
    """Return the row of the method that the others are compared with, if it was measured."""
    found = None if evaluation.reference is None else evaluation.method(evaluation.reference)
    return found if found is not None and found.status == "measured" else None


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
    """Say whether a paired difference, this method minus another, is for this method.

    The interval of a single photo is a point and decides nothing.
    """
    if difference.photos < 2 or not difference.low * difference.high > 0:
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


def grids(evaluation: Evaluation) -> list[Grid]:
    """Lay out all tables of results; one without rows is left out."""
    made = (
        _values(evaluation, moves=False),
        _standings(evaluation),
        _values(evaluation, moves=True),
        _contrast(evaluation),
        _sanity(evaluation),
        _rise(evaluation),
        _skipped(evaluation),
    )
    return [grid for grid in made if grid.rows]


def markdown(evaluation: Evaluation) -> str:
    """Return all tables with their notes as Markdown."""
    subject, device = evaluation.subject, evaluation.device
    where = f"{device.cpu}, {device.cores} cores" + (f", {device.gpu}" if device.gpu else "")
    told = (
        f" ({subject.explainer_state} explainer), {many(evaluation.photos, 'photo')}, judged by "
        f"{evaluation.judge}; {where}; {evaluation.provenance.created[:10]}."
    )
    lines = [f"**{_escaped(f'{subject.classifier} + {subject.auxiliary}')}**{_escaped(told)}"]
    lines += [""] if cautions(evaluation) else []
    lines += [f"- Caution: {_escaped(text)}" for text in cautions(evaluation)]
    for grid in grids(evaluation):
        lines += ["", f"**{_escaped(grid.caption)}**", "", _line(map(_escaped, grid.header))]
        lines.append(_line("---" if grid.prose or i == 0 else "---:" for i in _count(grid)))
        lines += [_line(map(_markdown_cell, row.cells)) for row in grid.rows]
        lines += [text for note in grid.notes for text in ("", _escaped(note))]
    return "\n".join(lines) + "\n"


def cautions(evaluation: Evaluation) -> list[str]:
    """Return all that must be known before the numbers are read, once each."""
    found = [*evaluation.subject.cautions, *evaluation.warnings]
    found += [f"{m.label}: {text}" for m in measured(evaluation) for text in m.cautions]
    if 0 < evaluation.photos < 30:
        photos = many(evaluation.photos, "photo")
        found.append(f"only {photos}: bootstrap intervals of so few are too narrow")
    return list(dict.fromkeys(found))


def methods_csv(evaluation: Evaluation) -> str:
    """Return a row a method, unrounded; text that a spreadsheet would run gets an apostrophe."""
    groups: list[tuple[str, str]] = [
        ("values", ""), ("against_reference", "_minus_reference"),
        ("against_gaussian", "_minus_gaussian"),
    ]  # fmt: skip
    plain = ["name", "label", "family", "status", "runtime", "precision", "photos", "other_class",
             "forward", "backward", "passes", "median_ms", "p25_ms", "p75_ms", "batch", "reason",
             "cautions"]  # fmt: skip
    keys = [(field, measure.name, suffix) for measure in evaluation.measures
            for field, suffix in groups]  # fmt: skip
    parts = ("mean", "low", "high", "photos")
    columns = [f"{name}{suffix}_{part}" for _, name, suffix in keys for part in parts]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_csv(text) for text in [*plain, *columns]])
    for m in evaluation.methods:
        cost = (m.cost.forward, m.cost.backward, m.cost.passes) if m.cost else [None] * 3
        t = m.time
        time = (t.median_ms, t.p25_ms, t.p75_ms, t.batch) if t else [None] * 4
        row: list[object] = [m.name, m.label, m.family, m.status, m.runtime, m.precision]
        row += [m.photos, m.other_class, *cost, *time, m.reason, "; ".join(m.cautions)]
        for field, name, _ in keys:
            found = getattr(m, field).get(name)
            row += [None if found is None else getattr(found, part) for part in parts]
        writer.writerow([_csv(value) for value in row])
    return file.getvalue()


def _values(evaluation: Evaluation, *, moves: bool) -> Grid:
    """Lay out the columns that contrast moves, or those that it does not, with cost and time."""
    methods = measured(evaluation)
    columns = [
        measure
        for measure in evaluation.measures
        if measure.contrast_moves == moves and any(measure.name in m.values for m in methods)
    ]
    header = ["Method", *[f"{measure.label}\u00a0{_ARROWS[measure.better]}" for measure in columns]]
    header += ["photos"] if moves else ["ms a map", "passes", "photos"]
    rows = []
    winners = {measure.name: winner(evaluation, measure) for measure in columns}
    for method in methods if columns or not moves else ():
        cells = [Cell(_marked(method, evaluation))]
        for measure in columns:
            wins = winners[measure.name] is method
            found = method.values.get(measure.name)
            cells.append(interval_cell(found, digits_of(measure), wins=wins))
        cells += [] if moves else _expense(method)
        cells.append(Cell(str(method.photos)))
        rows.append(Row(tuple(cells), method.family, method.name == evaluation.reference))
    percent = f"{evaluation.settings.interval_percent:g} %"
    told = (
        f"Means over photos with {percent} bootstrap intervals. ↑ higher is better, ↓ lower is "
        f"better. {many(evaluation.photos, 'photo')}, judged by {evaluation.judge}."
    )
    notes = [told, *_fewer(evaluation)]
    for measure in columns:
        counts = {m.values[measure.name].photos for m in methods if measure.name in m.values}
        if 0 < max(counts, default=0) < max(m.photos for m in methods):
            name, photos = label_of(measure, evaluation), max(counts)
            notes.append(f"{name}: only on the {photos} photos that it can be taken on.")
    if moves:
        notes.append("No winner is named here: a map's contrast alone moves these numbers.")
        caption = "Measures that contrast moves, average drop and increase as published among them"
        return Grid("published", caption, tuple(header), tuple(rows), tuple(notes))
    if any(winners.values()):
        notes.append(
            "Bold wins its column: its paired interval against every other method on all photos "
            "excludes 0. Other precisions and runtimes of P-TAME do not compete with it."
        )
    batches = sorted({m.time.batch for m in methods if m.time})
    if batches:
        notes.append(
            f"Times are medians with quartiles, in batches of {', '.join(map(str, batches))}. "
            "A pass is a forward pass of the classifier; a backward pass counts as two."
        )
    caption = "Faithfulness by measures that contrast cannot move, and what a map costs"
    return Grid("faithfulness", caption, tuple(header), tuple(rows), tuple(notes))


def _expense(method: MethodRecord) -> Iterator[Cell]:
    time, cost = method.time, method.cost
    if time is None or not math.isfinite(time.median_ms):
        yield Cell(NOTHING)
    else:
        quartiles = f"[{milliseconds(time.p25_ms)}, {milliseconds(time.p75_ms)}]"
        yield Cell(milliseconds(time.median_ms), quartiles)
    detail = f"({cost.forward} + {cost.backward} back)" if cost and cost.backward else ""
    yield Cell(f"{cost.passes:,}", detail) if cost else Cell(NOTHING)


def _marked(method: MethodRecord, evaluation: Evaluation) -> str:
    return method.label + (" †" if method.photos < evaluation.photos else "")


def _fewer(evaluation: Evaluation) -> Iterator[str]:
    groups: dict[tuple[int, str], list[str]] = {}
    for method in measured(evaluation):
        if method.photos < evaluation.photos:
            groups.setdefault((method.photos, method.reason or ""), []).append(method.label)
    for (photos, reason), labels in groups.items():
        why = f" ({reason})" if reason else ""
        yield (
            f"† {', '.join(labels)}: on {photos} of {evaluation.photos} photos only{why}; takes no "
            "part in naming a winner, and its means are of other photos than the rest."
        )


def _standings(evaluation: Evaluation) -> Grid:
    """Lay out how P-TAME fares against each method, and each against the centred Gaussian."""
    reference, rows = reference_of(evaluation), []
    for method in measured(evaluation):
        found = outcomes(method.against_reference, evaluation)
        floor = outcomes(method.against_gaussian, evaluation)
        if not any([*found.values(), *floor.values()]):
            continue
        total = sum(map(len, floor.values()))
        beats = Cell(f"{len(floor['better'])} of {total}") if total else Cell(NOTHING)
        loses = Cell(f"{len(floor['worse'])} of {total}") if total else Cell(NOTHING)
        # The record says how the method fares; the table says how P-TAME does against it.
        turned: tuple[Outcome, ...] = ("worse", "better", "undecided")
        everything = sum(map(len, found.values()))
        counts = [_names(found[key], everything, evaluation) for key in turned]
        if not any(found.values()):
            counts = [Cell(NOTHING)] * 3
        cells = (Cell(_marked(method, evaluation)), *counts, beats, loses)
        rows.append(Row(cells, method.family, method is reference))
    name = reference.label if reference else "the reference"
    header = ["Method", f"{name} better on", "worse on", "undecided on"]
    header += [f"it beats {GAUSSIAN} on", "loses to it on"]
    caption = f"{name} against each method, and each method against {GAUSSIAN}"
    note = (
        "Photo by photo; a difference counts where its "
        f"{evaluation.settings.interval_percent:g} % interval excludes 0. The intervals are not "
        "corrected for the number of comparisons."
    )
    return Grid("standings", caption, tuple(header), tuple(rows), (note,))


def _names(found: list[MeasureRecord], everything: int, evaluation: Evaluation) -> Cell:
    if len(found) == everything > 1:
        return Cell(str(len(found)), "(all)")
    names = ", ".join(label_of(measure, evaluation) for measure in found)
    return Cell(str(len(found)), f"({names})" if names else "")


def _contrast(evaluation: Evaluation) -> Grid:
    shown = {name for record in evaluation.contrast for name in record.values}
    columns = [measure for measure in evaluation.measures if measure.name in shown]
    columns.sort(key=lambda measure: not measure.contrast_moves)
    marks = {True: " (moves)", False: ""}
    header = [
        f"{label_of(m, evaluation)}\u00a0{_ARROWS[m.better]}{marks[m.contrast_moves]}"
        for m in columns
    ]
    rows = [
        Row((
            Cell(f"{record.exponent:g}"),
            *[interval_cell(record.values.get(m.name), digits_of(m)) for m in columns],
        ))
        for record in evaluation.contrast
    ]  # fmt: skip
    caption = "The same maps raised to a power: one ranking of pixels, another contrast"
    return Grid("contrast", caption, ("Exponent", *header), tuple(rows))


def _sanity(evaluation: Evaluation) -> Grid:
    """Lay out all checks; a column a step of the cascade, a dash where it was not made."""
    checked = [(m, m.sanity) for m in measured(evaluation) if m.sanity is not None]
    steps = sorted({(step.layers, step.of) for _, checks in checked for step in checks.cascade})
    rows, notes = [], []
    for method, checks in checked:
        found = {(step.layers, step.of): step.similarity for step in checks.cascade}
        kept = [checks.other_class, checks.noise, *[found.get(step) for step in steps]]
        cells = [Cell(method.label), *[interval_cell(each, 3) for each in kept]]
        rows.append(Row(tuple(cells), method.family, method.name == evaluation.reference))
        notes += [f"{method.label}, {_CHECKS[k]}: {v}." for k, v in checks.reasons.items()]
    header = ["Method", "other class", "slight noise"]
    header += [f"{layers} of {of} layers random" for layers, of in steps]
    caption = "Sanity checks: rank correlation of a photo's map with the map after a change"
    return Grid("sanity", caption, tuple(header), tuple(rows), tuple(dict.fromkeys(notes)))


def _rise(evaluation: Evaluation) -> Grid:
    curve, reference = evaluation.rise_curve, reference_of(evaluation)
    columns = [
        measure
        for measure in deciding(evaluation)
        if curve and any(measure.name in point.values for point in curve.points)
    ]
    rows = []
    for point in curve.points if curve else ():
        cells = [interval_cell(point.values.get(m.name), digits_of(m)) for m in columns]
        cells = [interval_cell(point.correlation, 3), *cells]
        rows.append(Row((Cell(f"{point.masks:,}"), *cells)))
    if rows and curve and curve.reference:
        cells = [interval_cell(curve.reference.get(m.name), digits_of(m)) for m in columns]
        name = reference.label if reference else "P-TAME"
        rows.append(Row((Cell(name), Cell(NOTHING), *cells), "p-tame", emphasised=True))
    labels = [f"{measure.label}\u00a0{_ARROWS[measure.better]}" for measure in columns]
    caption = f"RISE by its number of masks, on {curve.photos if curve else 0} photos"
    return Grid("rise", caption, ("Masks", "correlation of two seeds", *labels), tuple(rows))


def _skipped(evaluation: Evaluation) -> Grid:
    rows = [
        Row((Cell(method.label), Cell(method.reason or "no reason recorded")), method.family)
        for method in evaluation.methods
        if method.status == "skipped"
    ]
    return Grid(
        "skipped", "Methods that were not measured", ("Method", "Reason"), tuple(rows), prose=True
    )


def _count(grid: Grid) -> range:
    return range(len(grid.header))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    if cell.wins:
        text = f"**{text}**"
    # Brackets of an interval are ours; only their content could come from a name.
    interval = cell.detail.startswith("[")
    return f"{text} {cell.detail if interval else _escaped(cell.detail)}".rstrip()


def _escaped(text: str) -> str:
    text = "".join(_ENTITIES.get(sign, sign) for sign in clean(text))
    # Unbroken, an address in a name would become a link.
    return _MARKDOWN.sub(r"\\\1", text).replace("://", "&#58;//")


def _csv(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if not isinstance(value, str):
        return value
    value = clean(value)
    return f"'{value}" if value.lstrip().startswith(_FORMULA) else value
