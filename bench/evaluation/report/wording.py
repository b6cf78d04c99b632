"""What an evaluation says in plain sentences, computed from its intervals.

A loss is said as plainly as a win.
"""

import math
from collections.abc import Iterator, Sequence

from bench.evaluation.report.cells import digits_of, joined, many, milliseconds, number
from bench.evaluation.report.comparison import (
    Outcome,
    deciding,
    is_partial,
    is_same_method,
    measured,
    outcomes,
    reference_of,
    rivals,
    winner,
)
from bench.evaluation.results import Evaluation, MapTime, MeasureRecord, MethodRecord

MIDDLE = "the centred Gaussian"
# The record says how a rival fares; the page says how P-TAME fares against it.
_TURNED: tuple[tuple[str, Outcome], ...] = (
    ("better", "worse"), ("worse", "better"), ("undecided", "undecided"),
)  # fmt: skip


def headline(evaluation: Evaluation) -> str:
    """Say in one sentence where P-TAME stands among its rivals."""
    reference = reference_of(evaluation)
    if reference is None:
        row = evaluation.method(evaluation.reference) if evaluation.reference else None
        why = f": {row.reason}" if row is not None and row.reason else ""
        return f"P-TAME was not measured{why}; nothing is compared with it."
    found = [outcomes(rival.against_reference, evaluation) for rival in rivals(evaluation)]
    # Seen from P-TAME: it is better where its rival is worse.
    better, worse, undecided = (
        sum(len(each[key]) for each in found) for key in ("worse", "better", "undecided")
    )
    total, compared = better + worse + undecided, sum(any(each.values()) for each in found)
    if not total:
        return f"{reference.label} was measured, but there is no rival to compare it with."
    measures = len({m.name for each in found for kept in each.values() for m in kept})
    return (
        f"{reference.label} against {many(compared, 'other method')} on "
        f"{many(measures, 'measure')} that contrast cannot move: better in {better} of "
        f"{many(total, 'comparison')}, worse in {worse}, undecided in {undecided}."
    )


def summary(evaluation: Evaluation) -> list[str]:
    """Say the rest in sentences: who wins, what a map costs, and who beats the floor."""
    found = (_winners(evaluation), _speed(evaluation), _floor(evaluation))
    return [text for text in found if text]


def standings(evaluation: Evaluation, *, same: bool) -> list[tuple[str, str]]:
    """Say of each other method how P-TAME does against it: its label, and the sentence.

    Args:
        evaluation: what was found.
        same: of P-TAME's own other precisions and runtimes, or of all other methods.
    """
    found = []
    for method in measured(evaluation):
        sides = outcomes(method.against_reference, evaluation)
        total = sum(map(len, sides.values()))
        if not total or is_same_method(method, evaluation) != same:
            continue
        parts = [
            f"{word} on {_share(len(sides[key]), total)}{_listed(sides[key], total)}"
            for word, key in _TURNED
            if sides[key]
        ]
        few = is_partial(method, evaluation)
        where = f"; on its {many(method.photos, 'photo')}" if few else ""
        where += f"; {_furthest(method, evaluation)}" if same else ""
        found.append((method.label, f"{', '.join(parts)}{where}."))
    return found


def fewer_photos(evaluation: Evaluation) -> Iterator[str]:
    """Say which methods ran on fewer photos, and why; what runs on all has no sentence."""
    groups: dict[tuple[int, str], list[str]] = {}
    costly = evaluation.settings.costly_passes
    for method in measured(evaluation):
        if is_partial(method, evaluation):
            reason = f" ({method.reason})" if method.reason else ""
            if method.cost is not None and method.cost.passes > costly:
                reason = f", since a map takes more than {costly:,} passes"
            groups.setdefault((method.photos, reason), []).append(method.label)
    for (photos, reason), labels in groups.items():
        rule = (
            "It takes no part in naming a winner, and its means are"
            if len(labels) == 1
            else "They take no part in naming a winner, and their means are"
        )
        yield (
            f"† {joined(labels)}: on {photos} of {evaluation.photos} photos only{reason}. {rule} "
            "of other photos than the rest; only differences photo by photo are fair to both."
        )


def times(evaluation: Evaluation) -> str:
    """Say what the times of a map are; empty where nothing was timed."""
    groups: dict[str, list[str]] = {}
    for method in measured(evaluation):
        if method.time is not None:
            groups.setdefault(timed(method.time), []).append(method.label)
    if not groups:
        return ""
    usual, *others = sorted(groups, key=lambda how: -len(groups[how]))
    text = f"Time of a map: {usual}"
    text += "".join(f"; {joined(groups[how])}: {how}" for how in others)
    return f"{text}. Quartiles stand in parentheses where they differ from the median."


def timed(time: MapTime) -> str:
    """Say how a map was timed."""
    if time.runs > 1:
        return f"median of {time.runs} runs in batches of {time.batch}"
    return f"one run with {many(time.batch, 'photo')}"


def moved(evaluation: Evaluation) -> str:
    """Say how far each column went while only the contrast changed."""
    parts, stay = [], 0
    for measure in sorted(evaluation.measures, key=lambda m: not m.contrast_moves):
        kept = [
            r.values[measure.name].mean for r in evaluation.contrast if measure.name in r.values
        ]
        kept = [value for value in kept if math.isfinite(value)]
        if len(kept) < 2:
            continue
        low, high = (number(v, digits_of(measure)) for v in (min(kept), max(kept)))
        if low == high:
            stay += 1
        else:
            parts.append(f"{measure.label} runs from {low} to {high}")
    if stay:
        parts.append(f"{many(stay, 'measure')} stay{'s' if stay == 1 else ''} the same")
    return f"{', '.join(parts)}." if parts else ""


def _winners(evaluation: Evaluation) -> str:
    columns = [
        m for m in deciding(evaluation) if any(v.column == m.name for v in evaluation.verdicts)
    ]
    if not columns:
        return ""
    won: dict[str, list[str]] = {}
    for measure in columns:
        best = winner(evaluation, measure)
        if best is not None:
            won.setdefault(best.label, []).append(measure.label)
    parts = [f"{label} wins {joined(names)}" for label, names in won.items()]
    rest = len(columns) - sum(map(len, won.values()))
    if rest:
        which = f"{rest} of {many(len(columns), 'measure')}" if won else many(rest, "measure")
        parts.append(f"on {which} nobody wins clearly")
    text = "; ".join(parts)
    rule = (
        "A winner must differ clearly from every other method that was measured on all photos; "
        "other precisions and runtimes of P-TAME do not compete with it."
    )
    return f"{text[:1].upper()}{text[1:]}. {rule}"


def _speed(evaluation: Evaluation) -> str:
    reference = reference_of(evaluation)
    if reference is None or reference.time is None or not reference.time.median_ms > 0:
        return ""
    mine = reference.time
    groups: dict[str, list[str]] = {"about as fast as": [], "faster than": [], "slower than": []}
    for method in measured(evaluation):
        time = method.time
        if method is reference or method.family == "floor" or time is None:
            continue
        ratio = time.median_ms / mine.median_ms
        if not (math.isfinite(ratio) and ratio > 0):
            continue
        apart = time.p25_ms > mine.p75_ms or time.p75_ms < mine.p25_ms
        if not apart or 0.9 <= ratio <= 1.1:
            groups["about as fast as"].append(method.label)
        elif ratio > 1:
            groups["faster than"].append(f"{method.label} ({_times(ratio)})")
        else:
            groups["slower than"].append(f"{method.label} ({_times(1 / ratio)})")
    parts = [f"{what} {joined(names)}" for what, names in groups.items() if names]
    on = f" on {reference.runtime}" if reference.runtime else ""
    text = (
        f"One map of {reference.label} takes {milliseconds(mine.median_ms)} ms{on} ({timed(mine)})"
    )
    others = {m.runtime for m in rivals(evaluation) if m.time} - {reference.runtime}
    unequal = " Not all methods ran on that runtime: see how it was measured." if others else ""
    return f"{text}: {'; '.join(parts)}.{unequal}" if parts else f"{text}."


def _floor(evaluation: Evaluation) -> str:
    """Group the methods by how often they beat the centred Gaussian, most often first."""
    groups: dict[tuple[int, int, int], list[str]] = {}
    for method in measured(evaluation):
        sides = outcomes(method.against_gaussian, evaluation)
        total = sum(map(len, sides.values()))
        if total and method.family != "floor" and not is_same_method(method, evaluation):
            key = len(sides["better"]), len(sides["worse"]), total
            groups.setdefault(key, []).append(method.label)
    parts = [
        f"{joined(names)} on {_share(better, total) if better else f'none of {total}'}"
        f"{f' (and worse on {worse})' if worse else ''}"
        for (better, worse, total), names in sorted(groups.items(), key=lambda item: -item[0][0])
    ]
    if not parts:
        return ""
    return (
        f"A map that always shows the middle of the photo is the floor. Measures on which a "
        f"method beats {MIDDLE}: {'; '.join(parts)}."
    )


def _furthest(method: MethodRecord, evaluation: Evaluation) -> str:
    """Say how far a method's means are from the reference's: a clear difference may be tiny."""
    found = {m.label: (m, method.against_reference.get(m.name)) for m in deciding(evaluation)}
    sizes = {label: abs(d.mean) for label, (_, d) in found.items() if d and math.isfinite(d.mean)}
    label = max(sizes, key=lambda name: sizes[name])
    digits = digits_of(found[label][0])
    size = number(sizes[label], digits)
    if float(size) == 0:
        return f"no mean further apart than {number(10**-digits, digits)}"
    return f"means furthest apart on {label}, by {size}"


def _listed(found: Sequence[MeasureRecord], total: int) -> str:
    """Name the measures where they are few enough to read."""
    if len(found) == total > 1 or len(found) > 4:
        return ""
    return f" ({', '.join(measure.label for measure in found)})"


def _share(count: int, total: int) -> str:
    return f"all {total}" if count == total > 1 else f"{count} of {total}"


def _times(ratio: float) -> str:
    if not ratio >= 10:
        return f"{ratio:.1f} times"
    rounded = round(ratio, 1 - math.floor(math.log10(ratio)))
    return f"{rounded:,.0f} times"
