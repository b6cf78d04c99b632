"""Explanations as HTML, for notebooks."""

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engines.photo_input import Photo, decoded
from ptame_deploy.rendering import Panel, crop_seen, render

if TYPE_CHECKING:
    from engines.explainer import Explanation
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
        seen = crop_seen(decoded(photo), manifest.preprocessing)
        ranks = range(explanation.class_index.shape[1])
        headings = [explanation.heading(position, rank) for rank in ranks]
        panels = [
            Panel(heading, explanation.saliency[position, rank])
            for rank, heading in enumerate(headings)
        ]
        buffer = io.BytesIO()
        render(seen, panels, cautions=manifest.cautions).save(buffer, format="PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        told = html.escape("; ".join(headings), quote=True)
        parts.append(f'<img alt="{told}" src="data:image/png;base64,{data}">')
    if len(explanation) > MOST:
        parts.append(f"<p>... and {len(explanation) - MOST} more photos</p>")
    return "\n".join(parts)
