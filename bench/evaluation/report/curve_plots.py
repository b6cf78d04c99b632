"""The mean curve of every method, by insertion and by deletion; dashes tell what colour tells."""

import math
from collections.abc import Iterable

from bench.evaluation.report.cells import digits_of, number
from bench.evaluation.report.comparison import marked, measured, plain_name
from bench.evaluation.report.svg import (
    ACCENT,
    HUES,
    MUTED,
    Attributes,
    Axis,
    padded,
    picture,
    short,
    tag,
    text_at,
    x_axis,
    y_grid,
)
from bench.evaluation.results import Evaluation, MethodRecord
from bench.methods.floors import RANDOM

_DASHES = ("", "7 3", "2 3", "9 3 2 3")


def curve_plots(evaluation: Evaluation, prefix: str) -> list[str]:
    """Draw the mean curve of every method, a picture a measure; none where there are none."""
    names = sorted(evaluation.fractions, key=lambda name: (name != "insertion", name))
    drawn = (_curve_plot(evaluation, name, f"{prefix}-{i}") for i, name in enumerate(names))
    return [each for each in drawn if each]


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
    y = Axis(*padded(min(values), max(values)), base, top)
    what = measure.label if measure else name.capitalize()
    parts = [y_grid(x, y, f"{short(what, 30)}: probability of the explained class")]
    parts.append(x_axis(x, base, "share of pixels changed", lambda v: f"{100 * v:.0f} %"))
    styles = _styles([method for method, _ in lines], evaluation)
    # What matters most is drawn last, on top.
    for method, ys in reversed(lines):
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))
        parts.append(tag("polyline", points=points, fill="none", **styles[method.name]))
    told = []
    for place, (method, ys) in enumerate(lines):
        column, row = divmod(place, rows)
        # The reference, in bold, is the longest name, and stands in the first column.
        at, down = left + column * 0.56 * (width - left), base + 66 + 19 * row
        found = method.values.get(name)
        area = measure is not None and found is not None and math.isfinite(found.mean)
        mean = f" {number(found.mean, digits_of(measure))}" if area and found else ""
        parts.append(tag("line", x1=at, x2=at + 28, y1=down - 4, y2=down - 4,
                          **styles[method.name]))  # fmt: skip
        weight = "700" if method.name == evaluation.reference else "400"
        label = short(marked(method, evaluation), 22 if column else 24)
        parts.append(text_at(at + 36, down, label + mean, weight=weight))
        told.append(f"{method.label}: from {number(ys[0], 3)} to {number(ys[-1], 3)}{mean and ','}"
                    f"{mean and ' area' + mean}")  # fmt: skip
    title = f"{what}: mean curve of each method"
    title += f", {measure.better} is better" if measure else ""
    return picture((width, base + 66 + 19 * rows), f"{prefix}-curve", title, told, parts)


def _styles(methods: Iterable[MethodRecord], evaluation: Evaluation) -> dict[str, Attributes]:
    """Give each method a line: hues and dashes have no common divisor, so 20 pairs differ."""
    found: dict[str, Attributes] = {}
    own = others = 0
    for method in methods:
        if method.name == evaluation.reference:
            style: Attributes = {"stroke": ACCENT, "stroke_width": 3.2}
        elif method.family == "p-tame":
            own += 1
            style = {"stroke": ACCENT, "stroke_width": 1.8}
            style["stroke_dasharray"] = _DASHES[1 + (own - 1) % 3]
        elif method.family == "floor":
            style = {"stroke": MUTED, "stroke_width": 1.6}
            style["stroke_dasharray"] = "1 3" if plain_name(method) == RANDOM else "5 4"
        else:
            style = {"stroke": HUES[others % len(HUES)], "stroke_width": 1.8}
            dash = _DASHES[(others + others // len(HUES)) % len(_DASHES)]
            style |= {"stroke_dasharray": dash} if dash else {}
            others += 1
        found[method.name] = style
    return found
