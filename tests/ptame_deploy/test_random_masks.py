import numpy as np
import pytest
import torch
from torch.nn import functional

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.random_masks import stream_masks, stretch

pytestmark = pytest.mark.unit


def all_masks(count, height, width, *, cells=7, keep=0.5, batch=8, seed=0):
    stream = stream_masks(count, height, width, cells=cells, keep=keep, batch=batch, seed=seed)
    return np.concatenate([masks.copy() for masks in stream])


def test_masks_do_not_depend_on_the_batch_but_on_the_seed():
    one = all_masks(21, 64, 50, batch=1)
    np.testing.assert_array_equal(one, all_masks(21, 64, 50, batch=8))
    np.testing.assert_array_equal(one[:9], all_masks(9, 64, 50))
    assert not np.array_equal(one, all_masks(21, 64, 50, seed=1))


def test_masks_are_what_the_paper_says():
    masks = all_masks(600, 70, 70, batch=50)
    assert masks.shape == (600, 70, 70)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert abs(masks.mean() - 0.5) < 0.02
    assert abs(all_masks(600, 70, 70, keep=0.2).mean() - 0.2) < 0.02


def test_cells_are_as_large_as_asked_for():
    """Neighbouring pixels differ by at most what one cell's slope allows."""
    for cells in (2, 5, 16):
        steepest = np.abs(np.diff(all_masks(50, 80, 80, cells=cells), axis=2)).max()
        side = (cells + 1) * np.ceil(80 / cells) / cells  # pixels of a stretched cell
        assert steepest == pytest.approx(1 / side, rel=0.05)


@pytest.mark.parametrize(("cells", "size"), [(7, 224), (3, 10), (1, 5), (4, 4)])
def test_stretching_is_bilinear(cells, size):
    values = torch.rand(1, 1, cells)
    expected = functional.interpolate(values, size=size, mode="linear", align_corners=False)
    found = torch.from_numpy(stretch(cells, size)) @ values[0, 0]
    torch.testing.assert_close(found, expected[0, 0])


@pytest.mark.parametrize(
    "wrong", [{"cells": 0}, {"keep": 0.0}, {"keep": 1.0}, {"batch": 0}, {"count": 0}]
)
def test_what_makes_no_mask_is_refused(wrong):
    with pytest.raises(InvalidInputError, match="at least 1 mask, 1 cell, a batch of 1"):
        all_masks(**{"count": 4, "height": 8, "width": 8, **wrong})
