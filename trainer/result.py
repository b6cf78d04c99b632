"""What every recipe gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.bootstrap import Interval, Values, difference, interval
from ptame_deploy.cautions import is_gain
from ptame_deploy.explainer import ExplainerNet, SharedTerms
from ptame_deploy.part_records import Start

SHOWN = 8  # photos that a report shows


@dataclass(frozen=True)
class Gain:
    """What training gained on photos left out, with bootstrap 95 % intervals.

    Attributes:
        measure: what is compared.
        start: its mean for the start.
        trained: its mean for the trained explainer.
        better: by how much the trained one is better, paired by photo; positive is better.
    """

    measure: str
    start: Interval
    trained: Interval
    better: Interval

    @property
    def is_clear(self) -> bool:
        """Whether the trained explainer is better beyond what chance explains."""
        return is_gain(self.better)

    def record(self) -> dict[str, Any]:
        """Describe the gain for a manifest."""
        parts = {name: getattr(self, name).model_dump() for name in ("start", "trained", "better")}
        return {"measure": self.measure, **parts}

    @classmethod
    def of(
        cls, measure: str, start: Values, trained: Values, *, lower_is_better: bool = False
    ) -> "Gain":
        """Compare values (N,) of the same photos, N >= 1."""
        signed = (start, trained) if lower_is_better else (trained, start)
        parts = interval(start), interval(trained), difference(*signed)
        assert parts[0] is not None
        assert parts[1] is not None
        assert parts[2] is not None
        return cls(measure, parts[0], parts[1], parts[2])

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Gain":
        """Return what `record` described."""
        parts = [Interval(**record[name]) for name in ("start", "trained", "better")]
        return cls(record["measure"], *parts)


@dataclass(frozen=True)
class Trained:
    """A trained explainer.

    Attributes:
        explainer: in eval mode, on the CPU.
        start: what it began with.
        record: how it was trained, for its manifest.
        skipped: photos that could not be read, each with the reason.
        gain: what training gained, or None where there were too few photos to tell.
        own_answers: how maps of the answers agree with the answers' scores of masked copies of
            photos left out (mean cosine), or None where that was not measured.
        other_classes: the same of the second-best class.
        started: the explainer that training began with.
        shown: (n, H, W, 3) uint8, a few photos to show both on: left out where there are such.
        terms: all that training changed of an activation map, where that is all.
    """

    explainer: ExplainerNet
    start: Start
    record: dict[str, Any]
    skipped: list[str]
    gain: Gain | None
    started: ExplainerNet
    shown: NDArray[np.uint8]
    terms: SharedTerms | None = None
    own_answers: Interval | None = None
    other_classes: Interval | None = None
