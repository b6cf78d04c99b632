"""Average drop and increase in confidence as a `Measure`, in both forms."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.measures.measure import Column, Image, Map, Reading
from ptame_deploy.faithfulness import PERCENTAGES, drop_and_increase, masks

Form = Literal["published", "matched"]
_SOURCE = "Chattopadhay et al., Grad-CAM++, WACV 2018, section 4.1"


class DropIncrease:
    """What hiding all but the map's part costs: AD (lower is better) and IC (higher is better).

    ``published`` multiplies the photo with the map's soft values, so that contrast alone moves it.
    ``matched`` replaces every map by its pixels' ranks first, and keeps pixels whole below 100 %.
    What is hidden becomes black, as in training.
    """

    fractions = None

    def __init__(self, form: Form) -> None:
        """Choose the form."""
        self.form = form

    @property
    def name(self) -> str:
        """``drop-published`` or ``drop-matched``."""
        return f"drop-{self.form}"

    @property
    def columns(self) -> tuple[Column, ...]:
        """AD and IC in percent at each percentage of kept pixels."""
        moves = self.form == "published"
        return tuple(
            Column(
                name=f"{short}{percent}_{self.form}",
                label=f"{short.upper()} {percent} % ({self.form})",
                better=better,
                contrast_moves=moves,
                source=_SOURCE,
            )
            for percent in PERCENTAGES
            for short, better in _DIRECTIONS
        )

    @property
    def settings(self) -> dict[str, float | str]:
        """The percentages of kept pixels."""
        return {"kept_percent": ",".join(map(str, PERCENTAGES))}

    def variants(self, image: Image, saliency: Map) -> Iterator[Image]:
        """Hide what the map leaves out; see `Measure.variants`."""
        for percent in PERCENTAGES:
            kept = masks(saliency[None], saliency.shape, percent, matched=self.form == "matched")
            yield image * kept

    def read(self, before: float, after: NDArray[np.float32]) -> Reading:
        """Return drop and increase of this photo in percent; an increase is 0 or 100."""
        values: dict[str, float] = {}
        for percent, probability in zip(PERCENTAGES, after, strict=True):
            found = drop_and_increase(np.array([before]), np.array([probability]))
            values[f"ad{percent}_{self.form}"] = found.average_drop
            values[f"ic{percent}_{self.form}"] = found.increase
        return Reading(values)


_DIRECTIONS: tuple[tuple[str, Literal["higher", "lower"]], ...] = (
    ("ad", "lower"),
    ("ic", "higher"),
)
