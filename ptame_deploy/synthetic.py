"""Images that no camera took, for checks and benches that need none from a user."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CELLS = (64, 16, 4)  # pixels; structure at several scales makes classes and maps vary
_CONTRAST = 2.5  # brings back what averaging over the scales takes


def synthetic_images(
    count: int, height: int, width: int, *, uint8: bool = False, seed: int = 0
) -> NDArray[Any]:
    """Make images of random blocks.

    Args:
        count: number of images B.
        height: pixels.
        width: pixels.
        uint8: uint8 (B, H, W, 3) instead of float32 (B, 3, H, W) in [0, 1].
        seed: the same images for the same seed, whatever the count.
    """
    images = np.stack([_image(height, width, (seed, number)) for number in range(count)])
    if uint8:
        return np.rint(images.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    return images


def _image(height: int, width: int, seed: tuple[int, int]) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    image: NDArray[Any] = np.zeros((3, height, width))
    for cell in _CELLS:
        rows, columns = -(-height // cell), -(-width // cell)
        blocks = generator.random((3, rows, columns)).repeat(cell, 1).repeat(cell, 2)
        image += blocks[:, :height, :width]
    return ((image / len(_CELLS) - 0.5) * _CONTRAST + 0.5).clip(0, 1).astype(np.float32)
