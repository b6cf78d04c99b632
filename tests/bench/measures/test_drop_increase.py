import numpy as np
import pytest

from bench.measures.drop_increase import DropIncrease

pytestmark = pytest.mark.unit


def copies(form, image, saliency):
    return [one.copy() for one in DropIncrease(form).variants(image, saliency)]


@pytest.fixture
def image():
    return np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)


@pytest.fixture
def saliency():
    return np.random.default_rng(1).permutation(20).reshape(4, 5).astype(np.float32) / 38


def test_published_by_hand(image, saliency):
    found = copies("published", image, saliency)
    for one, kept in zip(found, (20, 10, 3), strict=True):
        chosen = saliency * 38 >= 20 - kept
        np.testing.assert_allclose(one, image * np.where(chosen, saliency, 0), rtol=1e-6)


def test_matched_by_hand(image, saliency):
    whole, half, little = copies("matched", image, saliency)
    np.testing.assert_allclose(whole, image * (saliency * 2), rtol=1e-5)  # ranks over 19
    np.testing.assert_array_equal(half, image * (saliency * 38 >= 10))
    np.testing.assert_array_equal(little, image * (saliency * 38 >= 17))


def test_only_the_matched_form_ignores_contrast(image):
    level = np.random.default_rng(2).integers(0, 7, (4, 5))
    plain, bent = (level / 6).astype(np.float32), np.exp(level / 3).astype(np.float32) / 10
    np.testing.assert_array_equal(copies("matched", image, plain), copies("matched", image, bent))
    assert not np.array_equal(copies("published", image, plain), copies("published", image, bent))
    assert all(one.contrast_moves for one in DropIncrease("published").columns)
    assert not any(one.contrast_moves for one in DropIncrease("matched").columns)


def test_reading_by_hand():
    after = np.array([0.125, 0.75, 0.5], np.float32)  # less, more, and neither
    assert DropIncrease("matched").read(0.5, after).values == {
        "ad100_matched": 75.0,
        "ic100_matched": 0.0,
        "ad50_matched": 0.0,
        "ic50_matched": 100.0,
        "ad15_matched": 0.0,
        "ic15_matched": 0.0,
    }


def test_columns_say_which_way_is_better():
    measure = DropIncrease("published")
    better = {column.name: column.better for column in measure.columns}
    assert better["ad15_published"] == "lower"
    assert better["ic15_published"] == "higher"
    assert len(better) == 6
    assert measure.fractions is None
    assert measure.settings == {"kept_percent": "100,50,15"}


def test_labels_tell_the_forms_apart():
    labels = [one.label for form in ("published", "matched") for one in DropIncrease(form).columns]
    assert len(set(labels)) == 12
    assert labels[0] == "AD 100 % (published)"


def test_perfect_map_beats_its_inverse():
    image = np.ones((3, 20, 20), np.float32)
    saliency = np.zeros((20, 20), np.float32)
    saliency[5:15, 5:10] = 1

    def drops(form, one):
        measure = DropIncrease(form)
        after = [copy[:, 5:15, 5:10].mean() for copy in measure.variants(image, one)]
        return measure.read(1.0, np.array(after, np.float32)).values

    for form in ("published", "matched"):
        right, wrong = drops(form, saliency), drops(form, 1 - saliency)
        assert right[f"ad50_{form}"] < wrong[f"ad50_{form}"] - 10
