"""The table of explained photos, as CSV and as JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.explainer import Explainer
from engines.explanation import Explanation
from engines.plan import PLAN_FILE
from ptame_deploy.artifacts import GRAPH_FILE
from ptame_deploy.photos import printable
from ptame_deploy.provenance import Provenance
from ptame_deploy.storage import write_text

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One photo and one explained class, as in the table.

    Attributes:
        photo: path as found.
        rank: 0 for the first explained class.
        class_index: of the classifier.
        class_name: its name, or ``class N``.
        probability: of the class.
        against: name of the class that it is held against, or None.
        overlay: file name of the picture.
        map: file name of the map, or None.
        kept: probability where only the map's best pixels are left, where that was asked for.
        hidden: probability where those are hidden.
    """

    photo: str
    rank: int
    class_index: int
    class_name: str
    probability: float
    against: str | None
    overlay: str
    map: str | None
    kept: float | None = None
    hidden: float | None = None


def rows_of(
    explanation: Explanation,
    position: int,
    path: Path,
    name: str,
    sure: NDArray[np.float32] | None,
    *,
    saved: bool,
) -> list[Row]:
    """Return a photo's rows.

    Args:
        explanation: of a batch.
        position: of the photo in it.
        path: of the photo.
        name: of its files.
        sure: (K, 2), see `engines.masked_confidence`, or None.
        saved: its maps were written.
    """
    return [
        Row(
            photo=printable(path),
            rank=rank,
            class_index=int(explanation.class_index[position, rank]),
            class_name=explanation.label(position, rank),
            probability=float(explanation.probability[position, rank]),
            against=explanation.rival(position, rank),
            overlay=printable(f"{name}.png"),
            map=printable(f"{name}.npy") if saved else None,
            kept=None if sure is None else float(sure[rank, 0]),
            hidden=None if sure is None else float(sure[rank, 1]),
        )
        for rank in range(explanation.class_index.shape[1])
    ]


def write_tables(
    explainer: Explainer, rows: Sequence[Row], skipped: Sequence[str], directory: Path
) -> None:
    """Write ``results.csv`` and ``results.json``.

    Raises:
        InvalidInputError: the folder cannot be written.
        MissingRequirementError: the disk is full.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
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
        "results": [asdict(row) for row in rows],
        "skipped": list(skipped),
    }
    write_text(
        directory / "results.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    )
