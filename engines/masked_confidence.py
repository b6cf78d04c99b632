"""How sure the classifier stays where only a map's best part is left, and where that is hidden.

What a reader can check a map by: of a good one, a small part of the photo keeps the class, and the
photo without that part loses it.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.faithfulness import masks
from ptame_deploy.heads import probabilities

if TYPE_CHECKING:
    from engines.explainer import Explainer
    from engines.explanation import Explanation


def masked_confidence(
    explainer: "Explainer",
    prepared: NDArray[np.uint8],
    explanation: "Explanation",
    percent: int,
) -> NDArray[np.float32]:
    """Ask the classifier again, with pixels made black as in training.

    Args:
        explainer: the graph; it is run twice more for each class.
        prepared: (B, H, W, 3), the photos as they were explained.
        explanation: of them.
        percent: of the pixels, those with the highest values of a class's map.

    Returns:
        (B, K, 2): each class's probability where only those pixels are left, and where they are
        hidden.
    """
    asked = explanation.class_index if explainer.manifest.takes_classes else None
    head = explainer.manifest.classifier.head
    photos, classes = explanation.class_index.shape
    found = np.empty((photos, classes, 2), np.float32)
    for rank in range(classes):
        kept = masks(
            explanation.saliency[:, rank], prepared.shape[1:3], percent, matched=True
        ).astype(np.uint8)[..., None]
        index = explanation.class_index[:, rank]
        for side, mask in enumerate((kept, 1 - kept)):
            logits = explainer.explain_prepared(prepared * mask, asked).logits
            found[:, rank, side] = probabilities(logits, head)[np.arange(photos), index]
    return found
