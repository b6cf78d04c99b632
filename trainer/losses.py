"""The three terms of P-TAME's loss.

Ntrougkas, Mezaris, Patras, "P-TAME: Explain Any Image Classifier with Trained Perturbations",
IEEE OJSP 2025. For a batch of B images, M are the B x B maps after the sigmoid: for each image the
maps of all classes that were predicted in the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.loss_weights import LossWeights

# Keeps the area term's slope finite where a mask is 0: the derivative of x^p is infinite there.
AREA_OFFSET = 5e-4


@dataclass(frozen=True)
class LossTerms:
    """The loss of one batch; scalars. The terms are as defined, before their weights."""

    total: Tensor
    cross_entropy: Tensor
    area: Tensor
    variation: Tensor

    def scaled(self, factor: float) -> "LossTerms":
        """Return all terms times a factor."""
        return LossTerms(*(factor * term for term in vars(self).values()))

    def stacked(self) -> Tensor:
        """Return the terms as one tensor (4,) without gradient, in the order of the fields."""
        return torch.stack([term.detach() for term in vars(self).values()])

    def as_floats(self) -> dict[str, float]:
        """Return the terms by name, as Python numbers."""
        return {
            "loss": self.total.item(),
            "cross_entropy": self.cross_entropy.item(),
            "area": self.area.item(),
            "variation": self.variation.item(),
        }


def area_term(masks: Tensor, power: float) -> Tensor:
    """Return how much the masks leave visible: ``mean((M + 5e-4)^p)``.

    Args:
        masks: any shape, values in [0, 1].
        power: p.
    """
    return (masks + AREA_OFFSET).pow(power).mean()


def variation_term(masks: Tensor, border_weight: float) -> Tensor:
    """Return how rough the masks are.

    ``(sum of squared differences of neighbours + b * sum of squared border values) / (2 B)``.
    Neighbours are horizontal and vertical; each value on the border counts once, corners too.

    Args:
        masks: (B, K, h, w) in [0, 1].
        border_weight: b.
    """
    vertical = (masks[..., 1:, :] - masks[..., :-1, :]).square().sum()
    horizontal = (masks[..., :, 1:] - masks[..., :, :-1]).square().sum()
    inside = masks[..., 1:-1, 1:-1]
    border = masks.square().sum() - inside.square().sum()
    return (vertical + horizontal + border_weight * border) / (2 * masks.shape[0])


def loss_terms(cross_entropy: Tensor, masks: Tensor, weights: LossWeights) -> LossTerms:
    """Compute the loss and its terms.

    Args:
        cross_entropy: scalar, of the classifier's answers to the masked images against its own
            answers to the whole ones.
        masks: (B, B, h, w) in [0, 1].
        weights: how the terms are added up.
    """
    area = area_term(masks, weights.area_power)
    variation = variation_term(masks, weights.border_weight)
    total = (
        weights.cross_entropy * cross_entropy + weights.area * area + weights.variation * variation
    )
    return LossTerms(total, cross_entropy, area, variation)
