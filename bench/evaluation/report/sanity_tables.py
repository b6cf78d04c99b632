"""The sanity checks as tables, with how to read them and what they say about P-TAME."""

from collections.abc import Callable, Iterable, Iterator

from bench.evaluation.report.cells import NOTHING, Cell, Grid, Row, interval_cell, joined
from bench.evaluation.report.comparison import measured
from bench.evaluation.results import CascadeStep, Evaluation, SanityRecord

_CHECKS = {"other_class": "other class", "noise": "slight noise", "cascade": "random layers"}
_OTHER_CLASS = (
    "Other class: the map of the second class instead. Near 1, the map ignores which class is "
    "asked for."
)
_NOISE = "Slight noise: the photo with slight noise. Near 1, the map is stable."
_LAYERS = (
    "Layers random: the weights of the classifier's layers are shuffled, from the top down, and "
    "the map of the same class is made again. Staying near 1, the map does not depend on them."
)
_FIXED = (
    "P-TAME's map of a given class comes from its explainer and the auxiliary network alone; the "
    "classifier only says which class. So randomising the classifier leaves its similarity at 1.0: "
    "that is expected, and a limit to know. The map shows what the explainer learned of this "
    "classifier in training, and does not notice when the classifier changes. Another "
    "classifier, or this one with other weights, needs a new explainer."
)
_OWN = (
    "The same check on the layers that P-TAME's map does come from: those of its explainer and "
    "of the auxiliary network, shuffled from the top down. Falling, the map depends on what they "
    "learned; staying near 1, it would not."
)


def sanity_grids(evaluation: Evaluation) -> Iterator[Grid]:
    """Lay out the checks with the classifier's layers, and the cascade through a method's own."""
    checked = [(m, m.sanity) for m in measured(evaluation) if m.sanity is not None]
    lead = [_OTHER_CLASS, _NOISE]
    if any(checks.cascade for _, checks in checked):
        lead.append(_LAYERS)
    own = [method.label for method, c in checked if method.family == "p-tame" and c.cascade]
    if own:
        lead.append(f"{_FIXED} Shown on {joined(own)}: the same networks, with layers at hand.")
    yield Grid(
        "sanity",
        "Sanity checks: rank correlation of a photo's map with the map after a change",
        ("Method", "other class", "slight noise", *_heads(c.cascade for _, c in checked)),
        _rows(evaluation, lambda c: c.cascade, plain=True),
        tuple(lead),
        tuple(_missing(evaluation)),
    )
    yield Grid(
        "sanity-own",
        "The same with the layers of P-TAME's own networks, not the classifier's",
        ("Method", *_heads(c.own_cascade for _, c in checked)),
        _rows(evaluation, lambda c: c.own_cascade, plain=False),
        (_OWN,),
    )


def _heads(cascades: Iterable[list[CascadeStep]]) -> list[str]:
    return [f"{layers} of {of} layers random" for layers, of in _steps(cascades)]


def _steps(cascades: Iterable[list[CascadeStep]]) -> list[tuple[int, int]]:
    return sorted({(step.layers, step.of) for cascade in cascades for step in cascade})


def _rows(
    evaluation: Evaluation, cascade: Callable[[SanityRecord], list[CascadeStep]], *, plain: bool
) -> tuple[Row, ...]:
    """Lay out a column a step, a dash where it was not made; without any, there is no row."""
    checked = [(m, m.sanity) for m in measured(evaluation) if m.sanity is not None]
    steps = _steps(cascade(checks) for _, checks in checked)
    rows = []
    for method, checks in checked:
        found = {(step.layers, step.of): step.similarity for step in cascade(checks)}
        kept = [checks.other_class, checks.noise] if plain else []
        cells = [interval_cell(each, 3) for each in [*kept, *map(found.get, steps)]]
        if any(cell.text != NOTHING for cell in cells):
            emphasised = method.name == evaluation.reference
            rows.append(Row((Cell(method.label), *cells), method.family, emphasised))
    return tuple(rows)


def _missing(evaluation: Evaluation) -> Iterator[str]:
    """Say which checks were not made, and why: methods of one reason in one sentence."""
    groups: dict[tuple[str, str], list[str]] = {}
    for method in measured(evaluation):
        if method.family == "floor":  # has no layers, and nothing to explain
            continue
        reasons: dict[str, list[str]] = {}
        for check, reason in method.sanity.reasons.items() if method.sanity else ():
            reasons.setdefault(reason, []).append(_CHECKS[check])
        for reason, checks in reasons.items():
            what = "any check" if len(checks) == len(_CHECKS) else joined(checks)
            groups.setdefault((what, reason), []).append(method.label)
    for (what, reason), labels in groups.items():
        yield f"Without {what}: {joined(labels)} ({reason})."
