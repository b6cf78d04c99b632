"""Two maps that know nothing of the photo: what does not beat them explains nothing."""

import numpy as np
from numpy.typing import NDArray

SIGMA = 0.25  # of the image's side; the ranking of pixels does not depend on it
CELLS = 7  # as coarse as a ResNet's class activation map


def centred_gaussian(height: int, width: int) -> NDArray[np.float32]:
    """Return (height, width): a bell over the centre, where photographers put what they see."""
    rows = (np.arange(height) + 0.5) / height - 0.5
    columns = (np.arange(width) + 0.5) / width - 0.5
    return np.exp(-(rows[:, None] ** 2 + columns**2) / (2 * SIGMA**2)).astype(np.float32)


def random_map(generator: np.random.Generator) -> NDArray[np.float32]:
    """Return (7, 7): noise; resized, it is as smooth as a class activation map."""
    return generator.random((CELLS, CELLS)).astype(np.float32)
