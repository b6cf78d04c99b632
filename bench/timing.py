"""Latency and throughput of several contenders, taken in turns so that their ratios can be trusted.

A machine's speed drifts (clock rate, neighbours). So contenders run in short rounds, one after the
other, and a ratio is the median of the rounds' own ratios: what slows a round slows both.
"""

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from bench.results import Latency, Ratio, Throughput
from ptame_deploy.errors import InvalidInputError

# Over this coefficient of variation a figure deserves a warning (as trtexec does).
MAX_VARIATION_PERCENT = 2.5

Run = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Sampling:
    """How long to measure.

    Attributes:
        seconds: measured time of each contender at least.
        iterations: measured runs of each contender at least.
        warmup_seconds: before anything is measured, each contender at least so long,
        warmup_runs: and so many runs.
        rounds: turns that the time is divided into.
        streams: callers at once in throughput mode, so that a next run always waits.
    """

    seconds: float = 3.0
    iterations: int = 20
    warmup_seconds: float = 0.5
    warmup_runs: int = 3
    rounds: int = 10
    streams: int = 2

    def __post_init__(self) -> None:
        if self.seconds < 0 or self.warmup_seconds < 0:
            message = f"Seconds cannot be negative, got {min(self.seconds, self.warmup_seconds)}."
            raise InvalidInputError(message)
        if min(self.iterations, self.rounds, self.streams) < 1 or self.warmup_runs < 0:
            message = (
                "At least 1 iteration, 1 round and 1 stream are needed, got "
                f"{self.iterations}, {self.rounds} and {self.streams}."
            )
            raise InvalidInputError(message)


@dataclass
class Durations:
    """One contender's measured runs in seconds, by round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        """Every run."""
        return [duration for part in self.rounds for duration in part]


@dataclass(frozen=True)
class Load:
    """One turn with several callers.

    Attributes:
        rate: runs a second.
        durations: seconds of the runs that began within the turn.
    """

    rate: float
    durations: list[float]


def measure_latency(
    contenders: Mapping[str, Run], sampling: Sampling, *, clock: Clock = time.perf_counter
) -> dict[str, Durations]:
    """Time single runs, one at a time, contenders in turns.

    Args:
        contenders: what to run, by name.
        sampling: how long.
        clock: seconds that only go forward.

    Returns:
        The durations, by name; every contender has the same number of rounds.
    """
    for run in contenders.values():
        _warm_up(run, sampling, clock)
    durations = {name: Durations() for name in contenders}
    names = list(contenders)
    # Fewest rounds in which the iterations are reached with one run a turn, were time not enough.
    per_turn = -(-sampling.iterations // sampling.rounds)
    done = 0
    while done < sampling.rounds or any(_wants_more(d.all, sampling) for d in durations.values()):
        # Every other round goes backwards: a drift within rounds then cancels.
        for name in names if done % 2 == 0 else reversed(names):
            durations[name].rounds.append(_turn(contenders[name], sampling, per_turn, clock))
        done += 1
    return durations


def measure_throughput(
    contenders: Mapping[str, Sequence[Run]],
    sampling: Sampling,
    *,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Count runs while several callers keep the queue full; see `measure_load`.

    Returns:
        Runs a second in each round, by name.
    """
    found = measure_load(contenders, sampling, clock=clock)
    return {name: [turn.rate for turn in turns] for name, turns in found.items()}


def measure_load(
    contenders: Mapping[str, Sequence[Run]],
    sampling: Sampling,
    *,
    clock: Clock = time.perf_counter,
) -> dict[str, list[Load]]:
    """Count and time runs while several callers keep the queue full, contenders in turns.

    Args:
        contenders: what to run, by name: for each caller a run of its own.
        sampling: how long.
        clock: seconds that only go forward.

    Returns:
        What each round found, by name.
    """
    for runs in contenders.values():
        for run in runs:
            _warm_up(run, sampling, clock)
    found: dict[str, list[Load]] = {name: [] for name in contenders}
    names = list(contenders)
    with ThreadPoolExecutor(max(len(runs) for runs in contenders.values())) as pool:
        for done in range(sampling.rounds):
            for name in names if done % 2 == 0 else reversed(names):
                found[name].append(_Turn(contenders[name], sampling, clock).take(pool))
    return found


def measure_steps(
    steps: Mapping[str, Run], runs: int, *, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Time the steps of a run, one after the other, and return each one's median in seconds.

    Args:
        steps: in their order.
        runs: how often they all are run, after one round that is not counted.
        clock: seconds that only go forward.
    """
    durations: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(runs + 1):
        for name, step in steps.items():
            start = clock()
            step()
            if number:
                durations[name].append(clock() - start)
    return {name: statistics.median(found) for name, found in durations.items()}


def summarise_latency(durations: Sequence[float], batch: int) -> Latency:
    """Condense the durations of one contender.

    Args:
        durations: seconds a run.
        batch: images a run.

    Returns:
        Percentiles interpolate linearly between the two runs next to them; the coefficient of
        variation is the sample's standard deviation over its mean.
    """
    milliseconds = np.asarray(durations) * 1e3
    p50, p90, p95, p99 = np.percentile(milliseconds, (50, 90, 95, 99))
    mean = float(milliseconds.mean())
    variation = _variation_percent(milliseconds.tolist())
    return Latency(
        runs=len(durations),
        mean_ms=mean,
        min_ms=float(milliseconds.min()),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p95_ms=float(p95),
        p99_ms=float(p99),
        variation_percent=variation,
        unstable=variation > MAX_VARIATION_PERCENT,
        images_per_s=batch * 1e3 / float(p50),
    )


def summarise_throughput(rates: Sequence[float], batch: int, streams: int) -> Throughput:
    """Condense the runs a second of one contender's rounds."""
    variation = _variation_percent(rates)
    return Throughput(
        rounds=len(rates),
        streams=streams,
        images_per_s=batch * statistics.median(rates),
        min_images_per_s=batch * min(rates),
        max_images_per_s=batch * max(rates),
        variation_percent=variation,
        unstable=variation > MAX_VARIATION_PERCENT,
    )


def paired_ratio(over: Durations, under: Durations) -> Ratio:
    """Return how many times longer ``over`` takes: the median of the rounds' ratios of medians."""
    return summarise_ratios(
        [
            statistics.median(a) / statistics.median(b)
            for a, b in zip(over.rounds, under.rounds, strict=True)
        ]
    )


def summarise_ratios(ratios: Sequence[float]) -> Ratio:
    """Condense the rounds' ratios: their median and quartiles."""
    low, high = np.percentile(ratios, (25, 75))
    return Ratio(
        value=statistics.median(ratios), p25=float(low), p75=float(high), rounds=len(ratios)
    )


def _warm_up(run: Run, sampling: Sampling, clock: Clock) -> None:
    start, runs = clock(), 0
    while runs < sampling.warmup_runs or clock() - start < sampling.warmup_seconds:
        run()
        runs += 1


def _turn(run: Run, sampling: Sampling, least: int, clock: Clock) -> list[float]:
    # The one before left its data in the caches and its threads spinning: this run is not counted.
    run()
    durations: list[float] = []
    while len(durations) < least or sum(durations) < sampling.seconds / sampling.rounds:
        start = clock()
        run()
        durations.append(clock() - start)
    return durations


def _wants_more(durations: Sequence[float], sampling: Sampling) -> bool:
    return len(durations) < sampling.iterations or sum(durations) < sampling.seconds * (1 - 1e-9)


class _Turn:
    """One turn of a throughput measurement: a span of time in which no caller ever waits.

    A run that began or ended outside counts for the part of it that lies within. Callers go on
    until each one's run has crossed the end, so that nobody's last run has the machine for itself.
    """

    def __init__(self, runs: Sequence[Run], sampling: Sampling, clock: Clock) -> None:
        self._runs, self._clock = runs, clock
        start = clock()
        runs[0]()  # as in `_turn`, not counted; the span is long enough for a run at least
        self._span = max(sampling.seconds / sampling.rounds, clock() - start, 1e-6)
        self._start = self._end = 0.0
        self._ready = threading.Barrier(len(runs), action=self._begin)
        self._crossed, self._lock = 0, threading.Lock()
        self._stopped = False
        self._durations: list[float] = []

    def _begin(self) -> None:
        """Start the span when all callers stand ready: threads take their time to start."""
        self._start = self._clock()
        self._end = self._start + self._span

    def take(self, pool: ThreadPoolExecutor) -> Load:
        """Let the callers run, and return what they found."""
        callers = [pool.submit(self._call, run) for run in self._runs]
        try:
            counted = sum(caller.result() for caller in callers)
        finally:
            self._stopped = True  # after an interrupt nobody waits for runs that nobody counts
            self._ready.abort()
        return Load(counted / self._span, self._durations)

    def _call(self, run: Run) -> float:
        counted, crossed = 0.0, False
        self._ready.wait()
        while not self._stopped and self._crossed < len(self._runs):
            began = max(self._clock(), self._start)
            try:
                run()
            except BaseException:
                self._stopped = True
                raise
            ended = self._clock()
            within = min(ended, self._end) - began
            counted += max(0.0, within) / max(ended - began, 1e-9)
            if began <= self._end:
                self._durations.append(ended - began)
            if ended >= self._end and not crossed:
                crossed = True
                with self._lock:
                    self._crossed += 1
        return counted


def _variation_percent(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = statistics.fmean(values)
    return 100 * statistics.stdev(values) / mean if mean else 0.0
