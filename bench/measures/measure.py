"""What every faithfulness measure offers: which copies of a photo to ask for, and how to read them.

A measure never runs a classifier itself. It hides parts of a photo as a map says, and reads the
probabilities that a judge gives, so that all measures of all methods share one batched judge on any
runtime.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.records import Record

Image = NDArray[np.float32]  # (3, H, W), RGB in [0, 1]
Map = NDArray[np.float32]  # (H, W) in [0, 1], of the image's size
Direction = Literal["higher", "lower"]


class Column(Record):
    """One number that a measure gives for each photo.

    Attributes:
        name: in files and on the command line: ``ad100_matched``.
        label: in tables, unique: ``AD 100 % (matched)``.
        better: which direction is better.
        contrast_moves: whether a map's contrast alone, its ranking of pixels unchanged, moves the
            number. Such a column names no winner.
        low: smallest possible value,
        high: and the largest one.
        source: paper and section.
    """

    name: str
    label: str
    better: Direction
    contrast_moves: bool = False
    low: float = 0.0
    high: float = 100.0
    source: str


@dataclass(frozen=True)
class Reading:
    """What a measure reads for one photo and one map.

    Attributes:
        values: by column name.
        curve: probabilities along the way, for measures that have one; see `Measure.fractions`.
    """

    values: Mapping[str, float]
    curve: NDArray[np.float32] | None = None


class Measure(Protocol):
    """Hides parts of a photo as a map says."""

    @property
    def name(self) -> str:
        """On the command line and in file names."""
        ...

    @property
    def columns(self) -> tuple[Column, ...]:
        """The numbers that it gives for each photo."""
        ...

    @property
    def settings(self) -> dict[str, float | str]:
        """Everything that its numbers depend on."""
        ...

    @property
    def fractions(self) -> NDArray[np.float32] | None:
        """Share of changed pixels at each point of the curve, or None where it has no curve."""
        ...

    def variants(self, image: Image, saliency: Map) -> Iterator[Image]:
        """Make the copies whose probabilities are needed.

        Args:
            image: (3, H, W) RGB in [0, 1].
            saliency: (H, W), larger is more important.

        Yields:
            (3, H, W) in [0, 1], always in the same order and number. Each is new or overwritten by
            the next step, so whoever keeps one copies it.
        """
        ...

    def read(self, before: float, after: NDArray[np.float32]) -> Reading:
        """Turn probabilities into the measure's values.

        Args:
            before: probability of the explained class on the whole photo.
            after: (n,) of the same class on each copy, in `variants`' order.
        """
        ...


@dataclass(frozen=True)
class MeasureSettings:
    """What the measures can be set to.

    Attributes:
        steps: points of the insertion and deletion curves, without the first one.
        road_percentages: of the pixels that ROAD removes.
        mean: the classifier's mean colour, RGB in [0, 1]: what a deleted pixel becomes.
        seed: of ROAD's noise.
    """

    steps: int = 20
    road_percentages: tuple[int, ...] = (20, 40, 60, 80)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    seed: int = 0
