import numpy as np
import pytest

from bench.methods.floors import CELLS, GAUSSIAN, RANDOM, floors

pytestmark = pytest.mark.unit

CLASSES = np.array([1, 2, 3])


def floor(name, seed=0):
    return next(method for method in floors(seed) if method.name == name).explain


@pytest.mark.parametrize("shape", [(64, 64), (50, 81)])
def test_the_gaussian_peaks_at_the_centre_and_falls_to_every_side(shape):
    maps = floor(GAUSSIAN)(np.zeros((3, 3, *shape), np.float32), CLASSES)
    assert maps.shape == (3, *shape)
    one = maps[0]
    np.testing.assert_array_equal(one, maps[2])
    np.testing.assert_allclose(one, one[::-1], rtol=1e-5)
    np.testing.assert_allclose(one, one[:, ::-1], rtol=1e-5)
    height, width = shape
    assert one.max() == one[height // 2, width // 2] > 0.99
    assert (np.diff(one[height // 2, width // 2 :]) < 0).all()
    assert (np.diff(one[height // 2 :, width // 2]) < 0).all()


def test_the_gaussian_knows_neither_photo_nor_class_nor_seed(batch_of_3):
    maps = floor(GAUSSIAN)(batch_of_3, CLASSES)
    np.testing.assert_array_equal(maps, floor(GAUSSIAN, seed=9)(1 - batch_of_3, CLASSES + 4))


def test_random_maps_are_seeded_by_photo_and_seed(batch_of_3):
    maps = floor(RANDOM)(batch_of_3, CLASSES)
    assert maps.shape == (3, CELLS, CELLS)
    assert maps.dtype == np.float32
    assert not np.array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(floor(RANDOM)(batch_of_3, CLASSES + 1), maps)
    np.testing.assert_array_equal(floor(RANDOM)(batch_of_3[[2, 1]], CLASSES[:2]), maps[[2, 1]])
    other = floor(RANDOM, seed=1)(batch_of_3, CLASSES)
    assert not np.isclose(other, maps).any(axis=(1, 2)).all()
    assert abs(np.corrcoef(other.ravel(), maps.ravel())[0, 1]) < 0.5


def test_floors_cost_no_pass():
    assert [(m.name, m.cost.passes, m.family) for m in floors(0)] == [
        (GAUSSIAN, 0, "floor"), (RANDOM, 0, "floor"),
    ]  # fmt: skip
    assert [m.settings.get("seed") for m in floors(7)] == [None, 7]
