import evaluations
import pytest

from bench.evaluation.report.cells import clean, interval_cell, number, time_cell
from bench.evaluation.results import MapTime

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "digits", "signed", "shown"),
    [(-0.04, 1, False, "0.0"), (-1.25, 2, False, "−1.25"), (0.5, 1, True, "+0.5"),
     (float("nan"), 1, False, "–"), (float("inf"), 1, False, "–")],
)  # fmt: skip
def test_numbers(value, digits, signed, shown):
    assert number(value, digits, signed=signed) == shown


def test_an_interval_without_ends_shows_its_mean_alone():
    broken = evaluations.interval(0.5).model_copy(update={"low": float("nan")})
    assert interval_cell(broken, 1).detail == ""
    assert interval_cell(None, 1).text == "–"


def test_clean_keeps_other_scripts():
    assert clean("猫 é\u202e\x07") == "猫 é "


def test_a_single_photo_has_no_interval():
    assert interval_cell(evaluations.interval(70.6, 0.0, 1), 1).detail == ""
    assert interval_cell(evaluations.interval(70.6, 0.0, 2), 1).detail == "[70.6, 70.6]"


@pytest.mark.parametrize(
    ("low", "median", "high", "text", "detail"),
    [(9.5, 9.8, 10.34, "9.80", "(9.50–10.3)"), (29613.0, 29613.0, 29613.0, "29,613", ""),
     (99.96, 100.0, 100.4, "100", "(100.0–100)"), (1.0, float("nan"), 2.0, "–", "")],
)  # fmt: skip
def test_a_time_has_quartiles_only_where_they_differ(low, median, high, text, detail):
    time = MapTime(median_ms=median, p25_ms=low, p75_ms=high, batch=8, runs=7)
    assert (time_cell(time).text, time_cell(time).detail) == (text, detail)


def test_no_time_is_a_dash():
    assert time_cell(None).text == "–"
