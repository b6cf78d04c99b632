"""Explaining many photos: batches in, pictures, maps and one table out."""

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.beside import Beside, Others
from engines.explainer import Explainer, Explanation
from engines.plan import PLAN_FILE
from ptame_deploy.artifacts import GRAPH_FILE, Provenance
from ptame_deploy.colormaps import ColorMap
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import UnreadablePhotoError, open_photo, printable
from ptame_deploy.rendering import Panel, crop_seen, render
from ptame_deploy.storage import atomic_file, write_text

SCHEMA_VERSION = 1
MAX_STEM_BYTES = 230


@dataclass(frozen=True)
class Row:
    """One photo and one explained class, as in the table.

    Attributes:
        photo: path as found.
        rank: 0 for the first explained class.
        class_index: of the classifier.
        class_name: its name, or ``class N``.
        probability: softmax over all classes.
        overlay: file name of the picture.
        map: file name of the map, or None.
    """

    photo: str
    rank: int
    class_index: int
    class_name: str
    probability: float
    overlay: str
    map: str | None


@dataclass
class Summary:
    """What was done."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def explain_folder(
    explainer: Explainer,
    photos: Sequence[Path],
    directory: Path,
    *,
    class_index: Sequence[int] | None = None,
    save_maps: bool = False,
    colormap: ColorMap = "inferno",
    opacity: float = 0.6,
    beside: Beside | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Summary:
    """Explain photos batch by batch, and write a picture for each and a table for all.

    Only one batch of photos is held in memory. Photos that cannot be decoded are skipped and
    named, in the summary and in ``results.json``.

    Args:
        explainer: the exported graph or the plan.
        photos: files.
        directory: gets ``NAME.png`` a photo, ``results.csv`` and ``results.json``.
        class_index: K classes for all photos, where the graph takes classes.
        save_maps: also write ``NAME.npy``: float32 (K, h, w) at the graph's resolution.
        colormap: of the pictures.
        opacity: of the map over the photo, 0 to 1.
        beside: another graph, whose maps of the same classes are drawn beside.
        advance: called with the number of photos that were just finished or skipped.

    Raises:
        InvalidInputError: the folder cannot be written, classes that do not fit, a picture would
            take the place of a photo, or the other graph sees photos otherwise.
        MissingRequirementError: the disk is full.
    """
    summary = Summary()
    names = _output_names(photos)
    _refuse_overwriting(photos, directory, names)
    cautions = list(explainer.manifest.cautions)
    if beside is not None:
        beside.check(explainer)
        cautions += [f"{beside.name}: {text}" for text in beside.explainer.manifest.cautions]
    for start in range(0, len(photos), explainer.batch_size):
        batch = photos[start : start + explainer.batch_size]
        paths, seen, prepared = [], [], []
        for path in batch:
            try:
                pixels, crop = _open(explainer, path)
            except UnreadablePhotoError as error:
                summary.skipped.append(str(error))
                continue
            paths.append(path)
            seen.append(crop)
            prepared.append(pixels)
        if paths:
            asked = explainer.classes_for(class_index, len(paths))
            explanation = explainer.explain_prepared(np.stack(prepared), asked)
            others = None if beside is None else beside.maps(np.stack(prepared), explanation)
            for position, path in enumerate(paths):
                stem = directory / names[path]
                picture = render(
                    seen[position],
                    _panels(explanation, position, beside, others),
                    cautions=cautions,
                    colormap=colormap,
                    opacity=opacity,
                )
                with atomic_file(stem.with_name(f"{stem.name}.png")) as temporary:
                    picture.save(temporary, format="PNG")
                if save_maps:
                    buffer = io.BytesIO()
                    np.save(buffer, explanation.saliency[position])
                    with atomic_file(stem.with_name(f"{stem.name}.npy")) as temporary:
                        temporary.write_bytes(buffer.getvalue())
                summary.rows += _rows(explanation, position, path, stem.name, saved=save_maps)
        advance(len(batch))
    _write_tables(explainer, summary, directory)
    return summary


def _open(explainer: Explainer, path: Path) -> tuple[NDArray[np.uint8], Image.Image]:
    """Decode a photo; keep what the classifier needs and what is drawn, not the whole photo."""
    photo = open_photo(path)
    try:
        prepared = explainer.prepare(photo)
    except InvalidInputError as error:
        message = f"{printable(path)}: {error}"
        raise UnreadablePhotoError(message) from error
    return prepared, crop_seen(photo, explainer.manifest.preprocessing)


def _output_names(photos: Sequence[Path]) -> dict[Path, str]:
    """Name each photo's files after it; a stem that several share gets a number."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in photos:
        # Room for a number and an ending within the 255 bytes of a file name.
        stem = os.fsdecode(os.fsencode(path.stem)[:MAX_STEM_BYTES])
        name, number = stem, 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        names[path] = name
    return names


def _refuse_overwriting(photos: Sequence[Path], directory: Path, names: dict[Path, str]) -> None:
    inputs = {os.path.realpath(path) for path in photos}  # does not fail on loops of links
    for name in names.values():
        target = os.path.realpath(directory / f"{name}.png")
        if target in inputs:
            message = (
                f"{printable(target)} is a photo and would be replaced by its own picture. "
                "Choose another -o."
            )
            raise InvalidInputError(message)


def _panels(
    explanation: Explanation, position: int, beside: Beside | None, others: Others | None
) -> list[Panel]:
    panels = []
    for rank, saliency in enumerate(explanation.saliency[position]):
        probability = f"{explanation.probability[position, rank]:.1%}"
        panels.append(Panel(f"{explanation.label(position, rank)}  {probability}", saliency))
        other = None if others is None else others[position][rank]
        if beside is not None and other is not None:
            panels.append(Panel(beside.name, other))
    return panels


def _rows(
    explanation: Explanation, position: int, path: Path, name: str, *, saved: bool
) -> list[Row]:
    return [
        Row(
            photo=printable(path),
            rank=rank,
            class_index=int(explanation.class_index[position, rank]),
            class_name=explanation.label(position, rank),
            probability=float(explanation.probability[position, rank]),
            overlay=printable(f"{name}.png"),
            map=printable(f"{name}.npy") if saved else None,
        )
        for rank in range(explanation.class_index.shape[1])
    ]


def _write_tables(explainer: Explainer, summary: Summary, directory: Path) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in summary.rows)
    write_text(directory / "results.csv", buffer.getvalue())
    manifest, plan = explainer.manifest, explainer.plan
    document = {
        "schema_version": SCHEMA_VERSION,
        "kind": "explanations",
        "provenance": Provenance.here(seed=manifest.provenance.seed).model_dump(),
        "runtime": explainer.runtime.description,
        "graph_sha256": manifest.files[GRAPH_FILE].sha256,
        "plan_sha256": None if plan is None else plan.files[PLAN_FILE].sha256,
        "classifier": manifest.classifier.name,
        "cautions": manifest.cautions,
        "map_size": manifest.map_size,
        "scale": "each map min-max normalised to [0, 1]",
        "results": [asdict(row) for row in summary.rows],
        "skipped": summary.skipped,
    }
    write_text(
        directory / "results.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    )
