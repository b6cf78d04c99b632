"""The forms in which photos are given to an explainer."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import to_rgb

Photo = str | Path | Image.Image | NDArray[np.uint8]


def as_list(images: Photo | Sequence[Photo] | NDArray[np.uint8]) -> list[Photo]:
    """Return one photo or several, in whichever form, as a list.

    Raises:
        InvalidInputError: none, or an array that is not (H, W, 3) or (B, H, W, 3).
    """
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        return [images] if images.ndim == 3 else list(_rows(images))
    photos = list(images)
    if not photos:
        message = "No photos were given."
        raise InvalidInputError(message)
    return photos


def decoded(image: Image.Image) -> Image.Image:
    """Return an opened image as its file would be read: upright, RGB.

    Raises:
        InvalidInputError: it cannot be decoded.
    """
    try:
        return to_rgb(image)
    except (OSError, ValueError) as error:
        message = f"The image cannot be decoded: {error}"
        raise InvalidInputError(message) from error


def _rows(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    if images.ndim != 4 or len(images) == 0:
        message = f"An array of photos must be (B, H, W, 3) with B >= 1, got {images.shape}."
        raise InvalidInputError(message)
    yield from images
