"""Pictures of explanations: the photo as the classifier saw it, the map over it, and its scale."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from ptame_deploy.colormaps import ColorMap, color_table
from ptame_deploy.faithfulness import masks
from ptame_deploy.preprocessing import Preprocessing

PANEL = 360  # height of a panel in pixels
MARGIN = 14
BAR = 14  # width of the colour bar
BAR_LABELS = 34  # room for the numbers beside it
TITLE = 30
CAPTION = 20
INK, FAINT, ALERT, PAPER = "#1a1a1a", "#6b6b6b", "#b00020", "white"


@dataclass(frozen=True)
class Panel:
    """One class's map with its heading.

    Attributes:
        title: class name and probability.
        saliency: (h, w) in [0, 1].
        outlined: percent of the pixels, those with the highest values, that get an outline.
        note: a line below the map.
    """

    title: str
    saliency: NDArray[np.float32]
    outlined: int | None = None
    note: str = ""


def crop_seen(photo: Image.Image, preprocessing: Preprocessing, height: int = PANEL) -> Image.Image:
    """Cut from a photo what the classifier saw, at a resolution for people.

    Args:
        photo: the upright RGB photo.
        preprocessing: the classifier's.
        height: of the result in pixels.
    """
    input_height, input_width = preprocessing.input_size
    size = (round(height * input_width / input_height), height)
    left, top, right, bottom = preprocessing.crop_box(*photo.size)
    x_scale, y_scale = size[0] / (right - left), size[1] / (bottom - top)
    box = (max(left, 0.0), max(top, 0.0), min(right, photo.width), min(bottom, photo.height))
    at = (round((box[0] - left) * x_scale), round((box[1] - top) * y_scale))
    end = (round((box[2] - left) * x_scale), round((box[3] - top) * y_scale))
    part = (max(1, end[0] - at[0]), max(1, end[1] - at[1]))
    resized = photo.resize(part, Image.Resampling.LANCZOS, box=box)
    if part == size:
        return resized
    # A crop that reaches over the border shows black there, as the classifier saw it.
    seen = Image.new("RGB", size)
    seen.paste(resized, at)
    return seen


def overlay(
    seen: Image.Image,
    saliency: NDArray[np.float32],
    *,
    colormap: ColorMap = "inferno",
    opacity: float = 0.6,
) -> Image.Image:
    """Lay a map over a photo.

    The photo turns grey so that every colour is the map's; values are drawn as they are, on the
    fixed scale [0, 1], never stretched again.

    Args:
        seen: what the classifier saw, RGB.
        saliency: (h, w) in [0, 1]; resized bilinearly.
        colormap: colours from low to high.
        opacity: of the map, 0 to 1.
    """
    values = Image.fromarray(np.asarray(saliency, dtype=np.float32))
    resized = np.clip(np.asarray(values.resize(seen.size, Image.Resampling.BILINEAR)), 0, 1)
    colours = Image.fromarray(color_table(colormap)[(resized * 255).round().astype(np.uint8)])
    return Image.blend(seen.convert("L").convert("RGB"), colours, opacity)


def outline(picture: Image.Image, saliency: NDArray[np.float32], percent: int) -> Image.Image:
    """Draw the border of a map's best part, black within and white without: seen on any colour.

    Args:
        picture: RGB; changed in place.
        saliency: (h, w) in [0, 1]; resized bilinearly.
        percent: of the pixels, those with the highest values.
    """
    width, height = picture.size
    (kept,) = masks(saliency[None], (height, width), percent, matched=True)
    part = Image.fromarray((kept * 255).astype(np.uint8))
    within = ImageChops.difference(part, part.filter(ImageFilter.MinFilter(3)))
    without = ImageChops.difference(part, part.filter(ImageFilter.MaxFilter(3)))
    picture.paste("black", mask=within)
    picture.paste("white", mask=without)
    return picture


def render(
    seen: Image.Image,
    panels: Sequence[Panel],
    *,
    cautions: Sequence[str] = (),
    colormap: ColorMap = "inferno",
    opacity: float = 0.6,
) -> Image.Image:
    """Draw a photo beside the maps of its classes, with the colour scale.

    Args:
        seen: what the classifier saw, from `crop_seen`.
        panels: one a class, best first.
        cautions: what the reader must be told; printed below.
        colormap: colours from low to high.
        opacity: of the maps, 0 to 1.

    Returns:
        An RGB picture.
    """
    width, height = seen.size
    columns = 1 + len(panels)
    total_width = columns * (width + MARGIN) + MARGIN + BAR + BAR_LABELS
    captions = [("scale: each map min-max to [0, 1]", FAINT), *((text, ALERT) for text in cautions)]
    notes = CAPTION if any(panel.note for panel in panels) else 0
    total_height = TITLE + height + 8 + notes + CAPTION * len(captions) + MARGIN // 2
    picture = Image.new("RGB", (total_width, total_height), PAPER)
    draw = ImageDraw.Draw(picture)
    _heading(draw, MARGIN, "what the classifier saw", width, FAINT)
    picture.paste(seen, (MARGIN, TITLE))
    for column, panel in enumerate(panels, start=1):
        left = MARGIN + column * (width + MARGIN)
        _heading(draw, left, panel.title, width, INK)
        drawn = overlay(seen, panel.saliency, colormap=colormap, opacity=opacity)
        if panel.outlined is not None:
            outline(drawn, panel.saliency, panel.outlined)
        picture.paste(drawn, (left, TITLE))
        draw.text((left, TITLE + height + 6), panel.note, fill=INK, font=_font(13))
    _color_bar(picture, draw, MARGIN + columns * (width + MARGIN), height, colormap)
    for line, (text, colour) in enumerate(captions):
        position = (MARGIN, TITLE + height + 6 + notes + line * CAPTION)
        draw.text(position, text, fill=colour, font=_font(13))
    return picture


def _heading(draw: ImageDraw.ImageDraw, left: int, text: str, width: int, colour: str) -> None:
    draw.text((left, 7), _shortened(draw, text, width), fill=colour, font=_font(16))


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Cut a class name that is too long, keeping the probability at its end."""
    name, separator, tail = _drawable(text).rpartition("  ")

    def fits(length: int) -> bool:
        return draw.textlength(_cut(name, length) + separator + tail, font=_font(16)) <= width

    if fits(len(name)):
        return name + separator + tail
    longest = bisect_left(range(min(len(name), width)), x=True, key=lambda n: not fits(n)) - 1
    return _cut(name, max(0, longest)) + separator + tail


def _cut(name: str, length: int) -> str:
    return name if length >= len(name) else name[:length].rstrip() + "…"


def _drawable(text: str) -> str:
    """Return text on one line, without what a font has no sign for."""
    signs = (sign if sign.isprintable() else " " for sign in text)
    return "".join(signs)


def _color_bar(
    picture: Image.Image, draw: ImageDraw.ImageDraw, left: int, height: int, colormap: ColorMap
) -> None:
    levels = np.linspace(255, 0, height).round().astype(np.uint8)
    bar = np.repeat(color_table(colormap)[levels][:, None], BAR, axis=1)
    picture.paste(Image.fromarray(bar), (left, TITLE))
    for value, at in (("1", 0.0), ("0.5", 0.5), ("0", 1.0)):
        y = TITLE + at * (height - 1)
        draw.line([(left + BAR, y), (left + BAR + 4, y)], fill=INK)
        draw.text((left + BAR + 7, y), value, fill=INK, font=_font(13), anchor="lm")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
