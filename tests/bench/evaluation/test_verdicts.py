import numpy as np
import pytest

from bench.evaluation.verdicts import verdict
from bench.measures.measure import Column

pytestmark = pytest.mark.unit


def column(better="higher", *, moves=False):
    return Column(
        name="c", label="C", better=better, contrast_moves=moves, low=0.0, high=1.0, source=""
    )


def values(**means):
    """Values of methods: one level each, with the same noise for all, and some of its own."""
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 5, 60)
    return {name: mean + shared + rng.normal(0, 0.5, 60) for name, mean in means.items()}


def test_a_clear_winner_in_both_directions():
    found = values(a=10, b=12, c=7)
    high = verdict(column(), found, ["a", "b", "c"])
    assert (high.winner, high.best, high.undecided) == ("b", "b", [])
    low = verdict(column("lower"), found, ["a", "b", "c"])
    assert (low.winner, low.best, low.undecided) == ("c", "c", [])


def test_no_winner_where_one_difference_includes_zero():
    found = values(a=10, b=10.01, c=7)
    for names in (["a", "b", "c"], ["c", "b", "a"]):
        one = verdict(column(), found, names)
        best = max("ab", key=lambda name: found[name].mean())
        assert one.winner is None
        assert one.best == best
        assert one.undecided == [{"a": "b", "b": "a"}[best]]
    worst = verdict(column("lower"), found, ["a", "b", "c"])
    assert worst.winner == "c"


def test_only_contestants_take_part():
    found = values(a=10, b=12, c=7)
    assert verdict(column(), found, ["a", "c"]).winner == "a"
    assert verdict(column(), found, ["a"]) is None
    assert verdict(column(), found, []) is None


@pytest.mark.parametrize(("photos", "winner"), [(1, None), (5, None), (6, "b")])
def test_a_handful_of_photos_has_no_winner(photos, winner):
    same = np.arange(float(photos))
    found = verdict(column(), {"a": same, "b": same + 1}, ["a", "b"])
    assert (found.winner, found.best) == (winner, "b")


def test_what_contrast_moves_has_no_winner():
    assert verdict(column(moves=True), values(a=10, b=12), ["a", "b"]) is None


def test_equal_methods_have_no_winner():
    same = np.arange(10.0)
    found = verdict(column(), {"a": same, "b": same.copy()}, ["a", "b"])
    assert found.winner is None
    assert found.undecided == ["b"]
