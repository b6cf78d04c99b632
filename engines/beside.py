"""Two graphs of one classifier side by side: a start and what became of it, two precisions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.explainer import Explainer
from engines.explanation import Explanation
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.rendering import Panel

Others = list[list[Panel | None]]  # by photo and rank


@dataclass(frozen=True)
class Beside:
    """Another graph of the same classifier, to be looked at beside the first.

    Attributes:
        explainer: the graph or the plan.
        name: heading of its maps.
    """

    explainer: Explainer
    name: str

    def check(self, first: Explainer) -> None:
        """See that both look at photos alike.

        Raises:
            InvalidInputError: they do not.
        """
        mine, other = self.explainer.manifest, first.manifest
        pairs = (
            ("photos are prepared", mine.preprocessing, other.preprocessing),
            ("classes are", mine.classifier.num_classes, other.classifier.num_classes),
        )
        for what, here, there in pairs:
            if here != there:
                message = (
                    f"{self.name} cannot stand beside {other.classifier.name}: its {what} "
                    f"{here}, the other's {there}. Give a graph of the same classifier."
                )
                raise InvalidInputError(message)

    def panels(self, prepared: NDArray[np.uint8], explanation: Explanation) -> Others:
        """Draw its maps of an explanation's classes, by photo and rank; None where it has none.

        Where one of the two graphs contrasts classes, each map says what it is held against.

        Args:
            prepared: (B, H, W, 3).
            explanation: the first graph's, of the same photos.
        """
        explainer = self.explainer
        given = explanation.class_index if explainer.manifest.takes_classes else None
        found: Others = []
        for start in range(0, len(prepared), explainer.batch_size):
            part = slice(start, start + explainer.batch_size)
            mine = explainer.explain_prepared(
                prepared[part], None if given is None else given[part]
            )
            for photo, wanted in enumerate(explanation.class_index[part]):
                known = {
                    int(index): Panel(self._title(explanation, mine, photo, rank), saliency)
                    for rank, (index, saliency) in enumerate(
                        zip(mine.class_index[photo], mine.saliency[photo], strict=True)
                    )
                }
                found.append([known.get(int(one)) for one in wanted])
        return found

    def _title(self, first: Explanation, mine: Explanation, photo: int, rank: int) -> str:
        rival = mine.rival(photo, rank)
        if rival is not None:
            return f"{self.name}: not {rival}"
        return self.name if first.against is None else f"{self.name}: the class alone"
