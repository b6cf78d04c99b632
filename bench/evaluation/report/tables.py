"""An evaluation as tables: laid out once, written as Markdown here and as HTML by the page."""

import csv
import io
from collections.abc import Iterator, Sequence

from bench.evaluation.report.cells import (
    NOTHING,
    Cell,
    Grid,
    Row,
    csv_value,
    digits_of,
    head_of,
    interval_cell,
    many,
    markdown_cell,
    markdown_line,
    markdown_text,
    time_cell,
)
from bench.evaluation.report.comparison import (
    Outcome,
    cautions,
    deciding,
    marked,
    measured,
    outcomes,
    reference_of,
    winner,
)
from bench.evaluation.report.sanity_tables import sanity_grids
from bench.evaluation.report.wording import MIDDLE, fewer_photos, times
from bench.evaluation.results import Evaluation, MeasureRecord, MethodRecord
from ptame_deploy.bootstrap import DECIDING_PHOTOS


def grids(evaluation: Evaluation) -> list[Grid]:
    """Lay out all tables of results; one without rows is left out."""
    made = (
        _faithfulness(evaluation),
        _standings(evaluation),
        _middle(evaluation),
        _published(evaluation),
        _contrast(evaluation),
        *sanity_grids(evaluation),
        _rise(evaluation),
        _skipped(evaluation),
    )
    return [grid for grid in made if grid.rows]


def markdown(evaluation: Evaluation) -> str:
    """Return all tables with their notes as Markdown."""
    subject, device = evaluation.subject, evaluation.device
    where = f"{device.cpu}, {device.cores} cores" + (f", {device.gpu}" if device.gpu else "")
    told = (
        f" (explainer {subject.explainer_state}), {many(evaluation.photos, 'photo')}, judged by "
        f"{evaluation.judge}; {where}; {evaluation.provenance.created[:10]}."
    )
    name = markdown_text(f"{subject.classifier} + {subject.auxiliary}")
    lines = [f"**{name}**{markdown_text(told)}"]
    lines += [""] if cautions(evaluation) else []
    lines += [f"- Caution: {markdown_text(text)}" for text in cautions(evaluation)]
    for grid in grids(evaluation):
        lines += ["", f"**{markdown_text(grid.caption)}**"]
        lines += [text for said in grid.lead for text in ("", markdown_text(said))]
        lines += ["", markdown_line(map(markdown_text, grid.header))]
        ends = ["---", *["---" if grid.prose else "---:"] * (len(grid.header) - 1)]
        lines.append(markdown_line(ends))
        lines += [markdown_line(map(markdown_cell, row.cells)) for row in grid.rows]
        lines += [text for note in grid.notes for text in ("", markdown_text(note))]
    return "\n".join(lines) + "\n"


def methods_csv(evaluation: Evaluation) -> str:
    """Return a row a method, unrounded; text that a spreadsheet would run gets an apostrophe."""
    groups: list[tuple[str, str]] = [
        ("values", ""), ("against_reference", "_minus_reference"),
        ("against_gaussian", "_minus_gaussian"),
    ]  # fmt: skip
    plain = ["name", "label", "family", "status", "runtime", "precision", "photos", "other_class",
             "forward", "backward", "passes", "median_ms", "p25_ms", "p75_ms", "batch", "runs",
             "reason", "cautions"]  # fmt: skip
    keys = [(field, measure.name, suffix) for measure in evaluation.measures
            for field, suffix in groups]  # fmt: skip
    parts = ("mean", "low", "high", "photos")
    columns = [f"{name}{suffix}_{part}" for _, name, suffix in keys for part in parts]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([csv_value(text) for text in [*plain, *columns]])
    for m in evaluation.methods:
        cost = (m.cost.forward, m.cost.backward, m.cost.passes) if m.cost else [None] * 3
        t = m.time
        time = (t.median_ms, t.p25_ms, t.p75_ms, t.batch, t.runs) if t else [None] * 5
        row: list[object] = [m.name, m.label, m.family, m.status, m.runtime, m.precision]
        row += [m.photos, m.other_class, *cost, *time, m.reason, "; ".join(m.cautions)]
        for field, name, _ in keys:
            found = getattr(m, field).get(name)
            row += [None if found is None else getattr(found, part) for part in parts]
        writer.writerow([csv_value(value) for value in row])
    return file.getvalue()


def _faithfulness(evaluation: Evaluation) -> Grid:
    """Lay out the columns that contrast does not move, with cost and time."""
    columns = _columns(evaluation, moves=False)
    rows = []
    for method in measured(evaluation):
        cost = method.cost
        detail = f"({cost.forward} + {cost.backward} back)" if cost and cost.backward else ""
        cells = [
            *_value_cells(method, columns, evaluation),
            time_cell(method.time),
            Cell(f"{cost.passes:,}", detail) if cost else Cell(NOTHING),
            Cell(str(method.photos)),
        ]
        rows.append(Row(tuple(cells), method.family, method.name == evaluation.reference))
    notes = list(_value_notes(evaluation, columns))
    if any(winner(evaluation, measure) for measure in columns):
        notes.append(
            "Bold wins its column: its paired interval against every other method on all photos "
            "excludes 0. Other precisions and runtimes of P-TAME do not compete with it."
        )
    notes += [text for text in [times(evaluation)] if text]
    notes.append(
        "A pass is a forward pass of the classifier; a backward pass counts as two. P-TAME's pass "
        "also runs its auxiliary network and explainer, and its time includes them."
    )
    caption = "Faithfulness by measures that contrast cannot move, and what a map costs"
    header = ("Method", *map(head_of, columns), "ms a map", "passes", "photos")
    return Grid("faithfulness", caption, header, tuple(rows), notes=tuple(notes))


def _published(evaluation: Evaluation) -> Grid:
    """Lay out the columns that contrast moves."""
    columns = _columns(evaluation, moves=True)
    rows = [
        Row(
            (*_value_cells(method, columns, evaluation), Cell(str(method.photos))),
            method.family,
            method.name == evaluation.reference,
        )
        for method in (measured(evaluation) if columns else ())
    ]
    notes = (
        *_value_notes(evaluation, columns),
        "No winner is named here: a map's contrast alone moves these numbers.",
    )
    caption = "Measures that contrast moves, average drop and increase as published among them"
    header = ("Method", *map(head_of, columns), "photos")
    return Grid("published", caption, header, tuple(rows), notes=notes)


def _columns(evaluation: Evaluation, *, moves: bool) -> list[MeasureRecord]:
    methods = measured(evaluation)
    return [
        measure
        for measure in evaluation.measures
        if measure.contrast_moves == moves and any(measure.name in m.values for m in methods)
    ]


def _value_cells(
    method: MethodRecord, columns: Sequence[MeasureRecord], evaluation: Evaluation
) -> Iterator[Cell]:
    yield Cell(marked(method, evaluation))
    for measure in columns:
        wins = winner(evaluation, measure) is method
        yield interval_cell(method.values.get(measure.name), digits_of(measure), wins=wins)


def _value_notes(evaluation: Evaluation, columns: Sequence[MeasureRecord]) -> Iterator[str]:
    methods = measured(evaluation)
    percent = f"{evaluation.settings.interval_percent:g} %"
    yield (
        f"Means over photos with {percent} bootstrap intervals. ↑ higher is better, ↓ lower is "
        f"better. {many(evaluation.photos, 'photo')}, judged by {evaluation.judge}."
    )
    yield from fewer_photos(evaluation)
    for measure in columns:
        counts = {m.values[measure.name].photos for m in methods if measure.name in m.values}
        if 0 < max(counts, default=0) < max(m.photos for m in methods):
            photos = many(max(counts), "photo")
            yield f"{measure.label}: only on the {photos} that it can be taken on."


def _standings(evaluation: Evaluation) -> Grid:
    """Lay out how P-TAME fares against each method."""
    reference, rows = reference_of(evaluation), []
    # The record says how the method fares; the table says how P-TAME does against it.
    turned: tuple[Outcome, ...] = ("worse", "better", "undecided")
    for method in measured(evaluation):
        found = outcomes(method.against_reference, evaluation)
        total = sum(map(len, found.values()))
        if total:
            counts = [_counted(found[key], total) for key in turned]
            rows.append(Row((Cell(marked(method, evaluation)), *counts), method.family))
    name = reference.label if reference else "the reference"
    header = ("Method", f"{name} better on", "worse on", "undecided on")
    caption = f"{name} against each method"
    return Grid("standings", caption, header, tuple(rows), notes=(_rule(evaluation),))


def _middle(evaluation: Evaluation) -> Grid:
    """Lay out how each method fares against the centred Gaussian."""
    reference, rows = reference_of(evaluation), []
    for method in measured(evaluation):
        found = outcomes(method.against_gaussian, evaluation)
        total = sum(map(len, found.values()))
        if total:
            counts = [Cell(f"{len(kept)} of {total}") for kept in found.values()]
            cells = (Cell(marked(method, evaluation)), *counts)
            rows.append(Row(cells, method.family, method is reference))
    header = ("Method", f"better than {MIDDLE} on", "worse on", "undecided on")
    caption = f"Each method against {MIDDLE}"
    return Grid("middle", caption, header, tuple(rows), notes=(_rule(evaluation),))


def _rule(evaluation: Evaluation) -> str:
    return (
        "Photo by photo; a difference counts where its "
        f"{evaluation.settings.interval_percent:g} % interval excludes 0, on "
        f"{DECIDING_PHOTOS} photos or more. The intervals are not "
        "corrected for the number of comparisons."
    )


def _counted(found: Sequence[MeasureRecord], everything: int) -> Cell:
    if len(found) == everything > 1:
        return Cell(str(len(found)), "(all)")
    names = ", ".join(measure.label for measure in found)
    return Cell(str(len(found)), f"({names})" if names else "")


def _contrast(evaluation: Evaluation) -> Grid:
    shown = {name for record in evaluation.contrast for name in record.values}
    columns = [measure for measure in evaluation.measures if measure.name in shown]
    columns.sort(key=lambda measure: not measure.contrast_moves)
    marks = {True: " (moves)", False: ""}
    header = ("Exponent", *[f"{head_of(m)}{marks[m.contrast_moves]}" for m in columns])
    rows = [
        Row((
            Cell(f"{record.exponent:g}"),
            *[interval_cell(record.values.get(m.name), digits_of(m)) for m in columns],
        ))
        for record in evaluation.contrast
    ]  # fmt: skip
    caption = "The same maps raised to a power: one ranking of pixels, another contrast"
    return Grid("contrast", caption, header, tuple(rows))


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
    photos = many(curve.photos if curve else 0, "photo")
    header = ("Masks", "correlation of two seeds", *map(head_of, columns))
    caption = f"RISE by its number of masks, on {photos}"
    return Grid("rise", caption, header, tuple(rows))


def _skipped(evaluation: Evaluation) -> Grid:
    rows = [
        Row((Cell(method.label), Cell(method.reason or "no reason recorded")), method.family)
        for method in evaluation.methods
        if method.status == "skipped"
    ]
    return Grid(
        "skipped", "Methods that were not measured", ("Method", "Reason"), tuple(rows), prose=True
    )
