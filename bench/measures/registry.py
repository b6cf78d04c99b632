"""Every measure by its name on the command line."""

import difflib
from collections.abc import Sequence

from bench.measures.curves import Deletion, Insertion
from bench.measures.drop_increase import DropIncrease
from bench.measures.measure import Measure, MeasureSettings
from bench.measures.road import Road
from ptame_deploy.errors import InvalidInputError


def all_measures(settings: MeasureSettings) -> dict[str, Measure]:
    """Make every measure that asks a judge.

    Args:
        settings: what they can be set to.

    Returns:
        By name, in the order of tables.

    Raises:
        InvalidInputError: settings that make no sense.
    """
    measures: tuple[Measure, ...] = (
        DropIncrease("published"),
        DropIncrease("matched"),
        Insertion(settings),
        Deletion(settings),
        Road(settings),
    )
    return {measure.name: measure for measure in measures}


def choose(names: Sequence[str] | None, settings: MeasureSettings) -> list[Measure]:
    """Make the measures with these names.

    Args:
        names: as the user gives them; None for all. A name given twice counts once.
        settings: what they can be set to.

    Returns:
        In the order of `all_measures`, however the names are ordered.

    Raises:
        InvalidInputError: an unknown name, none at all, or settings that make no sense.
    """
    measures = all_measures(settings)
    if names is None:
        return list(measures.values())
    known = ", ".join(measures)
    if not names:
        message = f"No measure is named. Choose from: {known}."
        raise InvalidInputError(message)
    for name in names:
        if name not in measures:
            close = difflib.get_close_matches(name, measures, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]}?" if close else ""
            message = f"There is no measure {name!r}.{hint} Choose from: {known}."
            raise InvalidInputError(message)
    return [measure for name, measure in measures.items() if name in names]
