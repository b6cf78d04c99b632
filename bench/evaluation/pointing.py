"""The pointing games in an evaluation: which photos have boxes of the class that is explained."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.evaluation.collect import Bench, as_saliency
from bench.evaluation.photos import Photo
from bench.measures.boxes import Box, boxes_of, to_input
from bench.measures.pointing import COLUMNS, InputBox, pointing_energy, pointing_hit
from bench.methods.method import Method
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.bootstrap import Values
from ptame_deploy.errors import InvalidInputError

__all__ = ["COLUMNS", "match", "measure"]


def match(
    boxes: Mapping[str, list[Box]], photos: Sequence[Photo], manifest: GraphManifest
) -> dict[int, list[InputBox]]:
    """Find each photo's boxes of the explained class, as the classifier sees them.

    A box counts where its label is the class's name, or its index as digits.

    Args:
        boxes: by photo file name.
        photos: of the evaluation.
        manifest: names the classes and the crop.

    Returns:
        Boxes in input pixels by place; a photo without one is not there.

    Raises:
        InvalidInputError: no photo has one.
    """
    names = manifest.classifier.class_names
    found: dict[int, list[InputBox]] = {}
    for place, photo in enumerate(photos):
        index = photo.class_index
        labels = {str(index)} | ({_plain(names[index])} if names is not None else set())
        given = boxes_of(boxes, photo.path) or []
        fitting = [
            seen
            for box in given
            if _plain(box.label) in labels
            and (seen := to_input(box, (photo.width, photo.height), manifest.preprocessing))
        ]
        if fitting:
            found[place] = fitting
    if not found:
        labels_given = sorted({box.label for one in boxes.values() for box in one})
        message = (
            f"--boxes: none of the {len(photos)} photos has a box of its explained class. Files "
            f"are matched by name, labels ({', '.join(labels_given[:5])}, ...) by class name or "
            "index."
        )
        raise InvalidInputError(message)
    return found


def measure(
    bench: Bench, method: Method, photos: Sequence[Photo], boxes: Mapping[int, Sequence[InputBox]]
) -> dict[str, Values]:
    """Return both columns' values (N,) of one method, NaN where a photo has no box.

    Args:
        bench: the store with the maps.
        method: that was measured already.
        photos: of the evaluation.
        boxes: by place.
    """
    values: dict[str, Values] = {c.name: np.full(len(photos), np.nan) for c in COLUMNS}
    for place, one in bench.kept_maps(method, photos, boxes):
        saliency = as_saliency(one, bench.preprocessing.input_size)
        values["pointing"][place] = pointing_hit(saliency, boxes[place])
        values["pointing_energy"][place] = pointing_energy(saliency, boxes[place])
    return values


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())
