import numpy as np
import pytest

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.heads import (
    are_shares,
    checked_head,
    evidence,
    log_probability,
    logits_of,
    names_function,
    probabilities,
)

pytestmark = pytest.mark.unit
LOGITS = np.array([[2.0, -1.0, 0.5], [300.0, 310.0, -400.0], [-2.0, -2.0, -2.0]], np.float32)


def test_softmax_by_hand():
    found = probabilities(LOGITS)
    assert found.dtype == np.float32
    powers = np.exp([2.0, -1.0, 0.5])
    np.testing.assert_allclose(found[0], powers / powers.sum(), rtol=1e-6)
    np.testing.assert_allclose(found[1], [4.539787e-05, 0.9999546, 0], atol=1e-8)
    np.testing.assert_allclose(found[2], [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_sigmoid_by_hand():
    found = probabilities(LOGITS, "sigmoid")
    np.testing.assert_allclose(found[0], [0.8807971, 0.26894143, 0.62245935], rtol=1e-6)
    np.testing.assert_array_equal(found[1][:2], [1, 1])
    assert 0 < found[1, 2] < 1e-30  # no overflow, and no zero that a logarithm would fail on
    np.testing.assert_allclose(found[2], 0.11920292, rtol=1e-6)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_logits_and_probabilities_are_each_others_inverse(head):
    values = np.array([[0.7, 0.2, 0.1], [0.98, 0.01, 0.01]], np.float32)
    np.testing.assert_allclose(probabilities(logits_of(values, head), head), values, atol=1e-6)
    certain = logits_of(np.array([[1.0, 0.0]], np.float32), head)
    assert np.isfinite(certain).all()
    np.testing.assert_allclose(probabilities(certain, head), [[1, 0]], atol=1e-6)
    assert certain[0, 1] == pytest.approx(np.log(1e-12), abs=1e-4)


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_log_probabilities_are_probabilities_logarithms(head, index):
    found = log_probability(LOGITS.astype(np.float64), index, head)
    assert found.dtype == np.float64
    assert found.shape == (3,)
    assert np.isfinite(found).all()
    plain = probabilities(LOGITS[[0, 2]], head)[:, index]
    np.testing.assert_allclose(np.exp(found[[0, 2]]), plain, rtol=1e-5)


def test_evidence_is_a_classs_own():
    logits = LOGITS.astype(np.float64)
    np.testing.assert_allclose(evidence(logits, 2)[0], 0.5 - 0.5)
    np.testing.assert_allclose(evidence(logits, 0)[0], 2.0 - 0.5)
    np.testing.assert_allclose(evidence(logits + 7, 0), evidence(logits, 0))  # as softmax
    np.testing.assert_array_equal(evidence(logits, 1, "sigmoid"), [-1, 310, -2])


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        ([[0.5, 0.5], [1.0, 0.0]], True),
        ([[0.5, 0.5004]], True),
        ([[0.5, 0.503]], False),
        ([[0.5, 0.497]], False),
        ([[1.2, -0.2]], False),
        ([[0.5, 0.5], [0.5, 0.4]], False),
        ([[1.0], [1.0]], False),  # one class: a sigmoid that is sure
    ],
)
def test_shares_are_told_from_other_numbers(values, shares):
    assert are_shares(np.array(values, np.float32)) is shares


def test_heads_are_named_or_functions():
    assert checked_head(None) is None
    assert checked_head("sigmoid") == "sigmoid"
    with pytest.raises(InvalidInputError, match="got 'tanh'"):
        checked_head("tanh")
    assert names_function("file.py:head")
    assert not names_function("softmax")
    assert not names_function(None)
