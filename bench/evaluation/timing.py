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
    missing: list[Method] = []
    for method in methods:
        kept = (
            None if again else bench.store.numbers("time", method.name, _key(bench, method, device))
        )
        if kept is None:
            missing.append(method)
        else:
            found[method.name] = MapTime.model_validate(kept)
            advance(1)
    cheap = [method for method in missing if not bench.is_costly(method)]
    images = bench.images(photos[:CHUNK])
    asked = np.array([photo.class_index for photo in photos[:CHUNK]], np.int64)
    seconds: dict[str, list[float]] = {method.name: [] for method in missing}
    for turn in range(ROUNDS + 1 if cheap else 0):
        for method in cheap:
            start = time.perf_counter()
            method.explain(images, asked)
            if turn:
                seconds[method.name].append((time.perf_counter() - start) / len(images))
    advance(len(cheap))
    for method in missing:
        if method not in cheap:
            start = time.perf_counter()
            method.explain(images[:1], asked[:1])
            seconds[method.name].append(time.perf_counter() - start)
            advance(1)
    for method in missing:
        low, middle, high = (1e3 * s for s in np.percentile(seconds[method.name], (25, 50, 75)))
        one = MapTime(
            median_ms=float(middle), p25_ms=float(low), p75_ms=float(high),
            batch=len(images) if method in cheap else 1, runs=len(seconds[method.name]),
        )  # fmt: skip
        bench.store.keep_numbers("time", method.name, _key(bench, method, device), one.model_dump())
        found[method.name] = one
    return found


def _key(bench: Bench, method: Method, device: str) -> str:
    return fingerprint(bench.method_key(method), device, ROUNDS)
