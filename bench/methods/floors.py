"""Two floors: maps that know nothing of the photo. What does not beat them explains nothing."""

import numpy as np

from bench.evaluation.results import Cost
from bench.methods.method import Classes, Images, Maps, Method, photo_seed

GAUSSIAN, RANDOM = "gaussian", "random"
SIGMA = 0.25  # of the image's side; the ranking of pixels does not depend on it
CELLS = 7  # as coarse as a ResNet's class activation map


def centred_gaussian(images: Images, _class_index: Classes) -> Maps:
    """Return (B, H, W): the same bell over every photo's centre.

    Photographers put what they photograph in the centre: a method that does not beat this map
    explains nothing.
    """
    count, _, height, width = images.shape
    rows = (np.arange(height) + 0.5) / height - 0.5
    columns = (np.arange(width) + 0.5) / width - 0.5
    bell = np.exp(-(rows[:, None] ** 2 + columns**2) / (2 * SIGMA**2)).astype(np.float32)
    return np.broadcast_to(bell, (count, height, width))


def random_maps(images: Images, seed: int) -> Maps:
    """Return (B, 7, 7): noise, seeded by each photo; resized, it is as smooth as a CAM."""
    noise = [np.random.default_rng(photo_seed(seed, one)).random((CELLS, CELLS)) for one in images]
    return np.stack(noise).astype(np.float32)


def floors(seed: int) -> list[Method]:
    """Make both floors.

    Args:
        seed: of the random maps.
    """
    return [
        Method(
            name=GAUSSIAN, label="Centred Gaussian", family="floor", explain=centred_gaussian,
            cost=Cost(forward=0), runtime="NumPy", precision="-", settings={"sigma": SIGMA},
        ),
        Method(
            name=RANDOM, label="Random map", family="floor",
            explain=lambda images, _: random_maps(images, seed),
            cost=Cost(forward=0), runtime="NumPy", precision="-",
            settings={"cells": CELLS, "seed": seed},
        ),
    ]  # fmt: skip
