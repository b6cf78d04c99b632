"""``ptame report``."""

from pathlib import Path
from typing import Annotated

import typer

from ptame_deploy.cli import console


def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS...", help="results.json files, or folders that hold one."),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report.")],
) -> None:
    """Put evaluations into one report: of other precisions, machines or classifiers.

    Evaluations of the same classifier on the same photos become one table, with differences photo
    by photo where their values.csv lies beside them; others become sections of one page.
    """
    from bench.evaluation.merge import merge, read_evaluation
    from bench.evaluation.report.write import write_report
    from ptame_deploy.storage import check_writable

    check_writable(output)
    found = [read_evaluation(path) for path in results]
    merged, notes = merge(found)
    for note in notes:
        console.warn(note)
    write_report(output, [one.evaluation for one in merged], [one.folder for one in merged])
    console.result(f"Report: {output / 'report.html'}")
