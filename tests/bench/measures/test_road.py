import itertools

import numpy as np
import pytest

from bench.measures import road
from bench.measures.measure import MeasureSettings
from bench.measures.road import Road
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.vision import import_torchvision

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def published():
    """The published way to remove pixels: which ones stay."""
    pytest.importorskip("scipy")
    torch = pytest.importorskip("torch")
    import_torchvision()
    metrics = pytest.importorskip("pytorch_grad_cam.metrics.road")

    def kept(saliency, percent, most):
        kind = metrics.RemoveMostRelevantFirst if most else metrics.RemoveLeastRelevantFirst
        # It counts the pixels that stay.
        remove = kind(100 - percent, lambda _, mask: mask)
        return remove(None, torch.from_numpy(saliency)).numpy() > 0.5

    return kept


def photo(height=16, width=20, seed=0):
    """Smooth parts, sharp edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    parts = [np.sin(9 * x + 5 * y), np.sign(np.sin(20 * y)), x > 0.4]
    image = 0.5 + 0.3 * np.stack(parts) + 0.1 * rng.random((3, height, width))
    return np.clip(image, 0, 1).astype(np.float32)


def copies(measure, image, saliency):
    return [one.copy() for one in measure.variants(image, saliency)]


def values(measure, judge, image, saliency):
    after = np.array([judge(one) for one in measure.variants(image, saliency)], np.float32)
    return measure.read(judge(image), after).values


def test_removes_the_pixels_that_the_published_code_removes(published, monkeypatch):
    saliency = np.random.default_rng(0).permutation(400).reshape(20, 20).astype(np.float32) / 399
    asked = []

    def record(image, removed):
        asked.append(removed)
        return image.copy()

    monkeypatch.setattr(road, "impute", record)
    copies(Road(MeasureSettings(road_percentages=(20, 35, 80))), photo(20, 20), saliency)
    cases = list(itertools.product((20, 35, 80), (True, False)))
    assert len(asked) == len(cases)
    for removed, (percent, most) in zip(asked, cases, strict=True):
        np.testing.assert_array_equal(removed, ~published(saliency, percent, most))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_copies_stay_in_range(value):
    image = np.full((3, 20, 20), value, np.float32)
    for one in Road(MeasureSettings()).variants(image, image[0]):
        assert one.min() >= 0
        assert one.max() <= 1
        assert one.min() < one.max()  # there is noise


def test_only_removed_pixels_change():
    image = photo(40, 40)
    saliency = np.random.default_rng(3).permutation(1600).reshape(40, 40).astype(np.float32)
    found = copies(Road(MeasureSettings(road_percentages=(10, 90))), image, saliency)
    for one, (percent, most) in zip(found, itertools.product((10, 90), (True, False)), strict=True):
        count = 16 * percent
        removed = saliency >= 1600 - count if most else saliency < count
        np.testing.assert_array_equal(one[:, ~removed], image[:, ~removed])
        assert (one[:, removed] != image[:, removed]).mean() > 0.9


def test_as_many_pixels_go_as_the_percentage_says():
    """Rounded, from one percent to ninety-nine."""
    image, saliency = photo(7, 9), np.arange(63, dtype=np.float32).reshape(7, 9)
    found = copies(Road(MeasureSettings(road_percentages=(1, 20, 99))), image, saliency)
    gone = [int((one != image).any(axis=0).sum()) for one in found]
    assert gone == [1, 1, 13, 13, 62, 62]


def test_noise_is_that_of_the_paper():
    image = np.full((3, 100, 100), 0.5, np.float32)
    saliency = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    most, least = copies(Road(MeasureSettings(road_percentages=(50,))), image, saliency)
    for part in (most[:, 50:], least[:, :50]):
        noise = part.astype(np.float64) - 0.5
        assert abs(noise.mean()) < 5e-4
        assert noise.std() == pytest.approx(0.01, rel=0.03)


def test_noise_depends_on_seed_photo_and_percentage_alone():
    image, other = photo(), photo(seed=1)
    saliency = np.random.default_rng(4).random((16, 20)).astype(np.float32)
    measure = Road(MeasureSettings())
    first = copies(measure, image, saliency)
    copies(measure, other, saliency)
    np.testing.assert_array_equal(first, copies(measure, image, saliency))
    alone = Road(MeasureSettings(road_percentages=(60,)))
    np.testing.assert_array_equal(first[4:6], copies(alone, image, saliency))
    reseeded = copies(Road(MeasureSettings(seed=1)), image, saliency)
    assert all(not np.array_equal(a, b) for a, b in zip(first, reseeded, strict=True))


def noise_of(image, percent, seed=0):
    settings = MeasureSettings(road_percentages=(percent,), seed=seed)
    flat = np.zeros(image.shape[1:], np.float32)
    return copies(Road(settings), image, flat)[0][:, -1, -1]


def test_another_photo_or_percentage_gets_other_noise():
    grey, lighter = (np.full((3, 10, 10), value, np.float32) for value in (0.5, 0.6))
    base = noise_of(grey, 20) - 0.5
    assert np.abs(base - (noise_of(lighter, 20) - 0.6)).max() > 1e-3
    assert np.abs(base - (noise_of(grey, 40) - 0.5)).max() > 1e-3


def test_every_method_gets_the_same_noise():
    image = np.full((3, 20, 20), 0.5, np.float32)
    measure = Road(MeasureSettings(road_percentages=(80,)))
    rng = np.random.default_rng(5)
    one, other = (copies(measure, image, rng.random((20, 20)).astype(np.float32)) for _ in range(2))
    both = (one[0] != 0.5) & (other[0] != 0.5)
    assert both.mean() > 0.5
    np.testing.assert_allclose(one[0][both], other[0][both], atol=1e-3)


def test_reading_by_hand():
    measure = Road(MeasureSettings(road_percentages=(20, 40)))
    after = np.array([0.5, 0.75, 0.0, 0.25], np.float32)  # MoRF and LeRF by turns
    assert measure.read(0.9, after).values == {"road_morf": 25.0, "road_lerf": 50.0, "road": 25.0}
    assert measure.read(0.9, after).curve is None
    assert [one.name for one in measure.columns] == ["road_morf", "road_lerf", "road"]
    assert [one.better for one in measure.columns] == ["lower", "higher", "higher"]
    assert [one.low for one in measure.columns] == [0, 0, -100]
    assert [one.high for one in measure.columns] == [100, 100, 100]
    assert measure.settings == {"removed_percent": "20,40", "noise": 0.01, "seed": 0}


def test_constant_probability():
    found = values(Road(MeasureSettings()), lambda _: 0.25, photo(), photo()[0])
    assert found == {"road_morf": 25.0, "road_lerf": 25.0, "road": 0.0}


def test_perfect_map_beats_its_inverse():
    image = photo(32, 32)
    saliency = np.zeros((32, 32), np.float32)
    saliency[8:16, 4:20] = 1

    def judge(one):
        return float(1 - np.abs(one - image)[:, 8:16, 4:20].mean())

    measure = Road(MeasureSettings())
    right = values(measure, judge, image, saliency)
    wrong = values(measure, judge, image, 1 - saliency)
    assert right["road_morf"] < wrong["road_morf"] - 3
    assert right["road_lerf"] > wrong["road_lerf"] + 3
    assert right["road"] > 3 > -3 > wrong["road"]


def test_only_the_order_of_pixels_counts():
    level = np.random.default_rng(2).integers(0, 30, (16, 20))
    measure = Road(MeasureSettings())
    plain = copies(measure, photo(), (level / 29).astype(np.float32))
    bent = copies(measure, photo(), np.exp(level / 10).astype(np.float32) - 7)
    np.testing.assert_array_equal(plain, bent)
    assert not any(column.contrast_moves for column in measure.columns)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"road_percentages": ()}, "needs percentages"),
        ({"road_percentages": (20, 20)}, "each once"),
        ({"road_percentages": (0, 20)}, "1 to 99"),
        ({"road_percentages": (100,)}, "1 to 99"),
        ({"seed": -1}, "0 or more, got -1"),
    ],
)
def test_settings_that_make_no_sense(settings, said):
    with pytest.raises(InvalidInputError, match=said):
        Road(MeasureSettings(**settings))


def test_map_of_another_size():
    with pytest.raises(InvalidInputError, match="resize the map"):
        next(Road(MeasureSettings()).variants(photo(), photo()[0].T))
