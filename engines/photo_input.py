"""The forms in which photos are given to an explainer."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import open_photo, to_rgb

_RGB_CHANNELS = 3
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


def decoded(photo: Photo) -> Image.Image:
    """Return a photo in whichever form as its file would be read: upright, RGB.

    Raises:
        InvalidInputError: not a photo, or one that cannot be decoded.
    """
    if isinstance(photo, str | Path):
        return open_photo(Path(photo))
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != _RGB_CHANNELS:
            message = f"An array must be uint8 RGB (H, W, 3), got {photo.dtype} {photo.shape}."
            raise InvalidInputError(message)
        return Image.fromarray(photo)
    if not isinstance(photo, Image.Image):
        message = f"A photo must be a path, a Pillow image or an array, got {type(photo).__name__}."
        raise InvalidInputError(message)
    try:
        return to_rgb(photo)
    except (OSError, ValueError) as error:
        message = f"The image cannot be decoded: {error}"
        raise InvalidInputError(message) from error


def _rows(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    if images.ndim != 4 or len(images) == 0:
        message = f"An array of photos must be (B, H, W, 3) with B >= 1, got {images.shape}."
        raise InvalidInputError(message)
    yield from images
