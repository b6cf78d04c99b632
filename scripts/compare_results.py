"""Which figures of a table or JSON moved when it was made again."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Times, memory and their ratios: what a shared machine, or another one, moves.
SPEED = 0.3
# Of faithfulness in points, and of what is no percentage, relative.
POINTS, QUALITY = 1.0, 0.1
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?")
# "AMD EPYC, 2 cores; ONNX Runtime 1.31.1; 2026-11-26 with ptame-deploy 0.1.0"
_STAMP = re.compile(r"[^.|*\n]*, \d+ cores;.*?\d{4}-\d\d-\d\d with ptame-deploy [\w.]*\w")
_MACHINE = re.compile(r"\b(ms|MB|s|photos/s|requests/s|faster|fused|over|threads?)\b")


@dataclass(frozen=True)
class Figure:
    """One figure, before and now.

    Attributes:
        where: table or JSON, row and column.
        before: the committed one.
        now: the one made again.
        of_machine: whether it says how fast or large something was.
    """

    where: str
    before: float
    now: float
    of_machine: bool

    @property
    def moved(self) -> bool:
        """Whether it is another figure than before, beyond what a new run may change."""
        difference, scale = abs(self.now - self.before), abs(self.before)
        if self.of_machine:
            return difference > SPEED * scale
        return difference > max(QUALITY * scale, POINTS if scale >= 1 else 0.0)


def compare_tables(name: str, before: str, now: str, *, of_machine: bool) -> list[Figure]:
    """Compare Markdown, figure by figure.

    Args:
        name: the table's.
        before: as it is committed.
        now: made again.
        of_machine: whether all of its columns tell of speed and size; else those in ms, s and MB.

    Raises:
        ValueError: they do not have the same rows.
    """
    found = []
    old, new = list(_rows(before)), list(_rows(now))
    if [one[:2] for one in old] != [one[:2] for one in new]:
        message = f"{name}: other rows than before"
        raise ValueError(message)
    for (row, column, text), (_, _, again) in zip(old, new, strict=True):
        pairs = list(zip(_numbers(text), _numbers(again), strict=False))
        speed = of_machine or _MACHINE.search(column) is not None
        found += [Figure(f"{name} › {row} › {column}", one, other, speed) for one, other in pairs]
    return found


def compare_figures(
    name: str, paths: Sequence[str], before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[Figure]:
    """Compare numbers of a JSON by their paths, such as ``serve.early_mb``.

    Raises:
        ValueError: one is not there any more.
    """
    return [
        Figure(f"{name} › {path}", _at(before, path), _at(now, path), "mean" not in path)
        for path in paths
    ]


def _at(document: Mapping[str, Any], path: str) -> float:
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            message = f"it holds no {path}"
            raise ValueError(message)
        value = value[part]
    return float(value)


def _rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield row, column and text of every cell; of text outside tables one with its first words."""
    header: list[str] = []
    for line in _STAMP.sub("", text).splitlines():
        if not line.startswith("|"):
            header = []
            if line.strip():
                yield _NUMBER.sub("#", line)[:40], "", line
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not header:
            header = cells
        elif set(line) - set("|-: "):
            row = _NUMBER.sub("#", cells[0]) if _NUMBER.fullmatch(cells[0]) else cells[0]
            for column, cell in zip(header[1:], cells[1:], strict=False):
                yield row, column, cell


def _numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in _NUMBER.findall(text)]
