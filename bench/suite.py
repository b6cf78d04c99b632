"""What the committed benchmarks share: one JSON for all models, figures, exit codes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.device import describe_device
from bench.figures import figure_line
from bench.results import Figure, SpeedReport, SuiteReport
from ptame_deploy.artifact_files import manifest_json
from ptame_deploy.cli import INTERRUPTED, console, tell
from ptame_deploy.errors import CheckFailedError, PtameError
from ptame_deploy.provenance import Provenance
from ptame_deploy.storage import write_text


def exit_code(run: Callable[[], None]) -> int:
    """Run a benchmark; its errors are printed, and become the exit codes of ``ptame``.

    A bug keeps its traceback: whoever runs a benchmark has the source at hand.
    """
    try:
        run()
    except KeyboardInterrupt:
        console.error("Interrupted.")
        return INTERRUPTED
    except (PtameError, OSError, ImportError, MemoryError) as error:
        return tell(error)
    return 0


def write_suite(
    reports: Sequence[SpeedReport], figures: Sequence[Figure], path: Path, *, seed: int
) -> None:
    """Write the reports that there are to one file.

    Raises:
        InvalidInputError: the file cannot be written.
    """
    suite = SuiteReport(
        provenance=Provenance.here(seed=seed),
        device=describe_device(),
        figures=list(figures),
        reports=list(reports),
    )
    write_text(path, manifest_json(suite))


def finish_suite(
    reports: Sequence[SpeedReport], figures: Sequence[Figure], path: Path, *, seed: int
) -> None:
    """Write all reports to one file, and hold the figures to their limits.

    Raises:
        CheckFailedError: a figure was missed; the file is written all the same.
        InvalidInputError: the file cannot be written.
    """
    write_suite(reports, figures, path, seed=seed)
    console.result("")
    for figure in figures:
        console.result(figure_line(figure))
    console.result(f"Wrote {path}")
    missed = [figure for figure in figures if not figure.passed]
    if missed:
        message = f"{len(missed)} of {len(figures)} figures were missed."
        raise CheckFailedError(message)
