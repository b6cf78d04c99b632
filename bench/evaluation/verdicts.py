"""Which method a measure names the winner, if any."""

from collections.abc import Mapping, Sequence

from bench.evaluation.results import Verdict
from bench.measures.measure import Column
from ptame_deploy.bootstrap import Values, difference, excludes_zero


def verdict(
    column: Column, values: Mapping[str, Values], contestants: Sequence[str]
) -> Verdict | None:
    """Name the winner of one column, if there is one.

    The method with the best mean wins where its paired difference from every other contestant's
    excludes 0, which a handful of photos never does. The intervals are not corrected for the number
    of comparisons.

    Args:
        column: which numbers; one that contrast can move has no winner.
        values: (N,) by method.
        contestants: methods that were measured on every photo.
    """
    if column.contrast_moves or len(contestants) < 2:
        return None
    sign = 1 if column.better == "higher" else -1
    means = {name: sign * float(values[name].mean()) for name in contestants}
    best = max(contestants, key=lambda name: means[name])
    undecided = []
    for name in contestants:
        if name != best:
            found = difference(values[best], values[name])
            if found is None or not excludes_zero(found):
                undecided.append(name)
    return Verdict(
        column=column.name, winner=None if undecided else best, best=best, undecided=undecided
    )
