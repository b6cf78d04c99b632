"""The command ``ptame``: global options, exit codes, and one module for each command.

Command modules import only typer at the top, so that ``--help`` and completion stay instant.
"""

import errno
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from ptame_deploy import __version__
from ptame_deploy.cli import console
from ptame_deploy.cli.bench import bench
from ptame_deploy.cli.bench_compare import compare
from ptame_deploy.cli.build import build
from ptame_deploy.cli.client import client
from ptame_deploy.cli.cpp_example import cpp_example
from ptame_deploy.cli.doctor import doctor
from ptame_deploy.cli.evaluate import evaluate
from ptame_deploy.cli.explain import explain
from ptame_deploy.cli.explain_archive import explain_archive
from ptame_deploy.cli.export import export
from ptame_deploy.cli.import_checkpoint import import_checkpoint
from ptame_deploy.cli.inspect import inspect
from ptame_deploy.cli.open_app import open_app
from ptame_deploy.cli.quantize import quantize
from ptame_deploy.cli.report import report
from ptame_deploy.cli.serve import serve
from ptame_deploy.cli.train import train
from ptame_deploy.cli.triton import triton
from ptame_deploy.cli.tune import tune
from ptame_deploy.errors import InvalidInputError, MissingRequirementError, PtameError

INTERRUPTED = 130
BROKEN_PIPE = 141
CLEANING_UP_SECONDS = 1.0  # after which another Ctrl-C counts anew
TERMINATED = 143
BUG = 70

app = typer.Typer(
    name="ptame",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done, 1 a check failed, 2 bad usage or input, 3 something is missing "
        "(package, driver, GPU, download, disk room), 4 an artifact is corrupt or does not match, "
        "70 a bug in ptame, 130 interrupted, 143 terminated."
    ),
)
for command in (
    export, quantize, build, inspect, doctor, explain, explain_archive, evaluate, report, train,
    tune, import_checkpoint, triton, client, serve, cpp_example,
):  # fmt: skip
    app.command()(command)
app.command("app")(open_app)


class _BenchGroup(TyperGroup):
    """``ptame bench ...`` measures, unless a command of its own is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in self.commands
        found: list[str] = super().parse_args(ctx, args if named else ["run", *args])
        return found


bench_app = typer.Typer(cls=_BenchGroup, help="Measure a graph, or compare two runs.")
bench_app.command("run")(bench)
bench_app.command()(compare)
app.add_typer(bench_app, name="bench")


def _print_version(value: bool) -> None:  # noqa: FBT001 (typer calls it so)
    if value:
        typer.echo(f"ptame {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    *,
    version: Annotated[  # noqa: ARG001 (handled by its callback)
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only results and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Explain image classifiers in production: train, export, quantize, build, explain, bench."""
    console.settings.verbose = verbose
    console.settings.quiet = quiet
    console.settings.debug = debug


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; errors are printed, not raised.

    With ``--debug`` they are raised.
    """
    console.settings.debug = "--debug" in arguments
    try:
        code = int(app(args=list(arguments), prog_name="ptame", standalone_mode=False) or 0)
    except typer.TyperException as error:  # bad usage, found by typer
        shown = cast("Any", error)
        shown.message = shown.message.removeprefix("Value error, ")  # pydantic's, passed on
        shown.show()
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except Exception as error:
        if _interrupts.seen:  # imports turn Ctrl-C into errors of their own
            console.error("Interrupted.")
            return INTERRUPTED
        if console.settings.debug:
            raise
        return tell(error)
    if code == INTERRUPTED:  # typer turns Ctrl-C into this code
        console.error("Interrupted.")
    return code


def tell(error: Exception) -> int:
    """Say on standard error what went wrong and what to do next; returns the exit code."""
    message, code = _explained(error)
    console.error(message)
    return code


def _explained(error: Exception) -> tuple[str, int]:
    if isinstance(error, PtameError):
        return str(error), error.exit_code
    if isinstance(error, ModuleNotFoundError):
        # A machine that only runs graphs was installed without what export and train need.
        message = f"This needs the package {error.name}. Install it: pip install {error.name}"
        return message, MissingRequirementError.exit_code
    if isinstance(error, OSError) and error.errno is not None:
        # Paths that are too long, loops of links, a full disk under a temporary folder.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = MissingRequirementError.exit_code if full else InvalidInputError.exit_code
        return f"{error.strerror}: {error.filename or 'while writing'}", code
    if isinstance(error, MemoryError):
        message = f"Out of memory ({error}). Try a smaller batch."
        return message, MissingRequirementError.exit_code
    message = (
        f"A bug in ptame: {type(error).__name__}: {error}\n"
        "Please report it with what `ptame --debug ...` prints."
    )
    return message, BUG


def _discard_output() -> None:
    """Forget what is still buffered for a reader that went away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Interrupts:
    """Ctrl-C: the first unwinds the stack; more of them do not break into the cleaning up."""

    def __init__(self) -> None:
        self.seen = False
        self._last = -math.inf

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        self.seen = True
        recently = time.monotonic() - self._last < CLEANING_UP_SECONDS
        if not recently:
            self._last = time.monotonic()
            raise KeyboardInterrupt


_interrupts = _Interrupts()


class _Terminated(BaseException):
    """SIGTERM: unwinds the stack, so that temporary files are removed."""


def main() -> None:
    """Run the command line of this process."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, _interrupts)
    for stream in (sys.stdout, sys.stderr):
        # A class name must not fail for want of a letter in the terminal's encoding.
        cast("TextIOWrapper", stream).reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except _Terminated:
        code = TERMINATED
    except BrokenPipeError:
        _discard_output()
        code = BROKEN_PIPE
    except OSError as error:
        _discard_output()
        code = tell(error)
    sys.exit(code)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise _Terminated
