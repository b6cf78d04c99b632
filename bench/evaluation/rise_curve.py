"""RISE's quality against its number of masks, and where P-TAME stands on it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.evaluation.collect import Bench, as_saliency, read_maps
from bench.evaluation.photos import Photo
from bench.evaluation.results import RiseCurve, RisePoint
from bench.evaluation.store import fingerprint
from bench.measures.judge import as_uint8
from bench.measures.measure import Measure
from bench.measures.similarity import pearson
from bench.methods.rise import Rise, RiseSettings
from ptame_deploy.bootstrap import Interval, Values, interval


@dataclass(frozen=True)
class CurveSettings:
    """How far the curve goes.

    Attributes:
        photos: that it is taken on; 0 for no curve.
        masks: of its last point (paper: 8000 for ResNet-50).
        seed: of the masks; the next one is the other seed.
    """

    photos: int = 0
    masks: int = 8000
    seed: int = 0

    @property
    def counts(self) -> list[int]:
        """Numbers of masks, each twice the one before."""
        counts = [self.masks]
        while counts[0] % 2 == 0 and counts[0] > 125:
            counts.insert(0, counts[0] // 2)
        return counts


def measure_curve(
    bench: Bench,
    photos: Sequence[Photo],
    settings: CurveSettings,
    reference: dict[str, Values],
    identity: str,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> RiseCurve | None:
    """Take the curve on the first photos; each photo is stored when it is done.

    Args:
        bench: the judge, which RISE asks as well.
        photos: of the evaluation, in order.
        settings: how far.
        reference: P-TAME's values on all photos, by column.
        identity: hash of the classifier that RISE asks.
        advance: called with the number of classifier passes just made.

    Returns:
        None where no photos were asked for.
    """
    chosen = photos[: settings.photos]
    measures = [m for m in bench.measures if not any(c.contrast_moves for c in m.columns)]
    if not chosen:
        return None
    rows = [_photo(bench, photo, settings, measures, identity, advance) for photo in chosen]
    points = []
    for number, count in enumerate(settings.counts):
        at = [row[number] for row in rows]
        points.append(
            RisePoint(
                masks=count,
                correlation=interval(np.array([one["correlation"] for one in at])),
                values=_means([one["values"] for one in at]),
            )
        )
    columns = [c.name for m in measures for c in m.columns if c.name in reference]
    shared = {name: interval(reference[name][: len(chosen)]) for name in columns}
    return RiseCurve(
        photos=len(chosen),
        points=points,
        reference={name: found for name, found in shared.items() if found is not None},
        seeds=(settings.seed, settings.seed + 1),
    )


def _photo(
    bench: Bench,
    photo: Photo,
    settings: CurveSettings,
    measures: Sequence[Measure],
    identity: str,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    key = fingerprint(
        identity, bench.judge_identity, bench.judge.runtime.description, photo.sha256,
        photo.class_index, asdict(settings) | {"photos": None},
        [(m.name, dict(m.settings)) for m in measures],
    )  # fmt: skip
    columns = [c.name for m in measures for c in m.columns]
    kept = bench.store.numbers(
        "rise-curve", "rise", key, partial(_whole, len(settings.counts), columns)
    )
    if kept is not None:
        advance(2 * settings.masks)
        return kept
    images = bench.images([photo])
    given: NDArray[Any] = as_uint8(images) if bench.judge.takes_uint8 else images
    index = np.array([photo.class_index])
    streams = [
        Rise(
            bench.judge.runtime,
            RiseSettings(masks=settings.masks, batch=bench.judge.batch, seed=seed),
            head=bench.judge.head,
        ).stream(given, index, settings.counts, advance=advance)
        for seed in (settings.seed, settings.seed + 1)
    ]
    found = []
    for one, other in zip(*streams, strict=True):
        readings = read_maps(bench, measures, [photo], one)
        size = (images.shape[2], images.shape[3])
        found.append(
            {
                "correlation": pearson(as_saliency(one[0], size), as_saliency(other[0], size)),
                "values": {n: v for (r,) in readings.values() for n, v in r.values.items()},
            }
        )
    bench.store.keep_numbers("rise-curve", "rise", key, found)
    return found


def _whole(points: int, columns: Sequence[str], found: Any) -> list[dict[str, Any]]:
    """Return a stored curve where it has all points, and each of them all columns."""
    whole = [
        {
            "correlation": float(one["correlation"]),
            "values": {name: float(one["values"][name]) for name in columns},
        }
        for one in found
    ]
    if len(whole) != points:
        message = f"not a curve of {points} points"
        raise ValueError(message)
    return whole


def _means(values: Sequence[dict[str, float]]) -> dict[str, Interval]:
    found = {name: interval(np.array([one[name] for one in values])) for name in values[0]}
    return {name: one for name, one in found.items() if one is not None}
