"""What one worker does: a model of its own, and shard after shard into parts of the archive."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.archive.folder import ArchiveFolder
from engines.archive.manifest import Settings
from engines.archive.reading import Item, photos_of
from engines.archive.shards import Shard
from engines.archive.table import PartWriter, explained_row
from engines.explainer import Explainer
from engines.plan import holds_plan
from ptame_deploy.artifacts import GRAPH_FILE
from ptame_deploy.errors import ArtifactError, CheckFailedError, InvalidInputError, PtameError

Opened = NDArray[np.uint8] | str  # what the classifier sees, or why there is nothing to see


@dataclass(frozen=True)
class Task:
    """What all workers do alike.

    Attributes:
        model: folder of the graph or the plan, on the worker's machine too.
        graph_sha256: that it must have there.
        output: path or URL of the archive.
        settings: of the archive.
        providers: ONNX Runtime's, of graphs.
        threads: a worker's: of the model on a CPU, and of decoding.
        batch_size: photos that run together.
    """

    model: Path
    graph_sha256: str
    output: str
    settings: Settings
    providers: tuple[str, ...]
    threads: int
    batch_size: int


@dataclass(frozen=True)
class Report:
    """What came of a shard.

    Attributes:
        number: of the shard.
        photos: in its part.
        bad: of them, those that could not be explained.
        began: seconds since the epoch, when the model was there.
        ended: likewise.
        failure: why there is no part; empty where there is one.
        error: class in `ptame_deploy.errors` of a failure that would meet every shard.
    """

    number: int
    photos: int = 0
    bad: int = 0
    began: float = 0.0
    ended: float = 0.0
    failure: str = ""
    error: str = ""


class ArchiveWorker:
    """Makes parts out of shards; opens its model when the first one comes."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._folder = ArchiveFolder(task.output)
        self._explainer: Explainer | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the shard in ``row["shard"]``; returns a `Report` by names.

        What goes wrong is told in the report: an error would be tried again as a killed worker is.
        """
        shard: Shard = row["shard"]
        try:
            report = self._explain(shard)
        except PtameError as error:
            report = Report(shard.number, failure=str(error), error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - file systems raise errors of their own
            reason = " ".join(str(error).split()) or type(error).__name__
            report = Report(shard.number, failure=f"{type(error).__name__}: {reason}")
        return asdict(report)

    def _explain(self, shard: Shard) -> Report:
        explainer = self._explainer = self._explainer or self._open_model()
        began = time.time()
        with self._folder.writing_part(shard.number) as path:
            photos, bad = explain_shard(
                explainer, shard, path, settings=self._task.settings, threads=self._task.threads
            )
        return Report(shard.number, photos, bad, began, time.time())

    def _open_model(self) -> Explainer:
        task = self._task
        explainer = Explainer.load(
            task.model,
            providers=task.providers,
            threads=0 if holds_plan(task.model) else task.threads,
            batch_size=task.batch_size,
        )
        if explainer.manifest.files[GRAPH_FILE].sha256 != task.graph_sha256:
            message = f"{task.model} on this worker's machine holds another model than it should."
            raise ArtifactError(message)
        return explainer


def explain_shard(
    explainer: Explainer, shard: Shard, path: Path, *, settings: Settings, threads: int
) -> tuple[int, int]:
    """Explain a shard's photos into a Parquet file, a row for each, in order.

    Threads decode the next batch while the model runs.

    Args:
        explainer: the model.
        shard: the photos.
        path: is written.
        settings: of the archive.
        threads: that decode.

    Returns:
        Photos, and those of them that could not be explained.

    Raises:
        OSError: a tar or Parquet file, or the network, cannot be read; other file systems raise
            errors of their own.
    """
    photos = bad = 0
    items = photos_of(shard, settings.key_column)
    with PartWriter(path) as part, ThreadPoolExecutor(threads) as pool:
        for batch, opened in _opened(explainer, items, pool):
            for row in _rows(explainer, batch, opened, settings):
                part.add(row)
                photos += 1
                bad += "error" in row
    return photos, bad


def _opened(
    explainer: Explainer, items: Iterator[Item], pool: ThreadPoolExecutor
) -> Iterator[tuple[list[Item], list[Opened]]]:
    """Decode batch after batch, the next one while the last one is explained."""

    def begin() -> tuple[list[Item], list[Future[Opened]]]:
        batch = list(islice(items, explainer.batch_size))
        return batch, [pool.submit(_open, explainer, item) for item in batch]

    ahead = begin()
    while ahead[0]:
        (batch, futures), ahead = ahead, begin()
        yield batch, [future.result() for future in futures]


def _open(explainer: Explainer, item: Item) -> Opened:
    try:
        return explainer.prepare(item.open())
    except InvalidInputError as error:
        return str(error)


def _rows(
    explainer: Explainer, items: Sequence[Item], opened: Sequence[Opened], settings: Settings
) -> list[dict[str, Any]]:
    readable = [position for position, one in enumerate(opened) if not isinstance(one, str)]
    answers: dict[int, dict[str, Any]] = {}
    if readable:
        images = np.stack([opened[position] for position in readable])
        asked = explainer.classes_for(settings.class_index, len(readable))
        try:
            explanation = explainer.explain_prepared(images, asked)
        except CheckFailedError as error:  # of one of them; which, is found out one by one
            if len(items) == 1:
                return [_bad_row(items[0], str(error))]
            return [
                row
                for item, one in zip(items, opened, strict=True)
                for row in _rows(explainer, [item], [one], settings)
            ]
        for place, position in enumerate(readable):
            item = items[position]
            answers[position] = explained_row(
                item.photo, item.key, explanation, place, settings.map_dtype
            )
    return [
        answers.get(position) or _bad_row(item, str(opened[position]))
        for position, item in enumerate(items)
    ]


def _bad_row(item: Item, error: str) -> dict[str, Any]:
    return {"photo": item.photo, "key": item.key, "error": error}
