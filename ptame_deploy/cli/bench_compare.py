"""``ptame bench compare``."""

from pathlib import Path
from typing import Annotated

import typer

from ptame_deploy.cli import console


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="The first run.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="The second run.")],
) -> None:
    """Put two bench runs side by side: times, ratios, and what else differs between them.

    Times of two runs carry what the machine did meanwhile; the ratios below the table were taken
    within each run, and compare better.
    """
    from bench.compare_runs import (
        differences,
        pairs,
        pairs_table,
        ratio_line,
        ratio_pairs,
        read_reports,
    )

    first, second = read_reports(before), read_reports(after)
    found = pairs(first, second)
    console.result(f"A: {before}, {first[0].provenance.created}")
    console.result(f"B: {after}, {second[0].provenance.created}")
    console.table(pairs_table(found))
    for pair in ratio_pairs(first, second):
        console.result(ratio_line(pair))
    for line in differences(first, second):
        console.warn(f"the runs differ in more than time: {line}")
