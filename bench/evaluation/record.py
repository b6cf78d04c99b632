"""Parts of an evaluation's record: who was measured, by what, with which values."""

import csv
import io
from collections.abc import Sequence
from importlib import metadata

import numpy as np

from bench.evaluation.photos import Chosen, Photo
from bench.evaluation.report.cells import csv_value, many
from bench.evaluation.results import MeasureRecord, Subject
from bench.evaluation.summary import Measured
from bench.measures.measure import Column, Measure
from ptame_deploy.artifacts import GRAPH_FILE, GraphManifest

FEW_PHOTOS = 30
_PACKAGES = ("captum", "grad-cam", "scikit-image", "scikit-learn", "scipy")


def values_csv(
    measured: Sequence[Measured],
    photos: Sequence[Photo],
    columns: Sequence[Column],
    manifest: GraphManifest,
) -> str:
    """Return a line a method and photo, from which everything can be recomputed.

    Names that a spreadsheet would run get an apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head = ["number", "photo", "sha256", "class_index", "class_name", "probability", "method"]
    writer.writerow([*head, *(column.name for column in columns)])
    names = manifest.classifier.class_names
    for one in measured:
        if one.found is None:
            continue
        for place, photo in enumerate(photos):
            numbers = [one.found.values[column.name][place] for column in columns]
            if np.isnan(numbers).all():
                continue
            label = names[photo.class_index] if names is not None else ""
            writer.writerow(
                [
                    place, csv_value(photo.name), photo.sha256, photo.class_index, csv_value(label),
                    f"{photo.probability:.9g}", one.row.name,
                    *("" if np.isnan(x) else f"{x:.9g}" for x in numbers),
                ]
            )  # fmt: skip
    return buffer.getvalue()


def measure_records(measures: Sequence[Measure], columns: Sequence[Column]) -> list[MeasureRecord]:
    """Describe the columns with their measures' settings."""
    settings = {c.name: dict(m.settings) for m in measures for c in m.columns}
    return [
        MeasureRecord(**column.model_dump(), settings=settings.get(column.name, {}))
        for column in columns
    ]


def subject_record(manifest: GraphManifest) -> Subject:
    """Describe classifier and explainer, without the user's folders."""
    explainer = manifest.explainer
    return Subject(
        classifier=manifest.classifier.name.rpartition("/")[2],  # not the user's folders
        classifier_sha256=manifest.classifier.weights.sha256,
        classes=manifest.classifier.num_classes,
        input_size=manifest.preprocessing.input_size,
        auxiliary=explainer.auxiliary_label,
        explainer_state=_state(manifest),
        graph_sha256=manifest.files[GRAPH_FILE].sha256,
        cautions=list(manifest.cautions),
    )


def _state(manifest: GraphManifest) -> str:
    explainer = manifest.explainer
    state = "untrained"
    if explainer.state == "trained":
        steps = explainer.training_steps  # the preset 'few' takes none
        state = f"trained for {steps} steps" if steps is not None else "trained"
        if explainer.training_photos is not None:
            state += f" on {explainer.training_photos} photos"
    return state if explainer.superpixels is None else f"{state}, with superpixels"


def judge_identity(manifest: GraphManifest) -> str:
    """Tell judges apart: an FP32 classifier by its weights alone, others by their graph as well."""
    weights = manifest.classifier.weights.sha256
    return weights if manifest.precision == "fp32" else manifest.files[GRAPH_FILE].sha256


def rival_packages() -> dict[str, str]:
    """Return the versions of the packages that the rivals come from, as far as they are there."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def warnings(photos: Chosen, manifest: GraphManifest) -> list[str]:
    """Return what a reader of the numbers must know."""
    found = []
    if manifest.precision != "fp32":
        found.append(
            f"the judge is the {manifest.precision} classifier itself: no FP32 graph was given"
        )
    if len(photos.photos) < FEW_PHOTOS:
        found.append(f"only {many(len(photos.photos), 'photo')}: the intervals are rough")
    return found
