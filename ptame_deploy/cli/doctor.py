"""``ptame doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from ptame_deploy.cli import console


def doctor(
    artifact: Annotated[
        Path | None,
        typer.Argument(help="Also say whether this artifact can run here.", show_default=False),
    ] = None,
) -> None:
    """Show what this machine can do, and what each missing thing needs."""
    from rich.table import Table

    from engines.doctor import examine, examine_artifact

    table = Table(title="This machine", title_justify="left")
    for column in ("", "here", "found, or what it needs"):
        table.add_column(column)
    for finding in examine():
        table.add_row(finding.what, "yes" if finding.here else "no", finding.detail)
    console.table(table)
    if artifact is None:
        return
    finding = examine_artifact(artifact)
    console.result(f"{artifact}: {finding.detail}")
    if not finding.here:
        from ptame_deploy.errors import MissingRequirementError

        message = f"{artifact} cannot run here."
        raise MissingRequirementError(message)
