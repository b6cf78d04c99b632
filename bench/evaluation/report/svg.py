"""Inline SVG that needs no script and names its colours by variable: axes, marks and labels."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape, quoteattr

from bench.evaluation.report.cells import clean, number

# Each variable with what stands in where the SVG is shown outside the page.
INK, MUTED, LINE = "var(--ink,#1c1e21)", "var(--muted,#5c6370)", "var(--line,#d9dce1)"
PAPER, ACCENT = "var(--paper,#fff)", "var(--accent,#0b5cad)"
HUES = tuple(
    f"var(--c{i},{fallback})"
    for i, fallback in enumerate(("#b84a00", "#007a5a", "#a1417f", "#7a6000", "#4a4fb8"), start=1)
)
_SIZE, _SIGN = 13, 7.3  # of the letters, and about how wide one is
_STEPS = (1, 2, 2.5, 5, 10)

Box = tuple[float, float, float, float]  # left, top, right, bottom
Attributes = dict[str, float | str]


@dataclass(frozen=True)
class Named:
    """A point with its name: where it lies, how far its interval reaches, and the name's style."""

    x: float
    y: float
    top: float
    bottom: float
    name: str
    style: Attributes


@dataclass(frozen=True)
class Axis:
    """Values to pixels; the pixels may run backwards."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return where a value lies."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values within the axis."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            kept = (1,) if last - first > 3 else (1, 2, 5)
            found = [k * 10.0**power for power in range(first, last + 1) for k in kept]
            return [value for value in found if self.low <= value <= self.high]
        step = _round_step((self.high - self.low) / 6)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def picture(
    size: tuple[float, float], name: str, title: str, told: Sequence[str], parts: Sequence[str]
) -> str:
    """Put a picture together; what it shows stands in words in its description."""
    head = tag("title", escape(clean(title)), id=f"{name}-title")
    head += tag("desc", escape(clean("; ".join(told))), id=f"{name}-desc")
    width, height = size
    return tag(
        "svg", head + "".join(parts), xmlns="http://www.w3.org/2000/svg", role="img",
        width=width, height=height, viewBox=f"0 0 {width:g} {height:g}", font_size=_SIZE, fill=INK,
        aria_labelledby=f"{name}-title", aria_describedby=f"{name}-desc",
    )  # fmt: skip


def tag(name: str, content: str = "", /, **attributes: float | str) -> str:
    """Write one element; ``_`` in an attribute's name stands for ``-``."""
    written = "".join(
        f" {key.replace('_', '-')}={quoteattr(v if isinstance(v, str) else f'{v:g}')}"
        for key, v in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text_at(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, weight: str = "400"
) -> str:
    """Write a line of text; ``anchor`` is the end of it that stands at ``x``."""
    attributes: Attributes = {"text_anchor": anchor} if anchor != "start" else {}
    attributes |= {"font_weight": weight} if weight != "400" else {}
    return tag("text", escape(clean(text)), x=x, y=y, fill=fill, **attributes)


def mark(
    shape: str, x: float, y: float, colour: str, *, large: bool = False, hollow: bool = False
) -> str:
    """Draw a family's shape: disc, square, triangle or diamond."""
    r = 7.5 if large else 5.0
    drawn: Attributes = {"fill": colour, "stroke": PAPER}
    if hollow:
        drawn = {"fill": PAPER, "stroke": colour, "stroke_width": 2}
    if shape == "p-tame":
        return tag("circle", cx=x, cy=y, r=r, **drawn)
    corners = {
        "cam": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        "gradient": ((0, -1.3), (1.2, 1), (-1.2, 1)),
    }.get(shape, ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)))
    points = " ".join(f"{x + 0.9 * r * a:.1f},{y + 0.9 * r * b:.1f}" for a, b in corners)
    return tag("polygon", points=points, **drawn)


def whisker(x: float, low: float, high: float, colour: str) -> str:
    """Draw a vertical interval."""
    path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 3:.1f} {low:.1f}h6M{x - 3:.1f} {high:.1f}h6"
    return tag("path", d=path, stroke=colour, stroke_width=1.2, fill="none")


def y_grid(x: Axis, y: Axis, title: str, most: int = 6) -> str:
    """Draw the horizontal lines with their values, and say above them what they are.

    Args:
        x: how far the lines reach.
        y: the values.
        title: what they are.
        most: decimals at most.
    """
    digits = min(decimals(y), most)
    parts = [text_at(0, 14, title, fill=MUTED)]
    for tick in y.ticks():
        ends = {"x1": x.start, "x2": x.end, "y1": y(tick), "y2": y(tick)}
        parts.append(tag("line", **ends, stroke=LINE))
        label = number(tick, digits)
        parts.append(text_at(x.start - 8, y(tick) + 4, label, anchor="end", fill=MUTED))
    return "".join(parts)


def x_axis(x: Axis, base: float, title: str, write: Callable[[float], str]) -> str:
    """Draw the axis below everything, with its values and what they are."""
    parts = [tag("line", x1=x.start, x2=x.end, y1=base, y2=base, stroke=MUTED)]
    for tick in x.ticks():
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=base, y2=base + 5, stroke=MUTED))
        parts.append(text_at(x(tick), base + 20, write(tick), anchor="middle", fill=MUTED))
    parts.append(text_at((x.start + x.end) / 2, base + 42, title, anchor="middle", fill=MUTED))
    return "".join(parts)


def place_labels(
    points: Sequence[Named], obstacles: Sequence[Box], bounds: Box
) -> tuple[list[str], list[str]]:
    """Put a name beside each point or at an end of its interval, where it covers least.

    A name that stands further off gets a line from its interval's end. Points are served in order,
    so that the first ones, P-TAME's, lie best.

    Returns:
        Lines, to be drawn first, and a name for each point, to be drawn last.
    """
    taken = [*obstacles, *[(p.x - 7, p.y - 7, p.x + 7, p.y + 7) for p in points]]
    taken += [(p.x - 3, p.top, p.x + 3, p.bottom) for p in points]
    lines, names = [], []
    for point in points:
        best = min(_places(point), key=lambda place: _cost(place, taken, bounds))
        taken.append(best.box)
        names.append(tag(
            "text", escape(point.name), x=best.x, y=best.box[1] + 12, text_anchor=best.anchor,
            stroke=PAPER, stroke_width=4, stroke_linejoin="round", paint_order="stroke",
            **point.style,
        ))  # fmt: skip
        if best.line is not None:
            taken.append(best.line)
            left, top, right, bottom = best.line
            ends = {"x1": (left + right) / 2, "x2": (left + right) / 2, "y1": top, "y2": bottom}
            lines.append(tag("line", **ends, stroke=MUTED, stroke_width=0.8))
    return lines, names


@dataclass(frozen=True)
class _Spot:
    x: float
    anchor: str
    box: Box
    distance: float
    line: Box | None = None


def _places(point: Named) -> Iterator[_Spot]:
    """Yield places for a name, written away from its point: a wider font does not run into it."""
    width = _SIGN * len(point.name)
    for down in (0, -10, 10):
        for anchor, x in (("start", point.x + 11), ("end", point.x - 11)):
            yield _spot(x, point.y + down, anchor, width, abs(down))
    for level in range(12):
        above, below = point.top - 11 - 15 * level, point.bottom + 11 + 15 * level
        for y, line in (
            (above, (point.x - 1, above + 8, point.x + 1, point.top)),
            (below, (point.x - 1, point.bottom, point.x + 1, below - 8)),
        ):
            for anchor, x in (("middle", point.x), ("start", point.x - 6), ("end", point.x + 6)):
                spot = _spot(x, y, anchor, width, 16 + 12 * level + 4 * (anchor != "middle"))
                yield replace(spot, line=line) if level else spot


def _spot(x: float, y: float, anchor: str, width: float, distance: float) -> _Spot:
    left = x - width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
    return _Spot(x, anchor, (left, y - 8, left + width, y + 8), distance)


def _cost(spot: _Spot, taken: Sequence[Box], bounds: Box) -> float:
    covered = sum(_overlap(spot.box, other) for other in taken)
    if spot.line is not None:
        covered += 3 * sum(_overlap(spot.line, other) for other in taken)
    return spot.distance + 5 * covered + 1000 * (not _inside(spot.box, bounds))


def _overlap(a: Box, b: Box) -> float:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _inside(box: Box, bounds: Box) -> bool:
    return (
        box[0] >= bounds[0] and box[1] >= bounds[1] and box[2] <= bounds[2] and box[3] <= bounds[3]
    )


def short(text: str, length: int) -> str:
    """Cut a name that is too long for its place."""
    text = clean(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def padded(low: float, high: float) -> tuple[float, float]:
    """Leave air on both sides, and a span where all values are the same."""
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - air, high + air


def log_range(values: Sequence[float]) -> tuple[float, float]:
    """Leave air on both sides, and at least most of a decade."""
    low, high = math.log10(min(values)), math.log10(max(values))
    air = max(0.08 * (high - low), (1.2 - (high - low)) / 2, 0.08)
    return float(10 ** (low - air)), float(10 ** (high + air))


def decimals(axis: Axis) -> int:
    """Return how many decimals an axis's values need."""
    step = _round_step((axis.high - axis.low) / 6)
    return next((n for n in range(6) if abs(round(step, n) - step) < step * 1e-6), 6)


def _round_step(rough: float) -> float:
    power = float(10 ** math.floor(math.log10(rough)))
    return next(power * step for step in _STEPS if power * step >= rough * (1 - 1e-9))
