"""Photos by all methods: the best and the worst for P-TAME, and some by chance; none by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bench.evaluation.collect import Bench, as_saliency
from bench.evaluation.photos import Photo
from bench.evaluation.results import Choice, GalleryEntry
from bench.evaluation.summary import Measured
from bench.measures.measure import Column, Map
from bench.methods.method import Method
from bench.methods.ptame import REFERENCE
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.bootstrap import Values
from ptame_deploy.photos import open_photo
from ptame_deploy.rendering import crop_seen, overlay
from ptame_deploy.storage import atomic_file

if TYPE_CHECKING:
    from ptame_deploy.preprocessing import Preprocessing

FOLDER = "gallery"
EACH = 4  # photos of each choice
HEIGHT = 168  # of a picture in pixels
QUALITY = 82


def choose(values: Values, seed: int) -> list[tuple[int, Choice]]:
    """Choose photos: those with the largest and the smallest value, and others by chance.

    Args:
        values: (N,) P-TAME's value of each photo, larger is better; NaN where there is none.
        seed: of the chance.

    Returns:
        Places with what they were chosen as; no photo twice.
    """
    order = [int(i) for i in np.argsort(-values, kind="stable") if not np.isnan(values[i])]
    each = min(EACH, len(order) // 3)
    best, worst = order[:each], order[len(order) - each :][::-1]
    others = [i for i in range(len(values)) if i not in best and i not in worst]
    drawn = np.random.default_rng(seed).permutation(others)[:EACH]
    choices: list[tuple[Sequence[int], Choice]] = [
        (best, "best"), (worst, "worst"), ([int(i) for i in drawn], "random"),
    ]  # fmt: skip
    return [(place, choice) for places, choice in choices for place in places]


def gallery_column(columns: Sequence[Column]) -> Column:
    """Return what best and worst are chosen by: insertion, or the first that contrast cannot move.

    Insertion has as many values as photos; increase in confidence is 0 or 100.
    """
    by_name = {column.name: column for column in columns}
    fixed = (column for column in columns if not column.contrast_moves)
    return by_name.get("insertion") or next(fixed, columns[0])


def make_gallery(
    bench: Bench,
    measured: Sequence[Measured],
    photos: Sequence[Photo],
    columns: Sequence[Column],
    manifest: GraphManifest,
    directory: Path,
    seed: int,
) -> list[GalleryEntry]:
    """Draw a few photos by all methods; a costly method only where it ran.

    Args:
        bench: the store with the maps.
        measured: methods with their values.
        photos: of the evaluation.
        columns: of the measures; `gallery_column` says which of them chooses.
        manifest: of the reference.
        directory: of the evaluation; the pictures go to its folder ``gallery``.
        seed: of those chosen by chance.
    """
    column = gallery_column(columns)
    scores = next(
        m.found.values[column.name] for m in measured if m.row.name == REFERENCE and m.found
    )
    chosen = choose(scores if column.better == "higher" else -scores, seed)
    places = [place for place, _ in chosen]
    maps = {
        one.row.name: dict(bench.kept_maps(one.row, photos, places))
        for one in measured
        if one.found is not None and isinstance(one.row, Method)
    }
    names = manifest.classifier.class_names
    return draw(directory, photos, chosen, maps, scores, names, manifest.preprocessing)


def draw(
    directory: Path,
    photos: Sequence[Photo],
    chosen: Sequence[tuple[int, Choice]],
    maps: Mapping[str, Mapping[int, Map]],
    scores: Values,
    class_names: Sequence[str] | None,
    preprocessing: "Preprocessing",
) -> list[GalleryEntry]:
    """Draw the chosen photos and each method's map over them.

    Args:
        directory: gets the folder ``gallery``.
        photos: of the evaluation.
        chosen: places and choices.
        maps: by method and place; a method that did not run on a photo has none there.
        scores: (N,) what was chosen by.
        class_names: of the classifier, or None.
        preprocessing: the classifier's.

    Raises:
        InvalidInputError: a photo is gone, or the folder cannot be written.
    """
    entries = []
    for number, (place, choice) in enumerate(chosen):
        photo = photos[place]
        seen = crop_seen(open_photo(Path(photo.path)), preprocessing, HEIGHT)
        picture = f"{FOLDER}/{number:02d}-photo.jpg"
        _save(seen, directory / picture)
        overlays = {}
        for name, by_place in maps.items():
            if place in by_place:
                # What speaks against the class, in signed maps, is drawn as no evidence for it.
                evidence = np.maximum(by_place[place], 0)
                saliency = as_saliency(evidence, preprocessing.input_size)
                overlays[name] = f"{FOLDER}/{number:02d}-{name}.jpg"
                _save(overlay(seen, saliency), directory / overlays[name])
        index = photo.class_index
        label = class_names[index] if class_names is not None else f"class {index}"
        score = float(scores[place])
        entries.append(
            GalleryEntry(
                photo=photo.name,
                choice=choice,
                title=f"{label}, {photo.probability:.1%}",
                score=None if np.isnan(score) else score,
                picture=picture,
                overlays=overlays,
            )
        )
    return entries


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_file(path) as temporary:
        picture.save(temporary, format="JPEG", quality=QUALITY)
