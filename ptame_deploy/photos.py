"""Finding and decoding photos: whatever cameras, editors and the web produce, as 8-bit RGB."""

import io
import os
import stat
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ptame_deploy.errors import InvalidInputError

EXTENSIONS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".jp2",
        ".avif",
    ]
)
# Pillow's names of these, for what strangers send: some of the others run programs (EPS), and all
# of them have seen fewer eyes.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
# Pillow's own limit for a decompression bomb: 89 million pixels are 256 MiB of RGB.
MAX_PIXELS = 89_478_485
_ROWS = 256  # that are scaled at once


class UnreadablePhotoError(InvalidInputError):
    """A file that cannot be decoded as an image."""


class TooManyPixelsError(UnreadablePhotoError):
    """An image that would fill the memory."""


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """List the photos that files and folders name.

    A file is taken whatever its ending; folders are searched recursively for image endings, in
    sorted order. A photo named twice is listed once.

    Raises:
        InvalidInputError: a path does not exist, or no photo was found.
    """
    paths = list(paths)
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS)
            found.update(dict.fromkeys(p for p in inside if not p.is_dir()))
        elif path.exists():
            found[path] = None
        else:
            message = f"{path} does not exist."
            raise InvalidInputError(message)
    if not found:
        names = ", ".join(str(path) for path in paths)
        message = f"No photo found in {names}. Endings looked for: {' '.join(sorted(EXTENSIONS))}"
        raise InvalidInputError(message)
    return list(found)


def printable(path: Path | str) -> str:
    """Return a file name as text that can be printed and stored, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def open_photo(path: Path) -> Image.Image:
    """Decode a photo as 8-bit RGB, upright.

    EXIF orientation is applied, transparency is laid on white, 16-bit values are scaled to 8, of
    an animation the first frame is taken.

    Raises:
        UnreadablePhotoError: not an image, truncated, over ``MAX_PIXELS``, or of a kind that has
            no defined conversion to RGB.
    """
    name = printable(path)

    def opened() -> BinaryIO:
        # Pipes and devices are refused: opening one could block for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            message = f"{name}: not a regular file"
            raise UnreadablePhotoError(message)
        return path.open("rb")

    return decode_photo(opened, name)


def decode_photo(
    opened: Callable[[], BinaryIO],
    name: str,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
) -> Image.Image:
    """Decode a photo wherever its bytes are; see `open_photo`.

    Args:
        opened: opens them; what it raises is a reason not to read the photo.
        name: for messages.
        max_pixels: of the photo; ``MAX_PIXELS`` holds beside it.
        formats: that are taken, by Pillow's names; None for all that it reads.

    Raises:
        TooManyPixelsError: over the limit.
        UnreadablePhotoError: see `open_photo`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs are refused below, odd metadata is no matter
            with opened() as file, Image.open(file, formats=formats) as image:
                _refuse_bomb(name, image, min(max_pixels, MAX_PIXELS))
                image.seek(0)
                image.load()
                return to_rgb(image)
    except UnreadablePhotoError:
        raise
    except Image.DecompressionBombError as error:
        message = f"{name}: over the limit of {MAX_PIXELS:,} pixels"
        raise TooManyPixelsError(message) from error
    except UnidentifiedImageError as error:
        message = f"{name}: not an image, or of a format that Pillow cannot read"
        raise UnreadablePhotoError(message) from error
    except FileNotFoundError as error:
        message = f"{name}: does not exist"
        raise UnreadablePhotoError(message) from error
    except Exception as error:  # decoders fed with foreign bytes raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"{name}: cannot be decoded ({reason})"
        raise UnreadablePhotoError(message) from error


def count_pixels(content: bytes) -> int:
    """Return how many pixels an image's header tells of; 0 where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return image.width * image.height
    except Exception:  # noqa: BLE001 - as above; whoever decodes it says what is wrong
        return 0


def _refuse_bomb(name: str, image: Image.Image, limit: int) -> None:
    pixels = image.width * image.height
    if pixels > limit:
        size = f"{image.width}x{image.height}"
        message = f"{name}: {size} is over the limit of {limit:,} pixels"
        raise TooManyPixelsError(message)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a photo with broken EXIF is still a photo
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Bring a decoded image into 8-bit RGB, upright; see `open_photo`.

    Raises:
        ValueError: its pixel values have no defined brightness.
    """
    image = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(image)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> np.ndarray:
    """Scale a 16-bit, 32-bit or float greyscale image to 8 bit by its type's nominal range."""
    values = np.asarray(image)
    top = 1.0 if image.mode == "F" and values.max(initial=0) <= 1 else 65_535.0
    if image.mode == "F" and top != 1.0 and values.max(initial=0) <= 255:
        top = 255.0
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=0) > top:
        message = f"pixel values outside [0, {top:g}] have no defined brightness"
        raise ValueError(message)
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS):  # as a whole, it would take 16 bytes a pixel
        rows = values[start : start + _ROWS].astype(np.float64)
        scaled[start : start + _ROWS] = np.round(rows * (255.0 / top))
    return scaled
