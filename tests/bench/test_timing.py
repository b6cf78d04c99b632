import itertools

import numpy as np
import pytest

from bench.methods.rise import RiseSettings
from bench.rise_timer import RiseTimer
from bench.timing import (
    Durations,
    Sampling,
    measure_latency,
    measure_load,
    measure_steps,
    measure_throughput,
    paired_ratio,
    summarise_latency,
    summarise_throughput,
)
from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.unit


class FakeTime:
    """A clock that moves only when a contender runs."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def clock(self):
        return self.now

    def contender(self, name, seconds):
        def run():
            self.order.append(name)
            self.now += seconds() if callable(seconds) else seconds

        return run


def test_percentiles_of_known_durations():
    found = summarise_latency([number / 1000 for number in range(1, 101)], batch=4)
    assert found.runs == 100
    assert found.p50_ms == pytest.approx(50.5)
    assert found.p90_ms == pytest.approx(90.1)
    assert found.p95_ms == pytest.approx(95.05)
    assert found.p99_ms == pytest.approx(99.01)
    assert found.mean_ms == pytest.approx(50.5)
    assert found.min_ms == pytest.approx(1)
    assert found.variation_percent == pytest.approx(100 * 29.011492 / 50.5)
    assert found.unstable
    assert found.images_per_s == pytest.approx(4 / 0.0505)


def test_steady_durations_are_stable():
    found = summarise_latency([0.0100, 0.0101, 0.0099], batch=1)
    assert found.variation_percent == pytest.approx(1.0)
    assert not found.unstable
    assert summarise_latency([0.01], batch=1).variation_percent == 0


@pytest.mark.parametrize(
    ("seconds", "iterations"), [(1.0, 5), (0.0, 23), (0.1, 60)], ids=["time", "count", "both"]
)
def test_every_contender_runs_long_and_often_enough(seconds, iterations):
    time = FakeTime()
    contenders = {"slow": time.contender("slow", 0.05), "fast": time.contender("fast", 0.001)}
    sampling = Sampling(seconds=seconds, iterations=iterations, warmup_seconds=0.2, warmup_runs=3)
    found = measure_latency(contenders, sampling, clock=time.clock)
    assert len(found["slow"].rounds) == len(found["fast"].rounds) >= sampling.rounds
    for name, each in (("slow", 0.05), ("fast", 0.001)):
        assert len(found[name].all) >= iterations
        assert sum(found[name].all) >= seconds - 1e-6
        assert found[name].all == pytest.approx([each] * len(found[name].all))


def test_warm_up_is_not_counted_and_lasts_by_time_and_by_count():
    time = FakeTime()
    durations = itertools.chain([5.0, 5.0], itertools.repeat(0.01))
    sampling = Sampling(seconds=0.1, iterations=10, warmup_seconds=10, warmup_runs=2)
    run = time.contender("only", lambda: next(durations))
    found = measure_latency({"only": run}, sampling, clock=time.clock)
    assert max(found["only"].all) == pytest.approx(0.01)


def test_contenders_take_turns_and_the_order_alternates():
    time = FakeTime()
    contenders = {name: time.contender(name, 0.1) for name in "ab"}
    sampling = Sampling(seconds=0, iterations=4, warmup_seconds=0, warmup_runs=0, rounds=4)
    measure_latency(contenders, sampling, clock=time.clock)
    assert "".join(name for name, _ in itertools.groupby(time.order)) == "ababa"


def test_a_ratio_is_paired_by_round():
    # A machine that gets three times slower half way: the ratio of all medians would be off.
    over = Durations([[2.0, 2.0], [2.0], [6.0, 6.0, 6.0, 6.0], [6.0], [6.0]])
    under = Durations([[1.0], [1.0, 1.0, 1.0, 1.0], [3.0], [3.0], [3.0]])
    found = paired_ratio(over, under)
    assert found.value == 2
    assert (found.p25, found.p75, found.rounds) == (2, 2, 5)


def test_throughput_counts_what_lies_within_the_turn():
    time = FakeTime()
    sampling = Sampling(seconds=1, warmup_seconds=0, rounds=5)
    found = measure_throughput({"a": [time.contender("a", 0.03)]}, sampling, clock=time.clock)
    # 0.2 s a turn hold six runs and two thirds of a seventh.
    assert found["a"] == pytest.approx([1 / 0.03] * 5)
    load = measure_load({"a": [time.contender("a", 0.03)]}, sampling, clock=time.clock)["a"]
    assert [turn.rate for turn in load] == pytest.approx(found["a"])
    assert load[0].durations == pytest.approx([0.03] * 7)
    summary = summarise_throughput(found["a"], 8, 1)
    assert summary.images_per_s == pytest.approx(8 / 0.03)
    assert not summary.unstable


def test_a_turn_is_never_shorter_than_a_run():
    time = FakeTime()
    sampling = Sampling(seconds=0.1, warmup_seconds=0, rounds=5)
    found = measure_throughput({"a": [time.contender("a", 2.0)]}, sampling, clock=time.clock)
    assert found["a"] == pytest.approx([0.5] * 5)


def test_throughput_keeps_all_callers_busy_to_the_end():
    """The queue is full: whenever one runs within the turn, so does the other."""
    import threading
    import time as real

    lock = threading.Lock()
    spans: dict[str, list[tuple[float, float]]] = {"quick": [], "slow": []}

    def caller(name, seconds):
        def run():
            began = real.perf_counter()
            real.sleep(seconds)
            with lock:
                spans[name].append((began, real.perf_counter()))

        return run

    runs = [caller("quick", 0.01), caller("slow", 0.5)]
    sampling = Sampling(seconds=0.1, warmup_seconds=0, warmup_runs=0, rounds=1)
    measure_throughput({"a": runs}, sampling)
    # The quick one went on far beyond the turn's 0.1 s, as long as the slow one's run.
    assert spans["quick"][-1][1] > spans["slow"][-1][1] - 0.2


def test_a_turn_begins_when_all_callers_stand_ready(monkeypatch):
    """On a busy machine threads start late: that is not the runs' time."""
    import time as real
    from concurrent.futures import ThreadPoolExecutor

    original = ThreadPoolExecutor.submit

    def slow_submit(self, *arguments):
        real.sleep(0.2)
        return original(self, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", slow_submit)
    sampling = Sampling(seconds=0.05, warmup_seconds=0, warmup_runs=0, rounds=1)
    runs = [lambda: real.sleep(0.01)] * 2
    assert measure_throughput({"a": runs}, sampling)["a"][0] > 0


def test_no_rate_has_no_variation():
    assert summarise_throughput([0.0, 0.0], 1, 1).variation_percent == 0


def test_an_error_in_a_caller_is_not_swallowed():
    calls = itertools.count()

    def run():
        if next(calls) > 8:
            raise InvalidInputError("broken")

    with pytest.raises(InvalidInputError, match="broken"):
        measure_throughput({"a": [run, run]}, Sampling(seconds=0.05, warmup_seconds=0))


def test_steps_are_timed_apart():
    time = FakeTime()
    steps = {"up": time.contender("up", 0.1), "compute": time.contender("compute", 1.0)}
    found = measure_steps(steps, 3, clock=time.clock)
    assert found == {"up": pytest.approx(0.1), "compute": pytest.approx(1.0)}
    assert time.order == ["up", "compute"] * 4


@pytest.mark.parametrize(
    "arguments",
    [{"seconds": -1}, {"iterations": 0}, {"rounds": 0}, {"streams": 0}, {"warmup_runs": -1}],
)
def test_sampling_that_makes_no_sense(arguments):
    with pytest.raises(InvalidInputError):
        Sampling(**arguments)


def test_rise_is_timed_without_the_turns_of_others(monkeypatch):
    time = FakeTime()
    monkeypatch.setattr("bench.rise_timer.time.perf_counter", time.clock)
    fused, classifier = time.contender("fused", 0.5), time.contender("alone", 0.8)
    timer = RiseTimer(fused, classifier, RiseSettings(masks=100, batch=8))
    timer.start()
    for count in [8] * 12 + [4]:
        time.now += 0.11 * count
        timer.advance(count)
    assert timer.total_s == pytest.approx(11)
    assert timer.fused_s == pytest.approx(0.5)
    assert timer.pass_s == pytest.approx(0.1)
    assert timer.overhead == pytest.approx(1.1)
    assert timer.ratio.value == pytest.approx(22)
    assert np.isfinite(timer.ratio.p25)
