"""An explanation as a picture, for whoever wants nothing beside it."""

import io
from typing import TYPE_CHECKING

from PIL import Image

from ptame_deploy.rendering import Panel, crop_seen, render

if TYPE_CHECKING:
    from engines.explanation import Explanation
    from ptame_deploy.artifacts import GraphManifest


def panels_of(explanation: "Explanation", position: int) -> list[Panel]:
    """Return a panel for each class of one photo."""
    return [
        Panel(explanation.heading(position, rank), saliency)
        for rank, saliency in enumerate(explanation.saliency[position])
    ]


def explanation_png(
    explanation: "Explanation", position: int, photo: Image.Image, manifest: "GraphManifest"
) -> bytes:
    """Draw one photo with its maps.

    Args:
        explanation: of a batch.
        position: of the photo in it.
        photo: upright, RGB.
        manifest: describes the graph.
    """
    seen = crop_seen(photo, manifest.preprocessing)
    picture = render(seen, panels_of(explanation, position), cautions=manifest.cautions)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
