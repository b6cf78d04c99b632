"""From a decoded photo to a classifier's input, and back to the photo's own coordinates.

The same few numbers are written into every artifact, so that serving prepares an image exactly
as the classifier's authors did. Normalisation itself happens inside the exported graph.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ptame_deploy.errors import InvalidInputError

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Size = Annotated[int, Field(ge=1, le=16_384)]

MAX_RESIZED_PIXELS = 100_000_000
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
USUAL_CROP = 0.875  # of the resized photo's shorter side


class Preprocessing(BaseModel):
    """How a photo becomes a classifier's input: resize, centre crop, normalise.

    Sizes are pixels, height before width. ``mean`` and ``std`` apply to RGB in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input_size: tuple[Size, Size] = (224, 224)
    resize: Size = 256  # the shorter side's length before the crop
    squash: bool = False  # resize both sides to `resize`, whatever the photo's shape
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @model_validator(mode="after")
    def _check(self) -> "Preprocessing":
        if min(self.std) <= 0:
            message = f"std must be positive, got {self.std}"
            raise ValueError(message)
        return self

    @classmethod
    def usual(cls, size: tuple[int, int]) -> "Preprocessing":
        """Return what ImageNet's classifiers of a size are used to."""
        return cls(input_size=size, resize=round(min(size) / USUAL_CROP))

    def at(self, size: tuple[int, int]) -> "Preprocessing":
        """Return the same for another input size: as much of the photo is seen as before."""
        scale = min(size) / min(self.input_size)
        return self.model_copy(update={"input_size": size, "resize": round(self.resize * scale)})

    def not_normalised(self) -> "Preprocessing":
        """Return the same for a classifier that takes [0, 1]."""
        return self.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})

    def __str__(self) -> str:
        height, width = self.input_size
        kind = "both sides" if self.squash else "shorter side"
        return (
            f"photos: {kind} to {self.resize} ({self.interpolation}), "
            f"centre crop {height}x{width}, mean {_listed(self.mean)}, std {_listed(self.std)}"
        )

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) that a photo of this size is resized to before the crop.

        Raises:
            InvalidInputError: so long and narrow that the resized photo would fill the memory.
        """
        if self.squash:
            return self.resize, self.resize
        # The longer side is truncated, as torchvision does.
        longer = int(self.resize * max(width, height) / min(width, height))
        if longer * self.resize > MAX_RESIZED_PIXELS:
            message = f"a photo of {width}x{height} is too long and narrow to be resized"
            raise InvalidInputError(message)
        return (self.resize, longer) if width <= height else (longer, self.resize)

    def crop_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of the photo that the classifier sees.

        Args:
            width: the photo's width in pixels.
            height: the photo's height in pixels.

        Returns:
            left, top, right, bottom in the photo's own pixels. Where the crop is larger than the
            resized photo, the box reaches over the photo's border.
        """
        resized_width, resized_height = self.resized_size(width, height)
        left, top = self._crop_offset(resized_width, resized_height)
        crop_height, crop_width = self.input_size
        x_scale, y_scale = width / resized_width, height / resized_height
        return (
            left * x_scale,
            top * y_scale,
            (left + crop_width) * x_scale,
            (top + crop_height) * y_scale,
        )

    def apply(self, photo: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop a photo.

        Args:
            photo: an RGB image of any size.

        Returns:
            uint8 array (H, W, 3), RGB, of ``input_size``.
        """
        resized = photo.resize(
            self.resized_size(*photo.size), Image.Resampling[self.interpolation.upper()]
        )
        left, top = self._crop_offset(*resized.size)
        height, width = self.input_size
        # Pillow fills what lies outside the image with black, as torchvision's crop does.
        return np.asarray(resized.crop((left, top, left + width, top + height)), dtype=np.uint8)

    def _crop_offset(self, width: int, height: int) -> tuple[int, int]:
        crop_height, crop_width = self.input_size
        return round((width - crop_width) / 2), round((height - crop_height) / 2)


def _listed(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def to_float(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn uint8 images (B, H, W, 3) into the graph's float input (B, 3, H, W) in [0, 1]."""
    scaled = images.transpose(0, 3, 1, 2).astype(np.float32)
    scaled /= 255.0
    return np.ascontiguousarray(scaled)
