import numpy as np
import pytest

from ptame_deploy.bootstrap import Interval, difference, excludes_zero, interval

pytestmark = pytest.mark.unit

NAN = float("nan")


def test_constants_have_no_width():
    assert interval(np.full(9, 3.5)) == Interval(mean=3.5, low=3.5, high=3.5, photos=9)
    assert interval(np.array([2.0])) == Interval(mean=2.0, low=2.0, high=2.0, photos=1)


def test_what_was_not_measured_does_not_count():
    values = np.array([1.0, NAN, 3.0, NAN, 8.0])
    assert interval(values) == interval(np.array([1.0, 3.0, 8.0]))
    assert interval(values).photos == 3
    assert interval(values).mean == 4.0
    assert interval(np.full(4, NAN)) is None
    assert interval(np.empty(0)) is None


def test_equal_data_have_equal_intervals_and_the_seed_moves_them_little():
    values = np.random.default_rng(1).normal(5, 2, 60)
    assert interval(values) == interval(values.copy())
    other = interval(values, seed=1)
    assert other != interval(values)
    assert other.mean == interval(values).mean
    assert other.low == pytest.approx(interval(values).low, abs=0.1)
    assert interval(values + 10).low == pytest.approx(interval(values).low + 10)


def test_the_interval_is_the_bootstraps():
    """Against the plain definition, resample by resample, with draws of its own."""
    values = np.random.default_rng(2).exponential(3, 40)
    rng = np.random.default_rng(7)
    means = [rng.choice(values, 40).mean() for _ in range(4000)]
    found = interval(values)
    low, high = np.percentile(means, (2.5, 97.5))
    assert found.low == pytest.approx(low, abs=0.15)
    assert found.high == pytest.approx(high, abs=0.15)
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.mean > found.mean - found.low  # skewed as the data are


def test_normal_data_are_covered_about_as_often_as_told():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        found = interval(rng.normal(10, 3, 50), resamples=400)
        hits += found.low <= 10 <= found.high
    assert 0.91 <= hits / 200 <= 0.98


def test_a_paired_difference_is_sharper_than_two_intervals():
    """Photos differ far more than two methods on the same photo do."""
    rng = np.random.default_rng(4)
    photos = rng.normal(50, 20, 80)
    one, other = photos + rng.normal(1, 1, 80), photos + rng.normal(0, 1, 80)
    found = difference(one, other)
    assert found.mean == pytest.approx((one - other).mean())
    assert excludes_zero(found)
    assert found.low > 0
    assert interval(one).low < interval(other).high  # unpaired nothing would be seen
    turned = difference(other, one)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=0.05)
    assert turned.mean == -found.mean


def test_a_difference_is_the_interval_of_the_differences():
    one, other = np.random.default_rng(4).normal(size=(2, 40))
    assert difference(one, other) == interval(one - other)  # of the same resamples


def test_a_difference_is_over_the_photos_that_both_have():
    one = np.array([1.0, 2.0, NAN, 9.0])
    other = np.array([0.0, NAN, 5.0, 5.0])
    assert difference(one, other).photos == 2
    assert difference(one, other).mean == 2.5
    assert difference(one, np.full(4, NAN)) is None


@pytest.mark.parametrize(
    ("low", "high", "excludes"),
    [(0.1, 2, True), (-2, -0.1, True), (-1, 1, False), (0, 1, False), (-1, 0, False)],
)
def test_an_interval_excludes_zero_where_it_lies_on_one_side(low, high, excludes):
    assert excludes_zero(Interval(mean=0, low=low, high=high, photos=6)) is excludes


def test_a_handful_of_photos_excludes_nothing():
    """Of five, all differ in one direction by chance alone more often than 5 % of the time."""
    found = {n: difference(np.arange(n) + 2.0, np.arange(n) + 1.0) for n in (1, 2, 5, 6)}
    assert all(one.low == one.high == 1 for one in found.values())
    assert {n: excludes_zero(one) for n, one in found.items()} == {
        1: False, 2: False, 5: False, 6: True,
    }  # fmt: skip


def test_the_interval_is_the_percentiles_of_all_resampled_means():
    """Against the definition: 2.5 and 97.5 percent of the means, none of them left out."""
    values = np.random.default_rng(3).exponential(size=37)
    for resamples in (1500, 10_000):
        generator = np.random.default_rng([4, 37])
        means = np.concatenate(
            [
                values[generator.integers(0, 37, (min(1000, resamples - start), 37))].mean(axis=1)
                for start in range(0, resamples, 1000)
            ]
        )
        found = interval(values, seed=4, resamples=resamples)
        assert found.low == np.percentile(means, 2.5)
        assert found.high == np.percentile(means, 97.5)
        assert found.mean == pytest.approx(values.mean())
