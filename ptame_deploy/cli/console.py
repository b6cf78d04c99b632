"""What the command line prints: results on standard output, all else on standard error."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


SECONDS_BETWEEN_LINES = 30.0  # of progress, where the output is no terminal


@dataclass
class Settings:
    """The global options."""

    verbose: bool = False
    quiet: bool = False
    debug: bool = False


settings = Settings()


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    # No markup: the [rtx] of an extra and the [x] of a path are no styles.
    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)


def _plain(text: str) -> str:
    """Show control characters as what they are: names in files must not steer a terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text
    )


def info(text: str) -> None:
    """Say what is happening, unless ``--quiet``."""
    if not settings.quiet:
        _console(stderr=True).print(_plain(text))


def detail(text: str) -> None:
    """Say what only ``--verbose`` asks for."""
    if settings.verbose:
        info(text)


def warn(text: str) -> None:
    """Say what the user must know, in any case."""
    _console(stderr=True).print(f"Warning: {_plain(text)}", style="yellow")


def error(text: str) -> None:
    """Say what went wrong."""
    _console(stderr=True).print(f"Error: {_plain(text)}", style="red")


def result(text: str) -> None:
    """Print a result for a person or a pipe."""
    _console(stderr=False).print(_plain(text))


def table(content: "Table") -> None:
    """Print a table of results; as wide as it needs where the output is not a terminal."""
    console = _console(stderr=False)
    if not console.is_terminal:
        console.width = 200
    console.print(content, soft_wrap=False)


@contextmanager
def progress(description: str, total: int | None) -> Iterator["Progress"]:
    """Show a progress bar on a terminal; its only task is `Progress.task_ids[0]`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = _console(stderr=True)
    hidden = settings.quiet or not console.is_terminal
    bar = Progress(*columns, console=console, disable=hidden, transient=True)
    with bar:
        bar.add_task(description, total=total)
        yield bar


@contextmanager
def steps(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far something long is, with the time left; lines where there is no terminal.

    What it gives is called with the number of steps just done.
    """
    if settings.quiet:
        yield lambda _: None
        return
    if _console(stderr=True).is_terminal:
        with progress(description, total) as bar:
            yield lambda count: bar.advance(bar.task_ids[0], count)
        return
    started = told = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        now = time.monotonic()
        if done < total and now - told >= SECONDS_BETWEEN_LINES:
            left = (now - started) / done * (total - done)
            info(f"  {description}: {done} of {total}, about {_duration(left)} left")
            told = now

    yield advance
    info(f"{description}: {_duration(time.monotonic() - started)}")


def _duration(seconds: float) -> str:
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def bullet_list(items: Iterable[str]) -> str:
    """Return items as indented lines."""
    return "\n".join(f"  - {item}" for item in items)
