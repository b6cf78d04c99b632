"""Evaluations as one HTML page for people: no network, no script, pictures inside."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.evaluation.report.album import Album, gallery_measure
from bench.evaluation.report.cells import clean, many
from bench.evaluation.report.comparison import (
    cautions,
    is_partial,
    measured,
    outcomes,
    reference_of,
)
from bench.evaluation.report.conditions import conditions, facts
from bench.evaluation.report.curve_plots import curve_plots
from bench.evaluation.report.plots import forest_plot, plotted_column, rise_plot, speed_plot
from bench.evaluation.report.tables import grids
from bench.evaluation.report.wording import headline, moved, standings, summary
from bench.evaluation.results import Evaluation
from ptame_deploy.bootstrap import DECIDING_PHOTOS
from ptame_deploy.errors import InvalidInputError

MAX_PAGE_PICTURE_BYTES = 10 * 2**20  # of all evaluations; as text a third more: 14 of 15 MB
MAX_SKIPPED_SHOWN = 50


def page(evaluations: Sequence[Evaluation], folders: Sequence[Path]) -> str:
    """Return one self-contained HTML page.

    Args:
        evaluations: a section each, in this order.
        folders: where each one's pictures lie; nothing outside of them is read.

    Raises:
        InvalidInputError: no evaluation, or not as many folders.
    """
    if not evaluations or len(evaluations) != len(folders):
        message = (
            f"A page needs one folder for each evaluation, got {len(evaluations)} evaluations and "
            f"{len(folders)} folders."
        )
        raise InvalidInputError(message)
    left, sections = MAX_PAGE_PICTURE_BYTES, []
    for i, (evaluation, folder) in enumerate(zip(evaluations, folders, strict=True), start=1):
        album = Album(folder, left)
        sections.append(_section(evaluation, f"e{i}", album))
        left = album.left
    environment = Environment(
        loader=PackageLoader("bench.evaluation.report", "templates"), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalised,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        sections=sections, deciding_photos=DECIDING_PHOTOS
    )


def _section(evaluation: Evaluation, prefix: str, album: Album) -> dict[str, object]:
    subject = evaluation.subject
    name = subject.classifier.rpartition("/")[2].strip() or subject.classifier
    column, reference = plotted_column(evaluation), reference_of(evaluation)
    chosen_by, curve = gallery_measure(evaluation), evaluation.rise_curve
    comparisons = sum(
        len(kept)
        for m in measured(evaluation)
        for kept in outcomes(m.against_reference, evaluation).values()
    )
    share = 1 - evaluation.settings.interval_percent / 100
    return {
        "id": prefix,
        "title": f"{name} + {subject.auxiliary}",
        "evaluation": evaluation,
        "column": column.label if column else "",
        "reference": reference.label if reference else "P-TAME",
        "photos": many(evaluation.photos, "photo"),
        "unread": many(len(evaluation.skipped), "photo"),
        "headline": headline(evaluation),
        "sentences": summary(evaluation),
        "standings": standings(evaluation, same=False),
        "same_method": standings(evaluation, same=True),
        "partial": any(is_partial(method, evaluation) for method in measured(evaluation)),
        "comparisons": comparisons,
        "chance": round(comparisons * share),
        "cautions": cautions(evaluation),
        "moved": moved(evaluation),
        "grids": {grid.name: grid for grid in grids(evaluation)},
        "conditions": conditions(evaluation),
        "facts": facts(evaluation),
        "skipped": evaluation.skipped[:MAX_SKIPPED_SHOWN],
        "unlisted": max(0, len(evaluation.skipped) - MAX_SKIPPED_SHOWN),
        "speed": _picture(speed_plot(evaluation, prefix)),
        "forest": _picture(forest_plot(evaluation, prefix)),
        "curves": [_picture(each) for each in curve_plots(evaluation, prefix)],
        "rise": _picture(rise_plot(evaluation, prefix)),
        "rise_photos": many(curve.photos if curve else 0, "photo"),
        "gallery": album.shown(evaluation),
        "gallery_column": chosen_by.label if chosen_by else "",
    }


def _picture(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)  # noqa: S704  its texts are escaped where it is drawn


def _finalised(value: object) -> object:
    """Take out what no file may hold; autoescape does the rest."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
