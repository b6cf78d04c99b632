import numpy as np
import pytest

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.faithfulness import drop_and_increase, masks, ranks

pytestmark = pytest.mark.unit


def test_drop_and_increase_by_hand():
    before = np.array([0.8, 0.5, 0.4, 0.2, 0.1], np.float32)
    after = np.array([0.4, 0.6, 0.4, 0.0, 0.3], np.float32)
    found = drop_and_increase(before, after)
    assert found.average_drop == pytest.approx(100 * (0.5 + 0 + 0 + 1 + 0) / 5)
    assert found.increase == pytest.approx(40)
    with pytest.raises(InvalidInputError, match="at least one"):
        drop_and_increase(before[:0], after[:0])


def test_published_masks_keep_soft_values_above_the_quantile():
    saliency = np.linspace(0, 1, 20, dtype=np.float32).reshape(1, 4, 5)
    whole = masks(saliency, (4, 5), 100, matched=False)
    np.testing.assert_array_equal(whole, saliency)
    half = masks(saliency, (4, 5), 50, matched=False)
    assert (half > 0).sum() == 10
    np.testing.assert_array_equal(half[half > 0], saliency.reshape(-1)[10:])
    assert (masks(saliency, (4, 5), 15, matched=False) > 0).sum() == 3


def test_published_masks_keep_nothing_of_ties_at_the_quantile():
    saliency = np.array([[[0, 1, 1, 1]]], np.float32)
    assert masks(saliency, (1, 4), 50, matched=False).sum() == 0


def test_contrast_moves_the_published_form_alone():
    rng = np.random.default_rng(0)
    saliency = rng.random((2, 7, 7), dtype=np.float32)
    for percent in (100, 50, 15):
        plain = masks(saliency, (7, 7), percent, matched=True)
        brighter = masks(saliency**0.35, (7, 7), percent, matched=True)
        np.testing.assert_array_equal(plain, brighter)
        published = masks(saliency, (7, 7), percent, matched=False)
        assert masks(saliency**0.35, (7, 7), percent, matched=False).sum() > published.sum()


def test_matched_masks_keep_whole_pixels_and_ties_break_by_position():
    flat = np.zeros((1, 4, 5), np.float32)
    half = masks(flat, (4, 5), 50, matched=True)
    assert set(np.unique(half)) == {0, 1}
    assert half.reshape(-1)[10:].sum() == 10
    np.testing.assert_allclose(ranks(flat).reshape(-1), np.linspace(0, 1, 20), atol=1e-6)


def test_maps_are_resized_bilinearly_as_torch_does():
    torch = pytest.importorskip("torch")
    saliency = np.random.default_rng(1).random((2, 7, 5), dtype=np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(saliency)[:, None], size=(40, 30), mode="bilinear", align_corners=False
    )[:, 0].numpy()
    np.testing.assert_allclose(masks(saliency, (40, 30), 100, matched=False), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(3, 17), (100, 100)])
@pytest.mark.parametrize("percent", [1, 15, 50, 99])
def test_the_kept_pixels_are_the_largest_whatever_their_order(size, percent):
    count = size[0] * size[1]
    saliency = np.random.default_rng(5).permutation(count).astype(np.float32).reshape(1, *size)
    largest = saliency >= count - round(count * percent / 100)
    for matched in (True, False):
        kept = masks(saliency / count, size, percent, matched=matched) > 0
        np.testing.assert_array_equal(kept, largest)


@pytest.mark.parametrize("percent", [0, 101])
def test_percentages_that_cannot_be(percent):
    with pytest.raises(InvalidInputError, match="1 to 100"):
        masks(np.zeros((1, 2, 2), np.float32), (2, 2), percent, matched=True)
