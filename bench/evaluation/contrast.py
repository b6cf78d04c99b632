"""The same maps at several contrasts: the published AD and IC move, the matched ones do not."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.evaluation.collect import Bench, read_maps
from bench.evaluation.photos import Photo
from bench.evaluation.results import ContrastRecord
from bench.evaluation.store import fingerprint
from bench.evaluation.summary import means
from bench.measures.drop_increase import DropIncrease
from bench.measures.measure import Measure
from bench.methods.method import Method
from ptame_deploy.bootstrap import Values

EXPONENTS = (0.35, 1.0, 3.0)


def forms(bench: Bench) -> list[Measure]:
    """Return the forms of AD and IC to show; none where the published one was not asked for."""
    found: list[Measure] = [m for m in bench.measures if isinstance(m, DropIncrease)]
    return found if any(c.contrast_moves for m in found for c in m.columns) else []


def measure_contrast(
    bench: Bench,
    method: Method,
    photos: Sequence[Photo],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> list[ContrastRecord]:
    """Measure one method's maps raised to several powers.

    Args:
        bench: judge, measures and store.
        method: whose maps were made already.
        photos: of the evaluation.
        advance: called with the number of photos that were just done at one power.
    """
    chosen = forms(bench)
    records = []
    for exponent in EXPONENTS if chosen else ():
        values: dict[str, list[float]] = {}
        for chunk, found in _at_exponent(bench, method, chosen, photos, exponent):
            for name, numbers in found.items():
                values.setdefault(name, []).extend(numbers)
            advance(len(chunk))
        arrays: dict[str, Values] = {name: np.array(found) for name, found in values.items()}
        records.append(ContrastRecord(exponent=exponent, values=means(arrays)))
    return records


def _at_exponent(
    bench: Bench,
    method: Method,
    forms: Sequence[Measure],
    photos: Sequence[Photo],
    exponent: float,
) -> Iterator[tuple[Sequence[Photo], dict[str, list[float]]]]:
    for _, chunk in bench.chunks(method, photos):
        keys = [bench.measure_key(method, form, chunk) for form in forms]
        key = fingerprint(keys, exponent)
        found = bench.store.numbers(
            "contrast", method.name, key, partial(_whole, forms, len(chunk))
        )
        if found is None:
            stored = bench.made_maps(method, chunk)
            found = {}
            for readings in read_maps(bench, forms, chunk, stored.maps, exponent).values():
                for reading in readings:
                    for name, value in reading.values.items():
                        found.setdefault(name, []).append(value)
            bench.store.keep_numbers("contrast", method.name, key, found)
        yield chunk, found


def _whole(forms: Sequence[Measure], photos: int, found: Any) -> dict[str, list[float]]:
    """Return stored values where there is one for each column and photo."""
    whole = {c.name: [float(x) for x in found[c.name]] for m in forms for c in m.columns}
    if any(len(numbers) != photos for numbers in whole.values()):
        message = f"not values of {photos} photos"
        raise ValueError(message)
    return whole
