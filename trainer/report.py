"""A training on one HTML page: what it was, its curves, what it gained, photos before and after.

No network, no script; pictures are inside.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.explainer import ExplainerNet, FoldedExplainer
from ptame_deploy.fused import FusedModel
from ptame_deploy.preprocessing import to_float
from ptame_deploy.rendering import overlay
from ptame_deploy.storage import write_text
from trainer.result import Trained

_SIDE = 224  # of a picture in the gallery, in pixels
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 520, 220, 58, 34  # of a curve
_TERMS = ("loss", "cross-entropy", "area", "variation")
_NAMES = {
    "start": "start", "trained": "trained", "gaussian": "floor: centred Gaussian",
    "random": "floor: random map",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """A line of points to be drawn.

    Attributes:
        title: above it.
        x: what runs to the right.
        points: (x, y), in rising x.
    """

    title: str
    x: str
    points: Sequence[tuple[float, float]]

    @property
    def path(self) -> str:
        """The line as SVG's path data."""
        (left, right), (low, high) = self._ranges
        spots = []
        for x, y in self.points:
            across = _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - 10)
            down = 10 + (high - y) / (high - low) * (_HEIGHT - 10 - _BOTTOM)
            spots.append(f"{across:.1f},{down:.1f}")
        return "M" + " L".join(spots)

    @property
    def labels(self) -> dict[str, str]:
        """What is written at the ends of the axes."""
        (left, right), (low, high) = self._ranges
        return {
            "left": f"{left:g}", "right": f"{right:g}", "low": f"{low:.4g}", "high": f"{high:.4g}",
        }  # fmt: skip

    @property
    def _ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        xs, ys = zip(*self.points, strict=True)
        low, high = min(ys), max(ys)
        margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
        left, right = min(xs), max(xs)
        floor = low - margin if low < 0 else max(low - margin, 0.0)  # no scale below what can be
        return (left, right if right > left else left + 1), (floor, high + margin)


def write_report(
    path: Path, result: Trained, backbone: Backbone, auxiliary: Auxiliary, facts: Mapping[str, str]
) -> None:
    """Write the page.

    Args:
        path: the file.
        result: of a recipe.
        backbone: the classifier.
        auxiliary: gives the features.
        facts: what the reader is told about it, in this order.

    Raises:
        InvalidInputError: the file cannot be written.
        MissingRequirementError: the disk is full.
    """
    environment = Environment(
        loader=PackageLoader("trainer", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("training.html.j2").render(
        title=backbone.name.rpartition("/")[2],
        facts=facts,
        gain=result.gain,
        curves=curves(result.record),
        measures=_measures(result.record),
        gallery=_gallery(result, backbone, auxiliary),
        skipped=result.skipped[:50],
        number_skipped=len(result.skipped),
        width=_WIDTH, height=_HEIGHT, left=_LEFT, bottom=_BOTTOM,
    )  # fmt: skip
    write_text(path, text)


def curves(record: Mapping[str, Any]) -> list[Curve]:
    """Return what can be drawn of a training's record."""
    found = []
    rows = record.get("curve", [])
    if record["preset"] == "few":
        points = [(float(photos), value) for photos, value in rows]
        title = "agreement on photos left out, by photos to train on"
        found.append(Curve(title, "photos", points))
    else:
        for column, name in enumerate(_TERMS, start=1):
            points = [(row[0], row[column]) for row in rows]
            found.append(Curve(f"{name} (training)", "step", points))
        looks = record.get("validation", [])
        for matched, form in ((True, "contrast-matched"), (False, "as published")):
            for key, name in (("average_drop", "average drop"), ("increase", "increase")):
                points = [
                    (look["step"], one[key])
                    for look in looks
                    for one in look["measures"]
                    if one["contrast_matched"] == matched
                ]
                found.append(Curve(f"{name} at 50 %, {form} (left out)", "step", points))
    return [curve for curve in found if len(curve.points) > 1]


def _measures(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of measures: its header, and a row for each method."""
    found: Mapping[str, Sequence[Mapping[str, Any]]] = record.get("measures", {})
    header: list[str] = []
    rows: list[list[str]] = []
    for name, judged in found.items():
        cells = []
        header = []
        for one in judged:
            form = "matched" if one["contrast_matched"] else "published"
            for key, sign in (("average_drop", "AD"), ("increase", "IC")):
                header.append(f"{sign} {one['percent']} % ({form})")
                mean, low, high = (one[key][part] for part in ("mean", "low", "high"))
                cells.append(f"{mean:.1f} ({low:.1f} to {high:.1f})")
        rows.append([_NAMES[name], *cells])
    return {"header": header, "rows": rows}


def _gallery(result: Trained, backbone: Backbone, auxiliary: Auxiliary) -> list[dict[str, str]]:
    """Return photos with the maps of start and trained explainer, as pictures inside a page."""
    if not len(result.shown):
        return []
    images = torch.from_numpy(to_float(result.shown))
    found = {}
    for name, explainer in (("start", result.started), ("trained", result.explainer)):
        found[name] = _explain(backbone, auxiliary, explainer, images)
    rows = []
    for number, pixels in enumerate(result.shown):
        seen = Image.fromarray(pixels)
        index = int(found["trained"][0][number])
        names = backbone.class_names
        rows.append(
            {
                "title": str(index) if names is None else names[index],
                "seen": _inside(seen),
                **{name: _inside(overlay(seen, maps[number])) for name, (_, maps) in found.items()},
            }
        )
    return rows


def _explain(
    backbone: Backbone, auxiliary: Auxiliary, explainer: ExplainerNet, images: torch.Tensor
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    fused = FusedModel(backbone, auxiliary, FoldedExplainer(explainer))
    with torch.inference_mode():
        answers = [fused(one[None]) for one in images]
    index = np.array([int(classes[0, 0]) for _, classes, _ in answers])
    return index, np.stack([maps[0, 0].numpy() for _, _, maps in answers])


def _inside(picture: Image.Image) -> str:
    picture = picture.copy()
    picture.thumbnail((_SIDE, _SIDE))
    file = BytesIO()
    picture.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
