"""Timing RISE in one run with what it is compared with."""

import statistics
import time

import numpy as np

from bench.results import Ratio
from bench.rise import RiseSettings
from bench.timing import Run

_TURNS = 10


class RiseTimer:
    """RISE's own time, with short turns of what it is compared with in between (not counted)."""

    def __init__(self, fused: Run, classifier: Run, settings: RiseSettings) -> None:
        """Prepare to time one image's map.

        Args:
            fused: one fused run of one image.
            classifier: one bare classifier run of ``settings.batch`` images.
            settings: RISE's.
        """
        self.fused, self.classifier, self.settings = fused, classifier, settings
        self.every = max(settings.batch, settings.masks // _TURNS)
        self.total_s = 0.0
        self.done = self.done_at_turn = 0
        self.turn_s = self.started = 0.0
        # Seconds, by turn: RISE for a mask, a fused run, a bare classifier pass for one image.
        self.per_mask: list[float] = []
        self.per_fused: list[float] = []
        self.per_pass: list[float] = []

    def start(self) -> None:
        """Warm up what is compared, then start the clock."""
        self.fused()
        self.classifier()
        self.started = time.perf_counter()

    def advance(self, masks: int) -> None:
        """Stop the clock behind a batch of masks, give the others their turn when it is due."""
        elapsed = time.perf_counter() - self.started
        self.total_s += elapsed
        self.turn_s += elapsed
        self.done += masks
        fresh = self.done - self.done_at_turn
        if fresh >= self.every or self.done == self.settings.masks:
            self.per_mask.append(self.turn_s / fresh)
            self.per_fused.append(_median_seconds(self.fused))
            self.per_pass.append(_median_seconds(self.classifier) / self.settings.batch)
            self.done_at_turn, self.turn_s = self.done, 0.0
        self.started = time.perf_counter()

    @property
    def fused_s(self) -> float:
        """Seconds of one fused run."""
        return statistics.median(self.per_fused)

    @property
    def pass_s(self) -> float:
        """Seconds of one bare classifier pass of one image, within its batch."""
        return statistics.median(self.per_pass)

    @property
    def overhead(self) -> float:
        """RISE's time over that of as many bare classifier passes."""
        pairs = zip(self.per_mask, self.per_pass, strict=True)
        return statistics.median(mask / bare for mask, bare in pairs)

    @property
    def ratio(self) -> Ratio:
        """RISE with all its masks over one fused run of one image, paired by turn."""
        ratios = [
            self.settings.masks * mask / fused
            for mask, fused in zip(self.per_mask, self.per_fused, strict=True)
        ]
        low, high = np.percentile(ratios, (25, 75))
        return Ratio(
            value=statistics.median(ratios), p25=float(low), p75=float(high), rounds=len(ratios)
        )


def _median_seconds(run: Run, runs: int = 3) -> float:
    run()
    durations = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)
