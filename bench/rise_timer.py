"""Timing RISE in one run with what it is compared with."""

import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.methods.rise import Rise, RiseSettings
from bench.results import Comparison, Ratio, RiseReading
from bench.timing import Run
from engines.runtime import Runtime
from ptame_deploy.errors import CheckFailedError

_TURNS = 10


def time_rise(
    classifier: Runtime,
    fused_run: Run,
    classifier_run: Run,
    image: NDArray[Any],
    *,
    masks: int,
    batch: int,
    seed: int,
    gmacs: float | None,
) -> tuple[RiseReading, Comparison]:
    """Explain one image by RISE, all masks really run, in turns with what it is compared with.

    Args:
        classifier: from ``image`` to ``logits``.
        fused_run: one run of the fused graph on one image.
        classifier_run: one bare run of the classifier on ``batch`` images.
        image: (1, ...) as the classifier takes it.
        masks: N.
        batch: masked copies that the classifier sees at once.
        seed: of the masks.
        gmacs: of the classifier for one image.

    Raises:
        CheckFailedError: the classifier answers with NaN or infinity.
    """
    settings = RiseSettings(masks=masks, batch=batch, seed=seed)
    for size in {batch, masks % batch or batch}:  # what a size costs once is not RISE's
        classifier.run({"image": np.repeat(image, size, axis=0)})
    logits = classifier.run({"image": image})["logits"]
    if not np.isfinite(logits).all():
        message = "The classifier answers with NaN or infinity: RISE cannot weigh by it."
        raise CheckFailedError(message)
    timer = RiseTimer(fused_run, classifier_run, settings)
    timer.start()
    Rise(classifier, settings)(image, logits.argmax(axis=1), advance=timer.advance)
    reading = RiseReading(
        status="measured",
        masks=masks,
        batch=batch,
        gmacs_per_image=None if gmacs is None else gmacs * masks,
        total_s=timer.total_s,
        classifier_pass_ms=timer.pass_s * 1e3,
        fused_batch1_ms=timer.fused_s * 1e3,
        overhead_over_classifier=timer.overhead,
    )
    return reading, Comparison(name="RISE/fused", batch=1, time=timer.ratio)


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
        last = self.done == self.settings.masks
        # A short last turn would weigh as much as the others.
        if fresh >= self.every or (last and (fresh > self.every // 2 or not self.per_mask)):
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


def _median_seconds(run: Run) -> float:
    run()
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)
