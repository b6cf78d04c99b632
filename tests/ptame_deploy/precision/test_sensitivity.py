from pathlib import Path

import numpy as np
import pytest

from ptame_deploy.drift import Answers
from ptame_deploy.precision.sensitivity import error, leave_one_out, search
from ptame_deploy.records import SensitivityRecord

pytestmark = pytest.mark.unit

COST = {"a": 0.0, "b": 0.3, "c": 0.1, "d": -0.01}


def answers(shift):
    probability = np.array([[0.9 - shift, 0.1 + shift]] * 4, np.float32)
    return Answers(probability, np.zeros((4, 1), np.int64), np.ones((4, 1, 2, 2), np.float32))


def build(kept):
    return Path("+".join(sorted(kept)) or "nothing")


def ask(path, few):
    kept = path.name.split("+")
    return answers(sum(cost for block, cost in COST.items() if block not in kept))


def test_error_adds_probabilities_and_maps():
    assert error(answers(0), answers(0.1)) == pytest.approx(0.1)
    other = Answers(answers(0).probability, np.ones((4, 1), np.int64), answers(0).saliency)
    assert error(answers(0), other) == pytest.approx(1)  # no map of that class at all


def test_every_block_is_left_out_in_turn():
    blocks = {block: [block] for block in COST}
    report = leave_one_out(answers(0), blocks, build, ask)
    assert [row.block for row in report] == ["b", "c", "a", "d"]
    assert report[0].gain == pytest.approx(0.3, abs=1e-6)
    assert report[-1].gain == pytest.approx(-0.01, abs=1e-6)
    report = leave_one_out(answers(0), blocks, build, ask, kept=["b"])
    assert [row.block for row in report] == ["c", "a", "d"]


def row(block, gain):
    return SensitivityRecord(block=block, nodes=1, error=0, gain=gain)


RANKING = [row("b", 0.3), row("c", 0.1), row("e", 0.01), row("a", 0.0), row("d", -0.05)]


def test_the_search_stops_where_the_targets_hold():
    tried = []

    def holds(kept):
        tried.append(list(kept))
        return "c" in kept

    found = search(RANKING, holds, kept=["x"], most=8)
    assert found.held
    assert found.kept == ["x", "b", "c"]
    assert tried == [["x", "b"], ["x", "b", "c"]]


def test_the_search_is_bounded_and_keeps_nothing_that_does_not_help():
    assert search(RANKING, lambda kept: False, most=2).kept == ["b", "c"]
    found = search(RANKING, lambda kept: False, most=8)
    assert found.kept == ["b", "c", "e"]
    assert not found.held
