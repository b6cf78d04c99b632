"""Cells of tables: numbers for people, intervals and times, and text that nothing can break."""

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from bench.evaluation.results import MapTime, MeasureRecord
from bench.methods.cost import Family
from ptame_deploy.bootstrap import Interval

NOTHING = "–"
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKDOWN = re.compile(r"([\\`*_\[\]|~#!])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ARROWS = {"higher": "↑", "lower": "↓"}


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
        lead: sentences that stand above it: how to read it.
        notes: sentences that stand below it.
        prose: whether the cells hold words, which line up on the left.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    lead: tuple[str, ...] = ()
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


def joined(names: Iterable[str]) -> str:
    """List names in a sentence."""
    found = list(names)
    return f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else "".join(found)


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


def head_of(measure: MeasureRecord) -> str:
    """Return a column's head: its label, and which way is better."""
    return f"{measure.label}\u00a0{_ARROWS[measure.better]}"


def interval_text(found: Interval, digits: int, *, signed: bool = False) -> str:
    """Write a mean with its interval in one line; one photo has none."""
    mean = number(found.mean, digits, signed=signed)
    if found.photos < 2 or not (math.isfinite(found.low) and math.isfinite(found.high)):
        return mean
    return f"{mean} [{number(found.low, digits)}, {number(found.high, digits)}]"


def interval_cell(found: Interval | None, digits: int, *, wins: bool = False) -> Cell:
    """Write a mean with its interval behind it; one photo has none."""
    if found is None or not math.isfinite(found.mean):
        return Cell(NOTHING)
    mean, _, span = interval_text(found, digits).partition(" ")
    return Cell(mean, span, wins)


def time_cell(time: MapTime | None) -> Cell:
    """Write a median time; quartiles behind it where they are not the same."""
    if time is None or not math.isfinite(time.median_ms):
        return Cell(NOTHING)
    middle, low, high = (milliseconds(t) for t in (time.median_ms, time.p25_ms, time.p75_ms))
    return Cell(middle, "" if low == middle == high else f"({low}–{high})")


def markdown_line(cells: Iterable[str]) -> str:
    """Return a table's line."""
    return f"| {' | '.join(cells)} |"


def markdown_cell(cell: Cell) -> str:
    """Return a cell's Markdown."""
    text = markdown_text(cell.text)
    if cell.wins:
        text = f"**{text}**"
    # Brackets of an interval are ours; only their content could come from a name.
    interval = cell.detail.startswith("[")
    return f"{text} {cell.detail if interval else markdown_text(cell.detail)}".rstrip()


def markdown_text(text: str) -> str:
    """Return text of which Markdown makes nothing else, neither tags nor links."""
    text = "".join(_ENTITIES.get(sign, sign) for sign in clean(text))
    # Unbroken, an address in a name would become a link.
    return _MARKDOWN.sub(r"\\\1", text).replace("://", "&#58;//")


def csv_value(value: object) -> object:
    """Return what a CSV file gets: no NaN, and no text that a spreadsheet would run."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if not isinstance(value, str):
        return value
    value = clean(value)
    return f"'{value}" if value.lstrip().startswith(_FORMULA) else value
