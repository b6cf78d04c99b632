"""The floors as methods; see `ptame_deploy.floor_maps`."""

import numpy as np

from bench.methods.cost import Cost
from bench.methods.method import Classes, Images, Maps, Method, photo_seed
from ptame_deploy.floor_maps import CELLS, SIGMA, centred_gaussian, random_map

GAUSSIAN, RANDOM = "gaussian", "random"


def gaussian_maps(images: Images, _class_index: Classes) -> Maps:
    """Return (B, H, W): the same bell over every photo's centre."""
    count, _, height, width = images.shape
    return np.broadcast_to(centred_gaussian(height, width), (count, height, width))


def random_maps(images: Images, seed: int) -> Maps:
    """Return (B, 7, 7): noise, seeded by each photo."""
    return np.stack([random_map(np.random.default_rng(photo_seed(seed, one))) for one in images])


def floors(seed: int) -> list[Method]:
    """Make both floors.

    Args:
        seed: of the random maps.
    """
    return [
        Method(
            name=GAUSSIAN, label="Centred Gaussian", family="floor", explain=gaussian_maps,
            cost=Cost(forward=0), runtime="NumPy", precision="-", settings={"sigma": SIGMA},
        ),
        Method(
            name=RANDOM, label="Random map", family="floor",
            explain=lambda images, _: random_maps(images, seed),
            cost=Cost(forward=0), runtime="NumPy", precision="-",
            settings={"cells": CELLS, "seed": seed},
        ),
    ]  # fmt: skip
