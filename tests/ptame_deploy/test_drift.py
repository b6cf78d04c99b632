import numpy as np
import pytest

from ptame_deploy.drift import (
    Answers,
    ask,
    average_ranks,
    compare,
    correlation,
    faithfulness,
    misses,
)
from ptame_deploy.errors import CheckFailedError
from ptame_deploy.records import Tolerance

pytestmark = pytest.mark.unit


def answers(probability, index, saliency):
    return Answers(
        np.array(probability, np.float32),
        np.array(index, np.int64),
        np.array(saliency, np.float32),
    )


RAMP = [[0.0, 0.5], [0.75, 1.0]]
OTHER = [[0.0, 0.6], [0.75, 1.0]]


def test_drift_by_hand():
    reference = answers([[0.7, 0.3], [0.6, 0.4]], [[0], [0]], [[RAMP], [RAMP]])
    found = answers([[0.6, 0.4], [0.3, 0.7]], [[0], [1]], [[OTHER], [RAMP]])
    drift = compare(reference, found)
    assert drift.photos == 2
    assert drift.top1_agreement == 0.5
    assert drift.probability_mean == pytest.approx((0.1 + 0.3) / 2)
    assert drift.probability_max == pytest.approx(0.3)
    assert drift.maps == 1  # the second photo's map is of another class
    assert drift.map_mean == pytest.approx(0.1 / 4)
    assert drift.map_max == pytest.approx(0.1)
    assert drift.pearson == pytest.approx(np.corrcoef(np.ravel(RAMP), np.ravel(OTHER))[0, 1])
    assert drift.spearman == pytest.approx(1)


def test_a_class_of_lower_rank_is_still_compared():
    reference = answers([[0.6, 0.4]], [[0, 1]], [[RAMP, OTHER]])
    found = answers([[0.4, 0.6]], [[1, 0]], [[OTHER, RAMP]])
    drift = compare(reference, found)
    assert drift.top1_agreement == 0
    assert drift.maps == 1
    assert drift.map_max == 0


def test_no_class_in_common_is_an_error():
    reference = answers([[0.6, 0.4]], [[0]], [[RAMP]])
    with pytest.raises(CheckFailedError, match="no class in common"):
        compare(reference, answers([[0.4, 0.6]], [[1]], [[RAMP]]))


def test_rank_correlation_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a = rng.integers(0, 9, (8, 8)).astype(np.float32)  # many ties
    b = a + rng.normal(0, 2, (8, 8)).round().astype(np.float32)
    expected = stats.spearmanr(a.ravel(), b.ravel()).statistic
    assert correlation(average_ranks(a), average_ranks(b)) == pytest.approx(expected)


def test_correlation_of_flat_maps():
    flat, ramp = np.zeros((2, 2), np.float32), np.array(RAMP, np.float32)
    assert correlation(flat, flat) == 1
    assert correlation(flat, ramp) == 0


def test_misses_name_value_and_limit():
    reference = answers([[0.7, 0.3]], [[0]], [[RAMP]])
    drift = compare(reference, answers([[0.6, 0.4]], [[0]], [[OTHER]]))
    assert misses(drift, Tolerance(top1_agreement=1, map_mean=0.03, pearson=0.9)) == []
    found = misses(drift, Tolerance(top1_agreement=1, map_mean=0.01, pearson=0.9999))
    assert len(found) == 2
    assert "0.0250 is over 0.01" in found[0]
    assert "Pearson" in found[1]


def test_answers_that_are_no_numbers():
    def broken(images, classes):
        return {"logits": np.full((len(images), 2), np.inf), "saliency": np.zeros((1, 1, 2, 2))}

    with pytest.raises(CheckFailedError, match="NaN or infinity"):
        ask(broken, np.zeros((1, 3, 4, 4), np.float32))


def test_faithfulness_asks_the_judge_with_masked_photos():
    """A judge that sees one corner only: a map of that corner loses nothing, another everything."""

    def judge(images, classes):
        corner = images[:, :, :2, :2].mean(axis=(1, 2, 3))
        return {"logits": np.stack([10 * corner, np.zeros_like(corner)], axis=1)}

    images = np.ones((3, 3, 4, 4), np.float32)
    right, wrong = np.zeros((3, 1, 4, 4), np.float32), np.zeros((3, 1, 4, 4), np.float32)
    right[:, :, :2, :2] = 1
    wrong[:, :, 2:, 2:] = 1
    sure = np.tile(np.array([[1.0, 0.0]], np.float32), (3, 1))
    index = np.zeros((3, 1), np.int64)
    rows = faithfulness(
        judge, images, Answers(sure, index, right), Answers(sure, index, wrong), lambda x: x
    )
    assert [(row.form, row.percent) for row in rows] == [
        (form, percent) for form in ("published", "contrast-matched") for percent in (100, 50, 15)
    ]
    for row in rows[:3]:
        assert row.drop == pytest.approx(50, abs=0.1)  # a black photo: both classes alike
        assert row.photos == 3
    assert rows[0].reference_drop < 0.1
