"""Photos as a graph takes them, split into those to tune on and those to judge by."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import UnreadablePhotoError, open_photo
from ptame_deploy.preprocessing import to_float

HELD_OUT = 4  # every fourth photo is for the report


@dataclass(frozen=True)
class PhotoSet:
    """Photos that were prepared as the classifier expects them.

    Attributes:
        pixels: (N, H, W, 3) uint8.
        skipped: those that could not be read, with the reason.
    """

    pixels: NDArray[np.uint8]
    skipped: list[str]

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, part: slice, manifest: GraphManifest) -> NDArray[np.generic]:
        """Return some of the photos as the graph's ``image`` input."""
        return self.pixels[part] if manifest.takes_uint8 else to_float(self.pixels[part])


def read_photos(paths: Sequence[Path], manifest: GraphManifest, *, most: int) -> PhotoSet:
    """Decode, resize and crop photos.

    Args:
        paths: files; where there are more than ``most``, they are taken evenly spaced.
        manifest: says how the classifier wants them.
        most: photos to read.

    Raises:
        InvalidInputError: none of them can be read.
    """
    if len(paths) > most:
        chosen = np.linspace(0, len(paths) - 1, most).round().astype(int)
        paths = [paths[position] for position in chosen]
    pixels, skipped = [], []
    for path in paths:
        try:
            pixels.append(manifest.preprocessing.apply(open_photo(path)))
        except InvalidInputError as error:
            text = str(error)
            skipped.append(text if isinstance(error, UnreadablePhotoError) else f"{path}: {text}")
    if not pixels:
        listed = "".join(f"\n  - {reason}" for reason in skipped[:5])
        message = f"None of {len(paths)} photos could be read.{listed}"
        raise InvalidInputError(message)
    return PhotoSet(np.stack(pixels), skipped)


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Split photos into those to calibrate and search on, and every fourth to judge by.

    Raises:
        InvalidInputError: too few to split.
    """
    judged = list(paths[HELD_OUT - 1 :: HELD_OUT])
    tuned = [path for position, path in enumerate(paths) if position % HELD_OUT != HELD_OUT - 1]
    if not judged:
        message = (
            f"{len(paths)} photos are too few to calibrate on some and judge by others: give at "
            f"least {HELD_OUT}, or --calibration with a folder of its own."
        )
        raise InvalidInputError(message)
    return tuned, judged


def without(judged: PhotoSet, tuned: PhotoSet) -> PhotoSet:
    """Leave out photos that were tuned on, whatever their file names: they would flatter.

    Raises:
        InvalidInputError: none is left.
    """
    known = {_digest(photo) for photo in tuned.pixels}
    fresh = np.array([_digest(photo) not in known for photo in judged.pixels])
    if not fresh.any():
        message = "All photos to judge by are among those to calibrate on. Give different photos."
        raise InvalidInputError(message)
    return PhotoSet(judged.pixels[fresh], judged.skipped)


def _digest(photo: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(photo).data).digest()
