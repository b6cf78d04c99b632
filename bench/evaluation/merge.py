"""Putting evaluations together: of other precisions, machines or classifiers."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from bench.evaluation.report.comparison import plain_name
from bench.evaluation.results import Evaluation, MethodRecord
from bench.evaluation.run import RESULTS, VALUES
from bench.evaluation.summary import COMPETING
from bench.evaluation.verdicts import verdict
from bench.measures.measure import Column
from bench.methods.floors import GAUSSIAN
from ptame_deploy.bootstrap import Values, difference
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.records import first_fault

ByPhoto = dict[str, dict[int, dict[str, float]]]  # method -> photo's number -> column -> value


@dataclass(frozen=True)
class Found:
    """One evaluation on disk.

    Attributes:
        evaluation: its results.
        folder: that they lie in, with the gallery.
        name: what the user called it.
    """

    evaluation: Evaluation
    folder: Path
    name: str


def read_evaluation(path: Path) -> Found:
    """Read ``results.json``, or the one in a folder.

    Raises:
        InvalidInputError: there is none, or it is another file.
    """
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        message = f"{file} does not exist. Give a results.json, or the folder of ptame evaluate."
        raise InvalidInputError(message)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return Found(Evaluation.model_validate(data), file.parent, str(path))
    except ValidationError as error:
        message = f"{file} is not an evaluation of this version: {first_fault(error)}."
        raise InvalidInputError(message) from error
    except (OSError, ValueError, RecursionError) as error:
        message = f"{file} cannot be read as JSON ({error})."
        raise InvalidInputError(message) from error


def merge(found: Sequence[Found]) -> tuple[list[Found], list[str]]:
    """Make one evaluation of those with the same judge, photos and measures.

    Differences between methods of several runs are taken photo by photo from each run's
    ``values.csv``. A method that several runs have stays once for each, named by its run's place.

    Args:
        found: in the order in which they were given.

    Returns:
        The evaluations, merged where they fit, and what the user should know.

    Raises:
        ArtifactError: a ``values.csv`` is not the one that belongs to its results.
    """
    groups: dict[tuple[object, ...], list[Found]] = {}
    notes = []
    for one in found:
        groups.setdefault(_kind(one.evaluation), []).append(one)
    merged = []
    for group in groups.values():
        if len(group) == 1:
            merged.append(group[0])
        elif all((one.folder / VALUES).is_file() for one in group):
            merged.append(_merge(group))
        else:
            missing = ", ".join(o.name for o in group if not (o.folder / VALUES).is_file())
            notes.append(f"no values.csv beside {missing}: shown apart, without differences")
            merged += group
    return merged, notes


def _kind(evaluation: Evaluation) -> tuple[object, ...]:
    """Return what two evaluations must share for their methods to stand in one table."""
    measures = tuple(one.model_dump_json() for one in evaluation.measures)
    return (evaluation.judge_sha256, evaluation.photos_sha256, evaluation.photos, measures)


def _merge(group: Sequence[Found]) -> Found:
    first = group[0].evaluation
    columns = first.measures
    values: ByPhoto = {}
    methods: list[MethodRecord] = []
    for place, one in enumerate(group, start=1):
        of_run = _read_values(one)
        for method in one.evaluation.methods:
            renamed = _renamed(method, place, one.evaluation)
            methods.append(renamed)
            values[renamed.name] = of_run.get(method.name, {})
    photos = range(first.photos)
    arrays = {
        name: {
            c.name: np.array([by_photo.get(photo, {}).get(c.name, np.nan) for photo in photos])
            for c in columns
        }
        for name, by_photo in values.items()
    }
    methods = [_compared(method, arrays, first.reference, columns) for method in methods]
    contestants = _contestants(methods, first.photos)
    verdicts = []
    for column in columns:
        of = {name: arrays[name][column.name] for name in contestants}
        complete = [name for name, numbers in of.items() if not np.isnan(numbers).any()]
        verdicts.append(verdict(column, of, complete))
    note = (
        f"merged from {len(group)} runs: times of different runs and machines stand side by side; "
        "each method names its runtime"
    )
    evaluation = first.model_copy(
        update={
            "methods": methods,
            "verdicts": [one for one in verdicts if one is not None],
            "warnings": [*first.warnings, note],
        }
    )
    return Found(evaluation, group[0].folder, group[0].name)


def _contestants(methods: Sequence[MethodRecord], photos: int) -> list[str]:
    """Return who takes part in naming a winner: once, where several runs have a method.

    P-TAME with another explainer is another contestant, with the same one it is not.
    """
    found: dict[tuple[object, ...], str] = {}
    for method in methods:
        name, own = plain_name(method), method.family == "p-tame"
        if (
            method.status == "measured"
            and method.photos == photos
            and (not own or name in COMPETING)
        ):
            found.setdefault(
                (name, tuple(sorted(method.settings.items())) if own else ()), method.name
            )
    return list(found.values())


def _renamed(method: MethodRecord, place: int, evaluation: Evaluation) -> MethodRecord:
    if place == 1:
        return method
    where = evaluation.device.gpu or evaluation.device.cpu
    return method.model_copy(
        update={
            "name": f"{method.name}@{place}",
            "label": f"{method.label} (run {place})",
            "reason": "; ".join(filter(None, (method.reason, f"run {place}, on {where}"))),
        }
    )


def _compared(
    method: MethodRecord,
    arrays: dict[str, dict[str, Values]],
    reference: str | None,
    columns: Sequence[Column],
) -> MethodRecord:
    def against(name: str | None) -> dict[str, object]:
        if name is None or name not in arrays or name == method.name:
            return {}
        pairs = {
            c.name: difference(arrays[method.name][c.name], arrays[name][c.name]) for c in columns
        }
        return {column: one for column, one in pairs.items() if one is not None}

    if method.status == "skipped":
        return method
    return method.model_copy(
        update={
            "against_reference": against(reference), "against_gaussian": against(GAUSSIAN),
        }
    )  # fmt: skip


def _read_values(found: Found) -> ByPhoto:
    """Read a run's values by photo.

    Raises:
        ArtifactError: they are not those that the results were made of.
    """
    path = found.folder / VALUES
    content = path.read_bytes()
    if sha256(content).hexdigest() != found.evaluation.values_sha256:
        message = f"{path} is not the file that belongs to its {RESULTS} (SHA-256 differs)."
        raise ArtifactError(message)
    names = {record.name for record in found.evaluation.measures}
    values: ByPhoto = {}
    for row in csv.DictReader(io.StringIO(content.decode("utf-8"))):
        numbers = {name: float(row[name]) for name in names if row[name]}
        values.setdefault(row["method"], {})[int(row["number"])] = numbers
    return values
