import math
import tracemalloc

import numpy as np
import pytest

from bench.methods.rise import Rise, RiseSettings
from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.unit


class Corner:
    """Two classes; the evidence of class 1 is the brightness of the top left corner."""

    description = "toy"
    passes = 0
    largest = 0

    def run(self, inputs):
        image = inputs["image"]
        if image.dtype == np.uint8:
            image = image.transpose(0, 3, 1, 2) / np.float32(255)
        self.passes += len(image)
        self.largest = max(self.largest, len(image))
        evidence = 6 * image[:, :, :16, :16].mean((1, 2, 3)) - 2
        return {"logits": np.stack([np.zeros_like(evidence), evidence], axis=1)}


def by_hand(classifier, image, index, settings):
    """RISE as the paper writes it: every mask held, made pixel by pixel, equation 6."""
    grid_seed, shift_seed = np.random.SeedSequence(settings.seed).spawn(2)
    height, width = image.shape[1:]
    cells = settings.cells
    cell = math.ceil(height / cells), math.ceil(width / cells)
    grids = np.random.default_rng(grid_seed).random((settings.masks, cells, cells)) < settings.keep
    shifts = np.random.default_rng(shift_seed).random((settings.masks, 2))

    def stretched(grid, y, x):
        value = 0.0
        size = (cells + 1) * cell[0], (cells + 1) * cell[1]
        place = [
            min(max((p + 0.5) * cells / s - 0.5, 0), cells - 1)
            for p, s in zip((y, x), size, strict=True)
        ]
        low = [int(p) for p in place]
        high = [min(p + 1, cells - 1) for p in low]
        part = [p - q for p, q in zip(place, low, strict=True)]
        for row, wy in ((low[0], 1 - part[0]), (high[0], part[0])):
            for column, wx in ((low[1], 1 - part[1]), (high[1], part[1])):
                value += wy * wx * grid[row, column]
        return value

    total = np.zeros((height, width))
    for grid, shift in zip(grids, shifts, strict=True):
        top, left = int(shift[0] * cell[0]), int(shift[1] * cell[1])
        mask = np.array(
            [[stretched(grid, top + y, left + x) for x in range(width)] for y in range(height)]
        )
        logits = classifier.run({"image": (image * mask)[None].astype(np.float32)})["logits"][0]
        scores = np.exp(logits) / np.exp(logits).sum()
        total += scores[index] * mask
    return total / (settings.masks * settings.keep)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 3, 36, 45)).astype(np.float32)


def test_equals_all_masks_held(images):
    settings = RiseSettings(masks=5, batch=2, seed=3)
    maps = Rise(Corner(), settings)(images, np.array([1, 0]))
    assert maps.shape == (2, 36, 45)
    assert maps.dtype == np.float32
    for image, index, found in zip(images, (1, 0), maps, strict=True):
        np.testing.assert_allclose(found, by_hand(Corner(), image, index, settings), atol=1e-5)


def test_same_seed_same_map_other_seed_another(images):
    index = np.array([1, 1])
    first = Rise(Corner(), RiseSettings(masks=40))(images, index)
    np.testing.assert_array_equal(first, Rise(Corner(), RiseSettings(masks=40))(images, index))
    other = Rise(Corner(), RiseSettings(masks=40, seed=1))(images, index)
    assert np.abs(first - other).max() > 1e-3


def test_finds_where_the_evidence_is():
    image = np.ones((1, 3, 64, 64), np.float32)
    rise = Rise(Corner(), RiseSettings(masks=600, batch=32))
    found = rise(image, np.array([1]))[0]
    other = rise(image, np.array([0]))[0]
    assert found[:16, :16].mean() > found[32:, 32:].mean() + 0.1
    assert other[:16, :16].mean() < other[32:, 32:].mean() - 0.1  # the other class, the contrary


def test_uint8_images_are_masked_as_they_are():
    rng = np.random.default_rng(0)
    uint8 = rng.integers(0, 256, (1, 36, 45, 3), dtype=np.uint8)
    as_float = uint8.transpose(0, 3, 1, 2).astype(np.float32) / 255
    settings = RiseSettings(masks=20)
    np.testing.assert_allclose(
        Rise(Corner(), settings)(uint8, np.array([1])),
        Rise(Corner(), settings)(as_float, np.array([1])),
        atol=1e-3,
    )


def test_counts_passes_and_never_exceeds_the_batch(images):
    classifier, done = Corner(), []
    rise = Rise(classifier, RiseSettings(masks=10, batch=4))
    rise(images, np.array([0, 1]), advance=done.append)
    assert rise.passes_per_image == 10
    assert classifier.passes == sum(done) == 20
    assert classifier.largest == 4


def test_memory_does_not_grow_with_the_number_of_masks():
    image = np.ones((1, 3, 64, 64), np.float32)

    def peak(masks):
        rise = Rise(Corner(), RiseSettings(masks=masks, batch=8))
        tracemalloc.start()
        rise(image, np.array([1]))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(16)
    assert peak(1600) < 1.1 * peak(16)


@pytest.mark.parametrize(
    "arguments", [{"masks": 0}, {"batch": 0}, {"cells": 0}, {"keep": 0.0}, {"keep": 1.0}]
)
def test_settings_that_make_no_sense(arguments):
    with pytest.raises(InvalidInputError, match="RISE needs"):
        RiseSettings(**arguments)


@pytest.mark.parametrize(
    ("shape", "index", "said"),
    [
        ((3, 36, 45), [0], "Images must be"),
        ((0, 3, 36, 45), [], "Images must be"),
        ((2, 3, 36, 45), [0], "One class for each"),
        ((1, 3, 36, 45), [0.5], "One class for each"),
        ((1, 3, 36, 45), [-1], "start at 0"),
        ((1, 3, 36, 45), [2], "classes 0 to 1"),
    ],
)
def test_inputs_that_do_not_fit(shape, index, said):
    rise = Rise(Corner(), RiseSettings(masks=2))
    with pytest.raises(InvalidInputError, match=said):
        rise(np.zeros(shape, np.float32), np.array(index))
