"""What a graph says of photos: classes, probabilities and maps."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Explanation:
    """What the graph says of a batch of B photos, for K classes each.

    Attributes:
        class_index: (B, K) int64, best first (or as asked).
        probability: (B, K) float32, of each class by the classifier's head.
        saliency: (B, K, h, w) float32 in [0, 1]; each map's own smallest value is 0, its largest 1.
        logits: (B, classes) float32.
        class_names: a name for each class, or None.
        against: (B, K) int64, the classes that those are held against; None where the maps are of
            the classes alone.
    """

    class_index: NDArray[np.int64]
    probability: NDArray[np.float32]
    saliency: NDArray[np.float32]
    logits: NDArray[np.float32]
    class_names: list[str] | None
    against: NDArray[np.int64] | None = None
    _draw: Callable[["Explanation"], str] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        """Return B."""
        return len(self.class_index)

    def label(self, photo: int, rank: int = 0) -> str:
        """Return the name of a photo's class of that rank, or ``class N`` where there is none."""
        return self._name(self.class_index[photo, rank])

    def heading(self, photo: int, rank: int = 0) -> str:
        """Return name and probability, as they stand over a map; of a contrast, both names."""
        rival = self.rival(photo, rank)
        label = self.label(photo, rank) + ("" if rival is None else f", not {rival}")
        return f"{label}  {self.probability[photo, rank]:.1%}"

    def rival(self, photo: int, rank: int = 0) -> str | None:
        """Return the name of what a photo's class of that rank is held against, or None."""
        return None if self.against is None else self._name(self.against[photo, rank])

    def _repr_html_(self) -> str | None:
        """Show photos and maps in a notebook."""
        return None if self._draw is None else self._draw(self)

    def _name(self, class_index: np.int64) -> str:
        if self.class_names is None:
            return f"class {class_index}"
        return self.class_names[class_index]
