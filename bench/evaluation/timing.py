"""What one map costs in milliseconds, method beside method, in turns."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from bench.evaluation.collect import CHUNK, Bench
from bench.evaluation.photos import Photo
from bench.evaluation.results import MapTime
from bench.evaluation.store import fingerprint
from bench.methods.method import Method

ROUNDS = 7


def time_maps(
    bench: Bench,
    methods: Sequence[Method],
    photos: Sequence[Photo],
    device: str,
    *,
    again: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, MapTime]:
    """Time methods, or take their times from the store.

    Cheap methods take turns, each explaining a few photos at once in every round, so that whatever
    else the machine does meets them all; the first round warms up and does not count. A costly
    method explains one photo, once: it is timed over very many passes anyway.

    Args:
        bench: which methods are costly, and the store.
        methods: to time.
        photos: of the evaluation; the first ones are explained.
        device: name of the machine: another one's times do not hold.
        again: measure even what was measured.
        advance: called with the number of methods that were just timed.

    Returns:
        Milliseconds a map, by method name.
    """
    found: dict[str, MapTime] = {}
    missing: dict[str, str] = {}
    for method in methods:
        key = fingerprint(bench.method_key(method), device, ROUNDS)
        kept = (
            None if again else bench.store.numbers("time", method.name, key, MapTime.model_validate)
        )
        if kept is None:
            missing[method.name] = key
        else:
            found[method.name] = kept
            advance(1)
    if missing:
        untimed = [method for method in methods if method.name in missing]
        for name, one in _timed(bench, untimed, photos, advance).items():
            bench.store.keep_numbers("time", name, missing[name], one.model_dump())
            found[name] = one
    return found


def _timed(
    bench: Bench,
    methods: Sequence[Method],
    photos: Sequence[Photo],
    advance: Callable[[int], None],
) -> dict[str, MapTime]:
    cheap = [method for method in methods if not bench.is_costly(method)]
    images = bench.images(photos[:CHUNK])
    asked = np.array([photo.class_index for photo in photos[:CHUNK]], np.int64)
    seconds: dict[str, list[float]] = {method.name: [] for method in methods}
    for turn in range(ROUNDS + 1 if cheap else 0):
        for method in cheap:
            start = time.perf_counter()
            method.explain(images, asked)
            if turn:
                seconds[method.name].append((time.perf_counter() - start) / len(images))
    advance(len(cheap))
    for method in methods:
        if method not in cheap:
            start = time.perf_counter()
            method.explain(images[:1], asked[:1])
            seconds[method.name].append(time.perf_counter() - start)
            advance(1)
    found = {}
    for method in methods:
        low, middle, high = (1e3 * s for s in np.percentile(seconds[method.name], (25, 50, 75)))
        found[method.name] = MapTime(
            median_ms=float(middle), p25_ms=float(low), p75_ms=float(high),
            batch=len(images) if method in cheap else 1, runs=len(seconds[method.name]),
        )  # fmt: skip
    return found
