"""ROAD: remove pixels in the map's order so that the removal itself leaves no trace to read.

Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022.
A removed pixel becomes the weighted mean of its neighbours, removed ones included, plus a little
noise: noisy linear imputation. Weights and noise are those of the authors' code, which is
MIT-licensed and also published in the grad-cam package; nothing here is copied from it.
"""

import hashlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.measures.curves import check_fit, most_salient_first
from bench.measures.imputation import impute
from bench.measures.measure import Column, Image, Map, MeasureSettings, Reading
from ptame_deploy.errors import InvalidInputError

NOISE = 0.01  # standard deviation, in pixel values of [0, 1]

_SOURCE = "Rong et al., A Consistent and Efficient Evaluation Strategy (ROAD), ICML 2022"


class Road:
    """Remove the most relevant pixels first (MoRF), and the least relevant ones first (LeRF).

    ``road_morf`` is the mean of the class's probability over the percentages, in percent: low for a
    good map. ``road_lerf`` is high for a good map. ``road`` is LeRF minus MoRF, -100 to 100; the
    grad-cam package halves that difference.

    Two things are not the paper's. Copies are clipped to [0, 1], since not every judge takes
    anything else. And a photo's noise depends on the seed, the photo and the percentage alone:
    every method's copies get the same noise, in whatever order they are made.
    """

    name = "road"
    fractions = None

    def __init__(self, settings: MeasureSettings) -> None:
        """Choose percentages and seed.

        Raises:
            InvalidInputError: no percentages, ones outside 1 to 99 or given twice, or a negative
                seed.
        """
        percentages = settings.road_percentages
        if not percentages or len(set(percentages)) < len(percentages):
            message = f"ROAD needs percentages, each once; got {list(percentages)}."
            raise InvalidInputError(message)
        if not all(1 <= percent <= 99 for percent in percentages):
            message = (
                f"ROAD removes 1 to 99 % of the pixels, got {list(percentages)}: with none or all "
                "removed there is nothing to impute, or nothing to impute from."
            )
            raise InvalidInputError(message)
        if settings.seed < 0:
            message = f"The seed of ROAD's noise must be 0 or more, got {settings.seed}."
            raise InvalidInputError(message)
        self.percentages = percentages
        self.seed = settings.seed

    @property
    def columns(self) -> tuple[Column, ...]:
        """MoRF, LeRF and their difference."""
        return (
            _column("road_morf", "ROAD MoRF", "lower", low=0.0),
            _column("road_lerf", "ROAD LeRF", "higher", low=0.0),
            _column("road", "ROAD", "higher", low=-100.0),
        )

    @property
    def settings(self) -> dict[str, float | str]:
        """Percentages, noise and its seed."""
        percentages = ",".join(map(str, self.percentages))
        return {"removed_percent": percentages, "noise": NOISE, "seed": self.seed}

    def variants(self, image: Image, saliency: Map) -> Iterator[Image]:
        """For each percentage, remove the most and then the least salient; see `Measure.variants`.

        Raises:
            InvalidInputError: a map that does not fit, or a photo too small for a percentage.
        """
        check_fit(image, saliency)
        image = np.ascontiguousarray(image, np.float32)
        most = most_salient_first(saliency)
        photo = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:16], "big")
        for percent in self.percentages:
            generator = np.random.default_rng([self.seed, percent, photo])
            noise = NOISE * generator.standard_normal(image.shape, np.float32)
            count = round(most.size * percent / 100)
            for order in (most, most[::-1]):
                removed = np.zeros(saliency.shape, bool)
                removed.reshape(-1)[order[:count]] = True
                filled = impute(image, removed)
                np.add(filled, noise, out=filled, where=removed)
                yield np.clip(filled, 0, 1, out=filled)

    def read(self, before: float, after: NDArray[np.float32]) -> Reading:  # noqa: ARG002
        """Return the mean probabilities in percent, and their difference."""
        morf = 100 * float(np.mean(after[0::2], dtype=np.float64))
        lerf = 100 * float(np.mean(after[1::2], dtype=np.float64))
        return Reading({"road_morf": morf, "road_lerf": lerf, "road": lerf - morf})


def _column(name: str, label: str, better: Literal["higher", "lower"], *, low: float) -> Column:
    return Column(
        name=name,
        label=label,
        better=better,
        contrast_moves=False,
        low=low,
        high=100.0,
        source=_SOURCE,
    )
