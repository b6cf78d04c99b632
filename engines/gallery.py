"""A page of all pictures of an explained folder, beside them."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from engines.results_table import Row

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 100rem; padding: 1rem; }
main { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); }
figure { margin: 0; }
img { background: white; border-radius: 4px; height: auto; max-width: 100%; }
figcaption { overflow-wrap: anywhere; }
.caution { color: #b00020; font-weight: 600; }
@media (prefers-color-scheme: dark) { .caution { color: #ff8a95; } }
@media print { figure { break-inside: avoid; } }
"""  # noqa: E501


def gallery_page(
    title: str, rows: Sequence["Row"], cautions: Sequence[str], skipped: Sequence[str]
) -> str:
    """Return one HTML page; it needs the pictures beside it, and no network.

    Args:
        title: of the page.
        rows: as in the table.
        cautions: what the reader must be told.
        skipped: photos that could not be read, with the reason.
    """
    by_picture: dict[str, list[Row]] = {}
    for row in rows:
        by_picture.setdefault(row.overlay, []).append(row)
    figures = [_figure(picture, found) for picture, found in by_picture.items()]
    notes = [f'<p class="caution">{html.escape(text)}</p>' for text in cautions]
    if skipped:
        listed = "".join(f"<li>{html.escape(text)}</li>" for text in skipped)
        notes.append(f"<p>Not readable:</p><ul>{listed}</ul>")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
        "<p>Each map is min-max normalised to [0, 1]; brighter is more important.</p>\n"
        + "\n".join(notes)
        + "\n<main>\n"
        + "\n".join(figures)
        + "\n</main>\n</body>\n</html>\n"
    )


def _figure(picture: str, rows: Sequence["Row"]) -> str:
    told = ", ".join(_said(row) for row in rows)
    return (
        f'<figure><a href="{quote(picture)}"><img loading="lazy" src="{quote(picture)}" '
        f'alt="Maps of {html.escape(rows[0].photo, quote=True)}: {html.escape(told, quote=True)}">'
        f"</a><figcaption><strong>{html.escape(rows[0].photo)}</strong><br>{html.escape(told)}"
        "</figcaption></figure>"
    )


def _said(row: "Row") -> str:
    rival = f", not {row.against}" if row.against else ""
    return f"{row.class_name}{rival} {row.probability:.1%}"
