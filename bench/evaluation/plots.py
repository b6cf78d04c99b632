"""An evaluation as pictures: inline SVG that needs no script and names its colours by variable.

Each has a title and a description for those who cannot see it; what colour tells, shape or dashes
tell as well.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from bench.evaluation.results import Evaluation, Interval, MeasureRecord, MethodRecord
from bench.evaluation.tables import (
    clean,
    deciding,
    digits_of,
    label_of,
    measured,
    milliseconds,
    number,
    outcome,
    reference_of,
)

_CHOSEN = ("insertion", "road", "ad100_matched")
# Each variable with what stands in where the SVG is shown outside the page.
INK, MUTED, LINE = "var(--ink,#1c1e21)", "var(--muted,#5c6370)", "var(--line,#d9dce1)"
PAPER, ACCENT, LOSS = "var(--paper,#fff)", "var(--accent,#0b5cad)", "var(--c1,#b84a00)"
_HUES = tuple(
    f"var(--c{i},{fallback})"
    for i, fallback in enumerate(("#b84a00", "#007a5a", "#a1417f", "#7a6000", "#4a4fb8"), start=1)
)
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_FAMILY_HUES = {
    "p-tame": ACCENT, "cam": _HUES[0], "gradient": _HUES[1], "perturbation": _HUES[2],
    "floor": MUTED,
}  # fmt: skip
_SIZE, _SIGN = 13, 7.3  # of the letters, and about how wide one is
_STEPS = (1, 2, 2.5, 5, 10)

Box = tuple[float, float, float, float]  # left, top, right, bottom
_Attributes = dict[str, float | str]
_Place = tuple[float, float, str, _Attributes]  # of a name: its point, the name, its style


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


def plotted_column(evaluation: Evaluation) -> MeasureRecord | None:
    """Choose the column of the plots: never one that contrast moves."""
    found = {
        measure.name: measure
        for measure in deciding(evaluation)
        if any(measure.name in method.values for method in measured(evaluation))
    }
    names = (*_CHOSEN, *found)
    return next((found[name] for name in names if name in found), None)


def speed_plot(evaluation: Evaluation, prefix: str) -> str | None:
    """Draw faithfulness against time, floors as lines; None where nothing was timed.

    Args:
        evaluation: what was found.
        prefix: of the ids in the SVG, unique on the page.
    """
    measure = plotted_column(evaluation)
    if measure is None:
        return None
    methods = [m for m in measured(evaluation) if _finite(m.values.get(measure.name))]
    timed = [
        (m, m.time.median_ms)
        for m in methods
        if m.family != "floor" and m.time and 0 < m.time.median_ms < math.inf
    ]
    if not timed:
        return None
    floors = [m for m in methods if m.family == "floor"]
    width, height, left, right, top, bottom = 760, 440, 62, 134 if floors else 20, 34, 54
    x = Axis(*_log_range([time for _, time in timed]), left, width - right, log=True)
    y = Axis(*_with_near(timed, floors, measure), height - bottom, top)
    parts = [_grid(x, y, measure, f"{label_of(measure, evaluation)}, {measure.better} is better")]
    parts.append(_x_labels(x, height - bottom, "time of one map, log scale", _time_text))
    parts += _floor_lines(floors, measure, x, y)
    places: list[_Place] = []
    levels = [y(m.values[measure.name].mean) for m in floors]
    obstacles: list[Box] = [(left, level - 1, width - right, level + 1) for level in levels]
    for method, time in timed:
        found = method.values[measure.name]
        own = method.family == "p-tame"
        style: _Attributes = {"fill": ACCENT if own else INK}
        style |= {"font_weight": 700 if method.name == evaluation.reference else 600} if own else {}
        places.append((x(time), y(found.mean), _short(method.label, 24), style))
        obstacles.append((x(time) - 3, y(found.high), x(time) + 3, y(found.low)))
    bounds = (left, top, width - right, height - bottom)
    for (method, time), label in zip(timed, _labels(places, obstacles, bounds), strict=True):
        found, colour = method.values[measure.name], _FAMILY_HUES[method.family]
        parts.append(_whisker(x(time), y(found.low), y(found.high), colour))
        emphasised = method.name == evaluation.reference
        parts.append(_mark(method.family, x(time), y(found.mean), colour, large=emphasised))
        parts.append(label)
    told = [f"{m.label}: {milliseconds(t)} ms, {_told(m.values[measure.name], measure)}"
            for m, t in timed]  # fmt: skip
    told += [f"{m.label}, a floor: {_told(m.values[measure.name], measure)}" for m in floors]
    title = f"{label_of(measure, evaluation)} against milliseconds a map"
    return _svg((width, height), f"{prefix}-speed", title, told, parts)


def curve_plots(evaluation: Evaluation, prefix: str) -> list[str]:
    """Draw the mean curve of every method, a picture a measure; none where there are none."""
    names = sorted(evaluation.fractions, key=lambda name: (name != "insertion", name))
    drawn = (_curve_plot(evaluation, name, f"{prefix}-{i}") for i, name in enumerate(names))
    return [picture for picture in drawn if picture]


def _curve_plot(evaluation: Evaluation, name: str, prefix: str) -> str | None:
    xs = evaluation.fractions[name]
    lines = [
        (method, method.curves[name])
        for method in measured(evaluation)
        if len(method.curves.get(name, ())) == len(xs) > 1
        and all(map(math.isfinite, method.curves[name]))
    ]
    if not lines or not all(map(math.isfinite, xs)) or min(xs) >= max(xs):
        return None
    measure = next((m for m in evaluation.measures if m.name == name), None)
    rows = math.ceil(len(lines) / 2)
    width, left, right, top, base = 520, 48, 26, 34, 300
    x = Axis(min(xs), max(xs), left, width - right)
    values = [value for _, ys in lines for value in ys]
    y = Axis(*_padded(min(values), max(values)), base, top)
    what = label_of(measure, evaluation) if measure else name.capitalize()
    parts = [_grid(x, y, None, f"{_short(what, 30)}: probability of the explained class")]
    parts.append(_x_labels(x, base, "share of pixels changed", lambda v: f"{100 * v:.0f} %"))
    styles = _styles([method for method, _ in lines], evaluation)
    # What matters most is drawn last, on top.
    for method, ys in reversed(lines):
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))
        parts.append(_tag("polyline", points=points, fill="none", **styles[method.name]))
    told = []
    for place, (method, ys) in enumerate(lines):
        column, row = divmod(place, rows)
        at, down = left + column * (width - left) / 2, base + 66 + 19 * row
        found = method.values.get(name)
        mean = (
            f" {number(found.mean, digits_of(measure))}"
            if measure and found and _finite(found)
            else ""
        )
        parts.append(_tag("line", x1=at, x2=at + 28, y1=down - 4, y2=down - 4,
                          **styles[method.name]))  # fmt: skip
        weight = "700" if method.name == evaluation.reference else "400"
        parts.append(_text(at + 36, down, _short(method.label, 20) + mean, weight=weight))
        told.append(f"{method.label}: from {number(ys[0], 3)} to {number(ys[-1], 3)}{mean and ','}"
                    f"{mean and ' area' + mean}")  # fmt: skip
    better = f", {measure.better} is better" if measure else ""
    size = (width, base + 66 + 19 * rows)
    return _svg(size, f"{prefix}-curve", f"{what}: mean curve of each method{better}", told, parts)


def rise_plot(evaluation: Evaluation, prefix: str) -> str | None:
    """Draw RISE's quality against its masks, the reference as a line; None without a curve."""
    measure, curve = plotted_column(evaluation), evaluation.rise_curve
    if measure is None or curve is None:
        return None
    points = [
        (p.masks, p.values[measure.name])
        for p in sorted(curve.points, key=lambda point: point.masks)
        if p.masks > 0 and _finite(p.values.get(measure.name))
    ]
    if not points:
        return None
    level = curve.reference.get(measure.name)
    level = level if _finite(level) else None
    width, height, left, top, bottom = 640, 330, 62, 34, 54
    x = Axis(*_log_range([float(masks) for masks, _ in points]), left, width - 20, log=True)
    spans = [found for _, found in points] + ([level] if level else [])
    y = Axis(*_range(spans), height - bottom, top)
    parts = [_grid(x, y, measure, f"{label_of(measure, evaluation)}, {measure.better} is better")]
    parts.append(_x_labels(x, height - bottom, "RISE's masks, log scale", lambda v: f"{v:,.0f}"))
    told = [f"RISE, {masks:,} masks: {_told(found, measure)}" for masks, found in points]
    if level:
        reference = reference_of(evaluation)
        name = reference.label if reference else "P-TAME"
        ends = {"x1": left, "x2": width - 20, "y1": y(level.mean), "y2": y(level.mean)}
        deep = y(level.low) - y(level.high)
        box = {"x": left, "y": y(level.high), "width": width - 20 - left, "height": deep}
        parts.append(_tag("rect", **box, fill=ACCENT, opacity=0.12))
        parts.append(_tag("line", **ends, stroke=ACCENT, stroke_width=2))
        above = y(level.high) > top + 20
        at = y(level.high) - 6 if above else y(level.low) + 16
        parts.append(_text(left + 8, at, _short(name, 30), fill=ACCENT, weight="700"))
        told.append(f"{name} on the same photos: {_told(level, measure)}")
    line = " ".join(f"{x(masks):.1f},{y(found.mean):.1f}" for masks, found in points)
    hue = _FAMILY_HUES["perturbation"]
    parts.append(_tag("polyline", points=line, fill="none", stroke=hue, stroke_width=1.5))
    for masks, found in points:
        parts.append(_whisker(x(masks), y(found.low), y(found.high), hue))
        parts.append(_mark("perturbation", x(masks), y(found.mean), hue))
    title = f"RISE: {label_of(measure, evaluation)} by number of masks, {curve.photos} photos"
    return _svg((width, height), f"{prefix}-rise", title, told, parts)


def forest_plot(evaluation: Evaluation, prefix: str) -> str | None:
    """Draw by how much the reference is better than each method, photo by photo, with intervals."""
    measure, reference = plotted_column(evaluation), reference_of(evaluation)
    if measure is None or reference is None:
        return None
    found = [
        (m, m.against_reference[measure.name])
        for m in measured(evaluation)
        if m is not reference and _finite(m.against_reference.get(measure.name))
    ]
    if not found:
        return None
    # The record holds method minus reference; right shall be where the reference is better.
    sign = -1 if measure.better == "higher" else 1
    rows = sorted(((m, d, _turned(d, sign)) for m, d in found), key=lambda row: -row[2].mean)
    left, right, width, top = 178, 168, 760, 46
    base = top + 28 * len(rows)
    spans = [turned for *_, turned in rows] + [Interval(mean=0, low=0, high=0, photos=0)]
    x = Axis(*_range(spans), left, width - right)
    parts = [
        _tag("line", x1=x(tick), x2=x(tick), y1=top - 8, y2=base, stroke=LINE) for tick in x.ticks()
    ]
    parts.append(_tag("line", x1=x(0), x2=x(0), y1=top - 14, y2=base, stroke=MUTED))
    name = _short(reference.label, 18)
    parts.append(_text(x(0) - 8, top - 20, f"← {name} worse", anchor="end", fill=MUTED))
    parts.append(_text(x(0) + 8, top - 20, f"{name} better →", fill=MUTED))
    digits, told = digits_of(measure), []
    for place, (method, difference, turned) in enumerate(rows):
        down = top + 14 + 28 * place
        result = outcome(difference, measure)
        colour = {"worse": ACCENT, "better": LOSS, "undecided": MUTED}[result]
        ends = {"x1": x(turned.low), "x2": x(turned.high), "y1": down, "y2": down}
        parts.append(_tag("line", **ends, stroke=colour, stroke_width=2))
        shape = {"worse": "p-tame", "better": "cam", "undecided": "hollow"}[result]
        parts.append(_mark(shape, x(turned.mean), down, colour))
        parts.append(_text(left - 14, down + 4, _short(method.label, 23), anchor="end"))
        value = (
            f"{number(turned.mean, digits, signed=True)} [{number(turned.low, digits)}, "
            f"{number(turned.high, digits)}]"
        )
        parts.append(_text(width, down + 4, value, anchor="end", fill=MUTED))
        verdict = {"worse": "better", "better": "worse", "undecided": "undecided"}[result]
        told.append(f"{reference.label} against {method.label}: {verdict}, {value}")
    unit = f"difference in {label_of(measure, evaluation)}, turned so that right is better"
    parts.append(_x_labels(x, base, unit, lambda v: number(v, _decimals(x), signed=True)))
    title = f"{reference.label} against each method, {label_of(measure, evaluation)}"
    return _svg((width, base + 50), f"{prefix}-forest", title, told, parts)


def _floor_lines(
    floors: Iterable[MethodRecord], measure: MeasureRecord, x: Axis, y: Axis
) -> list[str]:
    """Draw dashed lines, their names beside them at the right and apart from each other."""
    parts, last = [], -math.inf
    for method in sorted(floors, key=lambda m: -m.values[measure.name].mean):
        found = method.values[measure.name]
        name, inside = _short(method.label, 16), y.low <= found.mean <= y.high
        level = y(min(max(found.mean, y.low), y.high))
        if inside:
            ends = {"x1": x.start, "x2": x.end, "y1": level, "y2": level}
            parts.append(_tag("line", **ends, stroke=MUTED, stroke_dasharray="5 4"))
        # Two lines stand beside a floor that is out of the picture; both stay above the ticks.
        last = max(level + (4 if inside or found.mean > y.high else -20), last + 16)
        parts.append(_text(x.end + 8, last, name, fill=MUTED))
        if not inside:  # too far away to be drawn without crushing the rest
            last += 16
            arrow = "↓" if found.mean < y.low else "↑"
            value = f"{arrow} {number(found.mean, digits_of(measure))}"
            parts.append(_text(x.end + 8, last, value, fill=MUTED))
    return parts


def _with_near(
    timed: Sequence[tuple[MethodRecord, float]],
    floors: Sequence[MethodRecord],
    measure: MeasureRecord,
) -> tuple[float, float]:
    """Return the range of the methods, with the floors that do not crush it."""
    low, high = _range([method.values[measure.name] for method, _ in timed])
    reach = max(high - low, 0.05 * (abs(high) + abs(low)))
    means = [method.values[measure.name].mean for method in floors]
    near = [mean for mean in means if low - 0.3 * reach <= mean <= high + 0.3 * reach]
    return _padded(min([low, *near]), max([high, *near]))


def _labels(places: Sequence[_Place], obstacles: Sequence[Box], bounds: Box) -> list[str]:
    """Put a name beside each point, where it covers least; far ones get a line to their point.

    Points are served in order, so that the first ones, P-TAME's, lie best.
    """
    taken = [*obstacles, *[(x - 7, y - 7, x + 7, y + 7) for x, y, *_ in places]]
    made = []
    for x, y, text, style in places:
        width = _SIGN * len(text)
        best: tuple[float, Box, float, str, float] | None = None
        for radius in (11.0, 20.0, 32.0, 46.0, 62.0, 80.0, 100.0):
            for angle in (0, 180, -35, 35, -145, 145, -90, 90, -65, 65, -115, 115):
                cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
                at = x + radius * cos, y + radius * sin
                # Written away from the point, so that a wider font does not run into it.
                anchor = "middle" if abs(cos) < 0.3 else "start" if cos > 0 else "end"
                start = at[0] - width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
                box = (start, at[1] - 8, start + width, at[1] + 8)
                cost = radius + 5 * sum(_overlap(box, other) for other in taken)
                cost += 1000 * (not _inside(box, bounds))
                if best is None or cost < best[0]:
                    best = cost, box, radius, anchor, at[0]
        assert best is not None
        _, box, radius, anchor, start = best
        taken.append(box)
        label = _tag("text", escape(text), x=start, y=box[1] + 12, text_anchor=anchor, **style)
        if radius > 20:
            near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
            ends = {"x1": x, "y1": y, "x2": near[0], "y2": near[1]}
            label = _tag("line", **ends, stroke=MUTED, stroke_width=0.8) + label
        made.append(label)
    return made


def _overlap(a: Box, b: Box) -> float:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _inside(box: Box, bounds: Box) -> bool:
    return (
        box[0] >= bounds[0] and box[1] >= bounds[1] and box[2] <= bounds[2] and box[3] <= bounds[3]
    )


def _grid(x: Axis, y: Axis, measure: MeasureRecord | None, title: str) -> str:
    """Draw the horizontal lines with their values, and say above them what they are."""
    decimals = _decimals(y)
    parts = [_text(0, 14, title, fill=MUTED)]
    for tick in y.ticks():
        ends = {"x1": x.start, "x2": x.end, "y1": y(tick), "y2": y(tick)}
        parts.append(_tag("line", **ends, stroke=LINE))
        label = number(tick, min(decimals, 1) if digits_of(measure) == 1 else decimals)
        parts.append(_text(x.start - 8, y(tick) + 4, label, anchor="end", fill=MUTED))
    return "".join(parts)


def _x_labels(x: Axis, base: float, title: str, write: Callable[[float], str]) -> str:
    parts = [_tag("line", x1=x.start, x2=x.end, y1=base, y2=base, stroke=MUTED)]
    for tick in x.ticks():
        parts.append(_tag("line", x1=x(tick), x2=x(tick), y1=base, y2=base + 5, stroke=MUTED))
        parts.append(_text(x(tick), base + 20, write(tick), anchor="middle", fill=MUTED))
    parts.append(_text((x.start + x.end) / 2, base + 42, title, anchor="middle", fill=MUTED))
    return "".join(parts)


def _time_text(ms: float) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def _whisker(x: float, low: float, high: float, colour: str) -> str:
    path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 3:.1f} {low:.1f}h6M{x - 3:.1f} {high:.1f}h6"
    return _tag("path", d=path, stroke=colour, stroke_width=1.2, fill="none")


def _mark(shape: str, x: float, y: float, colour: str, *, large: bool = False) -> str:
    """Draw a family's shape: disc, square, triangle or diamond; a ring is undecided."""
    r = 7.5 if large else 5.0
    if shape == "hollow":
        return _tag("circle", cx=x, cy=y, r=r, fill=PAPER, stroke=colour, stroke_width=2)
    if shape == "p-tame":
        return _tag("circle", cx=x, cy=y, r=r, fill=colour, stroke=PAPER)
    corners = {
        "cam": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        "gradient": ((0, -1.3), (1.2, 1), (-1.2, 1)),
    }.get(shape, ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)))
    points = " ".join(f"{x + 0.9 * r * a:.1f},{y + 0.9 * r * b:.1f}" for a, b in corners)
    return _tag("polygon", points=points, fill=colour, stroke=PAPER)


def _styles(methods: Iterable[MethodRecord], evaluation: Evaluation) -> dict[str, _Attributes]:
    """Give each method a line: hues and dashes have no common divisor, so 20 pairs differ."""
    found: dict[str, _Attributes] = {}
    own = others = 0
    for method in methods:
        if method.name == evaluation.reference:
            style: _Attributes = {"stroke": ACCENT, "stroke_width": 3.2}
        elif method.family == "p-tame":
            own += 1
            style = {"stroke": ACCENT, "stroke_width": 1.8}
            style["stroke_dasharray"] = _DASHES[1 + (own - 1) % 3]
        elif method.family == "floor":
            style = {"stroke": MUTED, "stroke_width": 1.6}
            style["stroke_dasharray"] = "1 3" if "random" in method.name else "5 4"
        else:
            style = {"stroke": _HUES[others % len(_HUES)], "stroke_width": 1.8}
            dash = _DASHES[(others + others // len(_HUES)) % len(_DASHES)]
            style |= {"stroke_dasharray": dash} if dash else {}
            others += 1
        found[method.name] = style
    return found


def _finite(found: Interval | None) -> bool:
    return found is not None and all(map(math.isfinite, (found.mean, found.low, found.high)))


def _turned(found: Interval, sign: int) -> Interval:
    low, high = sorted((sign * found.low, sign * found.high))
    return Interval(mean=sign * found.mean, low=low, high=high, photos=found.photos)


def _told(found: Interval, measure: MeasureRecord) -> str:
    digits = digits_of(measure)
    return (
        f"{number(found.mean, digits)} [{number(found.low, digits)}, {number(found.high, digits)}]"
    )


def _short(text: str, length: int) -> str:
    text = clean(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _range(found: Sequence[Interval]) -> tuple[float, float]:
    return _padded(min(each.low for each in found), max(each.high for each in found))


def _padded(low: float, high: float) -> tuple[float, float]:
    """Leave air on both sides, and a span where all values are the same."""
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - air, high + air


def _log_range(values: Sequence[float]) -> tuple[float, float]:
    """Leave air on both sides, and at least most of a decade."""
    low, high = math.log10(min(values)), math.log10(max(values))
    air = max(0.08 * (high - low), (1.2 - (high - low)) / 2, 0.08)
    return float(10 ** (low - air)), float(10 ** (high + air))


def _round_step(rough: float) -> float:
    power = float(10 ** math.floor(math.log10(rough)))
    return next(power * step for step in _STEPS if power * step >= rough * (1 - 1e-9))


def _decimals(axis: Axis) -> int:
    step = _round_step((axis.high - axis.low) / 6)
    return next((n for n in range(6) if abs(round(step, n) - step) < step * 1e-6), 6)


def _svg(
    size: tuple[float, float], name: str, title: str, told: Sequence[str], parts: Sequence[str]
) -> str:
    """Put a picture together; what it shows stands in words in its description."""
    head = _tag("title", escape(clean(title)), id=f"{name}-title")
    head += _tag("desc", escape(clean("; ".join(told))), id=f"{name}-desc")
    width, height = size
    return _tag(
        "svg", head + "".join(parts), xmlns="http://www.w3.org/2000/svg", role="img",
        width=width, height=height, viewBox=f"0 0 {width:g} {height:g}", font_size=_SIZE, fill=INK,
        aria_labelledby=f"{name}-title", aria_describedby=f"{name}-desc",
    )  # fmt: skip


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, weight: str = "400"
) -> str:
    attributes: _Attributes = {"text_anchor": anchor} if anchor != "start" else {}
    attributes |= {"font_weight": weight} if weight != "400" else {}
    return _tag("text", escape(clean(text)), x=x, y=y, fill=fill, **attributes)


def _tag(name: str, content: str = "", /, **attributes: float | str) -> str:
    """Write one element; ``_`` in an attribute's name stands for ``-``."""
    written = "".join(
        f" {key.replace('_', '-')}={quoteattr(v if isinstance(v, str) else f'{v:g}')}"
        for key, v in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"
