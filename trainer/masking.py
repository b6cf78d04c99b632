"""Hiding what a mask leaves out: removed pixels become black."""

from torch import Tensor
from torch.nn import functional


def apply_mask(image: Tensor, mask: Tensor) -> Tensor:
    """Multiply a mask into an image.

    The mask acts on the image in [0, 1], so that 0 is black; the result is normalised afterwards,
    like any image.

    Args:
        image: (B, 3, H, W) RGB in [0, 1].
        mask: (B, 1, h, w) in [0, 1]; resized bilinearly to H x W.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    resized = functional.interpolate(
        mask, size=image.shape[-2:], mode="bilinear", align_corners=False
    )
    return image * resized
