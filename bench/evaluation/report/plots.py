"""An evaluation as pictures: what colour tells, shape or dashes tell as well.

Each has a title and a description for those who cannot see it.
"""

import math
from collections.abc import Iterable, Sequence

from bench.evaluation.report.cells import digits_of, interval_text, milliseconds, number
from bench.evaluation.report.comparison import (
    deciding,
    is_partial,
    is_same_method,
    marked,
    measured,
    outcome,
    reference_of,
)
from bench.evaluation.report.svg import (
    ACCENT,
    HUES,
    INK,
    LINE,
    MUTED,
    Attributes,
    Axis,
    Box,
    Named,
    decimals,
    log_range,
    mark,
    padded,
    picture,
    place_labels,
    short,
    tag,
    text_at,
    whisker,
    x_axis,
    y_grid,
)
from bench.evaluation.results import Evaluation, MeasureRecord, MethodRecord
from ptame_deploy.bootstrap import Interval

_CHOSEN = ("insertion", "road", "ad100_matched")
_FAMILY_HUES = {
    "p-tame": ACCENT, "cam": HUES[0], "gradient": HUES[1], "perturbation": HUES[2],
    "given": HUES[3], "floor": MUTED,
}  # fmt: skip


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
    methods = [m for m in measured(evaluation) if is_drawn(m.values.get(measure.name))]
    timed = [
        (m, m.time.median_ms)
        for m in methods
        if m.family != "floor" and m.time and 0 < m.time.median_ms < math.inf
    ]
    if not timed:
        return None
    floors = [m for m in methods if m.family == "floor"]
    width, height, left, right, top, bottom = 760, 440, 62, 134 if floors else 20, 34, 54
    x = Axis(*log_range([time for _, time in timed]), left, width - right, log=True)
    y = Axis(*_with_near(timed, floors, measure), height - bottom, top)
    parts = [y_grid(x, y, f"{measure.label}, {measure.better} is better", digits_of(measure))]
    parts.append(x_axis(x, height - bottom, "time of one map, log scale", _time_text))
    parts += _floor_lines(floors, measure, x, y)
    levels = [y(m.values[measure.name].mean) for m in floors]
    obstacles: list[Box] = [(left, level - 1, width - right, level + 1) for level in levels]
    points = []
    for method, time in timed:
        found = method.values[measure.name]
        own = method.family == "p-tame"
        style: Attributes = {"fill": ACCENT if own else INK}
        style |= {"font_weight": 700 if method.name == evaluation.reference else 600} if own else {}
        name = short(marked(method, evaluation), 26)
        points.append(Named(x(time), y(found.mean), y(found.high), y(found.low), name, style))
    bounds = (left, top, width - right, height - bottom)
    lines, names = place_labels(points, obstacles, bounds)
    parts += lines
    for (method, _), point in zip(timed, points, strict=True):
        colour = _FAMILY_HUES[method.family]
        parts.append(whisker(point.x, point.bottom, point.top, colour))
        large, hollow = method.name == evaluation.reference, is_partial(method, evaluation)
        parts.append(mark(method.family, point.x, point.y, colour, large=large, hollow=hollow))
    parts += names
    said = {m.name: interval_text(m.values[measure.name], digits_of(measure)) for m in methods}
    told = [f"{marked(m, evaluation)}: {milliseconds(t)} ms, {said[m.name]}" for m, t in timed]
    told += [f"{m.label}, a floor: {said[m.name]}" for m in floors]
    title = f"{measure.label} against milliseconds a map"
    return picture((width, height), f"{prefix}-speed", title, told, parts)


def rise_plot(evaluation: Evaluation, prefix: str) -> str | None:
    """Draw RISE's quality against its masks, the reference as a line; None without a curve."""
    measure, curve = plotted_column(evaluation), evaluation.rise_curve
    if measure is None or curve is None:
        return None
    points = [
        (p.masks, p.values[measure.name])
        for p in sorted(curve.points, key=lambda point: point.masks)
        if p.masks > 0 and is_drawn(p.values.get(measure.name))
    ]
    if not points:
        return None
    level = curve.reference.get(measure.name)
    level = level if is_drawn(level) else None
    width, height, left, top, bottom = 640, 330, 62, 34, 54
    x = Axis(*log_range([float(masks) for masks, _ in points]), left, width - 20, log=True)
    spans = [found for _, found in points] + ([level] if level else [])
    y = Axis(*_range(spans), height - bottom, top)
    parts = [y_grid(x, y, f"{measure.label}, {measure.better} is better", digits_of(measure))]
    parts.append(x_axis(x, height - bottom, "RISE's masks, log scale", lambda v: f"{v:,.0f}"))
    told = [
        f"RISE, {masks:,} masks: {interval_text(found, digits_of(measure))}"
        for masks, found in points
    ]
    if level:
        reference = reference_of(evaluation)
        name = reference.label if reference else "P-TAME"
        ends = {"x1": left, "x2": width - 20, "y1": y(level.mean), "y2": y(level.mean)}
        deep = y(level.low) - y(level.high)
        box = {"x": left, "y": y(level.high), "width": width - 20 - left, "height": deep}
        parts.append(tag("rect", **box, fill=ACCENT, opacity=0.12))
        parts.append(tag("line", **ends, stroke=ACCENT, stroke_width=2))
        above = y(level.high) > top + 20
        at = y(level.high) - 6 if above else y(level.low) + 16
        parts.append(text_at(left + 8, at, short(name, 30), fill=ACCENT, weight="700"))
        told.append(f"{name} on the same photos: {interval_text(level, digits_of(measure))}")
    line = " ".join(f"{x(masks):.1f},{y(found.mean):.1f}" for masks, found in points)
    hue = _FAMILY_HUES["perturbation"]
    parts.append(tag("polyline", points=line, fill="none", stroke=hue, stroke_width=1.5))
    for masks, found in points:
        parts.append(whisker(x(masks), y(found.low), y(found.high), hue))
        parts.append(mark("perturbation", x(masks), y(found.mean), hue))
    title = f"RISE: {measure.label} by number of masks, {curve.photos} photos"
    return picture((width, height), f"{prefix}-rise", title, told, parts)


def forest_plot(evaluation: Evaluation, prefix: str) -> str | None:
    """Draw by how much the reference is better than each method, photo by photo, with intervals."""
    measure, reference = plotted_column(evaluation), reference_of(evaluation)
    if measure is None or reference is None:
        return None
    found = [
        (m, m.against_reference[measure.name])
        for m in measured(evaluation)
        if m is not reference and is_drawn(m.against_reference.get(measure.name))
    ]
    if not found:
        return None
    # The record holds method minus reference; right shall be where the reference is better.
    sign = -1 if measure.better == "higher" else 1
    rows = [(m, d, _turned(d, sign)) for m, d in found]
    rows.sort(key=lambda row: (is_same_method(row[0], evaluation), -row[2].mean))
    left, right, width, top = 200, 168, 760, 68  # 25 letters fit at the left
    base = top + 28 * len(rows)
    spans = [turned for *_, turned in rows] + [Interval(mean=0, low=0, high=0, photos=0)]
    x = Axis(*_range(spans), left, width - right)
    title = f"{measure.label}: {short(reference.label, 26)} against each method, photo by photo"
    parts = [text_at(0, 14, title, fill=MUTED)]
    parts += [
        tag("line", x1=x(tick), x2=x(tick), y1=top - 8, y2=base, stroke=LINE) for tick in x.ticks()
    ]
    parts.append(tag("line", x1=x(0), x2=x(0), y1=top - 14, y2=base, stroke=MUTED))
    parts.append(text_at(x(0) - 8, top - 18, "← worse", anchor="end", fill=MUTED))
    parts.append(text_at(x(0) + 8, top - 18, "better →", fill=MUTED))
    digits, told = digits_of(measure), []
    for place, (method, difference, turned) in enumerate(rows):
        down = top + 14 + 28 * place
        result = outcome(difference, measure)
        colour = {"worse": ACCENT, "better": HUES[0], "undecided": MUTED}[result]
        ends = {"x1": x(turned.low), "x2": x(turned.high), "y1": down, "y2": down}
        parts.append(tag("line", **ends, stroke=colour, stroke_width=2))
        shape = "cam" if result == "better" else "p-tame"
        parts.append(mark(shape, x(turned.mean), down, colour, hollow=result == "undecided"))
        label = short(marked(method, evaluation), 25)
        parts.append(text_at(left - 14, down + 4, label, anchor="end"))
        value = interval_text(turned, digits, signed=True)
        parts.append(text_at(width, down + 4, value, anchor="end", fill=MUTED))
        verdict = {"worse": "better", "better": "worse", "undecided": "undecided"}[result]
        told.append(f"{reference.label} against {method.label}: {verdict}, {value}")
    unit = f"difference in {measure.label}, turned so that right is better"
    parts.append(x_axis(x, base, unit, lambda v: number(v, decimals(x), signed=True)))
    return picture((width, base + 50), f"{prefix}-forest", title, told, parts)


def _floor_lines(
    floors: Iterable[MethodRecord], measure: MeasureRecord, x: Axis, y: Axis
) -> list[str]:
    """Draw dashed lines, their names beside them at the right and apart from each other."""
    parts, last = [], -math.inf
    for method in sorted(floors, key=lambda m: -m.values[measure.name].mean):
        found = method.values[measure.name]
        name, inside = short(method.label, 16), y.low <= found.mean <= y.high
        level = y(min(max(found.mean, y.low), y.high))
        if inside:
            ends = {"x1": x.start, "x2": x.end, "y1": level, "y2": level}
            parts.append(tag("line", **ends, stroke=MUTED, stroke_dasharray="5 4"))
        # Two lines stand beside a floor that is out of the picture; both stay above the ticks.
        last = max(level + (4 if inside or found.mean > y.high else -20), last + 16)
        parts.append(text_at(x.end + 8, last, name, fill=MUTED))
        if not inside:  # too far away to be drawn without crushing the rest
            last += 16
            arrow = "↓" if found.mean < y.low else "↑"
            value = f"{arrow} {number(found.mean, digits_of(measure))}"
            parts.append(text_at(x.end + 8, last, value, fill=MUTED))
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
    return padded(min([low, *near]), max([high, *near]))


def _time_text(ms: float) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def is_drawn(found: Interval | None) -> bool:
    """Whether there is a value with both ends of its interval."""
    return found is not None and all(map(math.isfinite, (found.mean, found.low, found.high)))


def _turned(found: Interval, sign: int) -> Interval:
    low, high = sorted((sign * found.low, sign * found.high))
    return Interval(mean=sign * found.mean, low=low, high=high, photos=found.photos)


def _range(found: Sequence[Interval]) -> tuple[float, float]:
    return padded(min(each.low for each in found), max(each.high for each in found))
