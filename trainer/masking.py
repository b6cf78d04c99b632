"""Hiding what a mask leaves out, removed pixels become black; and asking the classifier again."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptame_deploy.heads import Head

# Keeps small gradients above half precision's least number; a power of 2 changes no digit.
_SCALE = 1024.0


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


def masked_cross_entropy(
    classifier: nn.Module, images: Tensor, masks: Tensor, target: Tensor, chunk: int
) -> Tensor:
    """Return the mean cross-entropy of a frozen classifier on masked images, a scalar.

    Of a classifier whose head is a sigmoid: that of the class alone, as if it were right.

    The classifier sees ``chunk`` images at once, and its activations are forgotten as soon as their
    gradient has reached the masks: memory is that of a chunk, not of the batch, and on a CPU a
    chunk that fits its caches is faster too. The result is exact, since images do not depend on
    each other.

    Args:
        classifier: frozen, in eval mode; images (b, 3, H, W) in [0, 1] to logits.
        images: (B, 3, H, W) RGB in [0, 1], B >= 1.
        masks: (B, 1, h, w) in [0, 1]; what the gradient goes to.
        target: (B,) int64.
        chunk: images at once.
    """
    loss: Tensor = _MaskedCrossEntropy.apply(masks, classifier, images, target, chunk)
    return loss


def _summed_cross_entropy(logits: Tensor, target: Tensor, head: Head) -> Tensor:
    if head == "sigmoid":
        return -functional.logsigmoid(logits.gather(1, target[:, None])).sum()
    return functional.cross_entropy(logits, target, reduction="sum")


class _MaskedCrossEntropy(torch.autograd.Function):
    """Computes the gradient together with the value, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        masks: Tensor,
        classifier: nn.Module,
        images: Tensor,
        target: Tensor,
        chunk: int,
    ) -> Tensor:
        losses, gradients = [], []
        parts = zip(images.split(chunk), masks.split(chunk), target.split(chunk), strict=True)
        for image, mask, index in parts:
            with torch.enable_grad():
                free = mask.detach().requires_grad_()
                logits = classifier(apply_mask(image, free)).float()
                loss = _summed_cross_entropy(logits, index, getattr(classifier, "head", "softmax"))
                scaled = _SCALE * loss
            gradients.append(torch.autograd.grad(scaled, free)[0] / _SCALE)
            losses.append(loss.detach())
        ctx.save_for_backward(torch.cat(gradients) / len(images))
        return torch.stack(losses).sum() / len(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (saved,) = ctx.saved_tensors
        return saved * gradient, None, None, None, None
