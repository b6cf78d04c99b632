"""Writing reports: tables, one page, and what the terminal shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.evaluation.report.cells import many
from bench.evaluation.report.page import page
from bench.evaluation.report.tables import markdown, methods_csv
from bench.evaluation.results import Evaluation
from ptame_deploy.bootstrap import Interval
from ptame_deploy.storage import write_text

if TYPE_CHECKING:
    from rich.table import Table

PAGE, TABLE, METHODS = "report.html", "table.md", "methods.csv"


def write_report(
    directory: Path, evaluations: Sequence[Evaluation], folders: Sequence[Path]
) -> None:
    """Write ``report.html``, ``table.md`` and ``methods.csv``.

    Args:
        directory: for the three files.
        evaluations: one section each.
        folders: where each one's gallery lies.

    Raises:
        InvalidInputError: the folder cannot be written.
    """
    write_text(directory / TABLE, "\n\n".join(markdown(one) for one in evaluations))
    write_text(directory / METHODS, "\n".join(methods_csv(one) for one in evaluations))
    write_text(directory / PAGE, page(evaluations, folders))


def summary_table(evaluation: Evaluation) -> "Table":
    """Return the measures that contrast cannot move, and the time of a map, for a terminal."""
    from rich.table import Table

    columns = [m for m in evaluation.measures if not m.contrast_moves]
    percent = evaluation.settings.interval_percent
    table = Table(title=f"{many(evaluation.photos, 'photo')}; mean [{percent:g} % interval]")
    table.add_column("method")
    table.add_column("photos", justify="right")
    table.add_column("ms a map", justify="right")
    for column in columns:
        arrow = "↑" if column.better == "higher" else "↓"
        table.add_column(f"{column.label} {arrow}", justify="right")
    for method in evaluation.methods:
        if method.status == "skipped":
            table.add_row(method.label, "-", "-", *("-" for _ in columns))
            continue
        cells = [_cell(method.values.get(column.name)) for column in columns]
        time = "-" if method.time is None else f"{method.time.median_ms:,.1f}"
        table.add_row(method.label, str(method.photos), time, *cells)
    return table


def _cell(found: Interval | None) -> str:
    if found is None:
        return "-"
    if found.photos == 1:
        return f"{found.mean:.1f}"
    return f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"
