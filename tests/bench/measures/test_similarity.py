import numpy as np
import pytest

from bench.measures.similarity import pearson, spearman
from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.unit


def as_map(*rows):
    return np.array(rows, np.float32)


def test_by_hand():
    a, b = as_map([1, 2], [3, 4]), as_map([1, 2], [4, 3])
    assert spearman(a, b) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert pearson(a, as_map([1, 2], [3, 8])) == pytest.approx(11 / np.sqrt(5 * 29))
    assert spearman(a, -a) == -1
    assert pearson(a, 3 * a + 1) == 1


def test_are_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a = rng.integers(0, 9, (20, 30)).astype(np.float32)  # with ties
    b = a + rng.normal(0, 4, a.shape).astype(np.float32)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a.ravel(), b.ravel())[0], abs=1e-5)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a.ravel(), b.ravel())[0], abs=1e-5)
    assert abs(spearman(a, b) - pearson(a, b)) > 1e-3


def test_ranks_ignore_contrast():
    rng = np.random.default_rng(1)
    level, b = rng.integers(0, 30, (9, 9)), rng.random((9, 9)).astype(np.float32)
    plain, bent = level.astype(np.float32), np.exp(level / 5).astype(np.float32)
    assert spearman(plain, b) == spearman(bent, b)
    assert pearson(plain, b) != pearson(bent, b)


@pytest.mark.parametrize("measure", [spearman, pearson])
def test_flat_maps_agree_with_nothing(measure):
    flat = np.full((37, 41), 0.1, np.float32)  # its mean is not exactly 0.1
    other = np.random.default_rng(0).random((37, 41)).astype(np.float32)
    assert measure(flat, other) == measure(other, flat) == measure(flat, flat) == 0.0


@pytest.mark.parametrize("measure", [spearman, pearson])
def test_what_cannot_be_compared(measure):
    good = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    with pytest.raises(InvalidInputError, match="one size"):
        measure(good, good.T)
    with pytest.raises(InvalidInputError, match="one size"):
        measure(good[:0], good[:0])
    for value in (np.nan, np.inf):
        broken = good.copy()
        broken[0, 0] = value
        with pytest.raises(InvalidInputError, match="in 1 of 12 pixels"):
            measure(good, broken)


@pytest.mark.parametrize("measure", [spearman, pearson])
def test_never_leaves_its_range(measure):
    rng = np.random.default_rng(0)
    for _ in range(50):
        a = rng.random((5, 7)).astype(np.float32)
        assert measure(a, a) <= 1
        assert measure(a, -a) >= -1
