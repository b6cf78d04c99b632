"""Colour maps as tables, so that drawing needs no plotting library.

Inferno and viridis are matplotlib's (CC0): perceptually uniform, readable in greyscale and with
colour-vision deficiencies. Jet is there for those who must match old figures; it invents edges.
"""

from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

ColorMap = Literal["inferno", "viridis", "jet"]
COLOR_MAPS: tuple[str, ...] = get_args(ColorMap)

# 32 evenly spaced colours, RRGGBB; in between is interpolated (within 2/255 of the original).
_ANCHORS = {
    "inferno": (
        "0000040403120b0724150b37230c4c310a5c3e09664c0c6b5a116e67166e741a6e801f6c8f24699b2964"
        "a82e5fb43359c13a50cc4248d74b3fe05536e9612bef6e21f57b17f8890cfb9906fca80dfbb81df9c72f"
        "f5d949f2e865f3f586fcffa4"
    ),
    "viridis": (
        "440154470d6048186a482374472e7c4538824241863e4a893a548c365d8d32658e2e6d8e2b758e287d8e"
        "25848e228c8d1f948c1e9c8920a38625ab822eb37c3aba7648c16e58c7656ccd5a7fd34e93d741a8db34"
        "c0df25d5e21aeae51afde725"
    ),
}
# Matplotlib's jet: positions and levels of red, green and blue, straight lines in between.
_JET = (
    ((0, 0.35, 0.66, 0.89, 1), (0, 0, 1, 1, 0.5)),
    ((0, 0.125, 0.375, 0.64, 0.91, 1), (0, 0, 1, 1, 0, 0)),
    ((0, 0.11, 0.34, 0.65, 1), (0.5, 1, 1, 0, 0)),
)


@cache
def color_table(name: ColorMap) -> NDArray[np.uint8]:
    """Return a colour map as (256, 3) uint8 RGB, from low to high."""
    position = np.linspace(0.0, 1.0, 256)
    if name == "jet":
        channels = [np.interp(position, at, level) for at, level in _JET]
        table = np.stack(channels, axis=1) * 255.0
    else:
        anchors = np.frombuffer(bytes.fromhex(_ANCHORS[name]), dtype=np.uint8).reshape(-1, 3)
        at = np.linspace(0.0, 1.0, len(anchors))
        table = np.stack([np.interp(position, at, channel) for channel in anchors.T], axis=1)
    rounded: NDArray[np.uint8] = table.round().astype(np.uint8)
    return rounded
