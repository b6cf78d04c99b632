"""Explanations as HTML, for notebooks."""

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engines.drawing import explanation_png, panels_of
from engines.photo_input import Photo, decoded

if TYPE_CHECKING:
    from engines.explanation import Explanation
    from ptame_deploy.artifacts import GraphManifest

MOST = 8  # photos that are drawn; all of a large batch would make a notebook heavy


def explanation_html(
    explanation: "Explanation", photos: Sequence[Photo], manifest: "GraphManifest"
) -> str:
    """Draw the first photos of a batch with their maps.

    Args:
        explanation: of all photos.
        photos: as they were given; files are read again.
        manifest: describes the graph.
    """
    parts = []
    for position, photo in enumerate(photos[:MOST]):
        data = base64.b64encode(explanation_png(explanation, position, decoded(photo), manifest))
        headings = "; ".join(panel.title for panel in panels_of(explanation, position))
        told = html.escape(headings, quote=True)
        parts.append(f'<img alt="{told}" src="data:image/png;base64,{data.decode()}">')
    if len(explanation) > MOST:
        parts.append(f"<p>... and {len(explanation) - MOST} more photos</p>")
    return "\n".join(parts)
