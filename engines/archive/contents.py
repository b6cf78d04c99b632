"""What an archive holds: counted, and read back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.archive.folder import ArchiveFolder, part_name
from engines.archive.manifest import ARCHIVE_MANIFEST
from engines.archive.requirements import READING, require_packages
from engines.archive.shards import Shard
from engines.archive.table import ROWS_A_GROUP, decode_maps
from ptame_deploy.errors import ArtifactError, CheckFailedError, InvalidInputError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

MOST_NAMED = 10


@dataclass(frozen=True)
class ArchivedExplanation:
    """A row of an archive.

    Attributes:
        photo: the file that held the photo.
        key: its name in a tar file, its row or key in a Parquet file; None for a file of its own.
        class_index: K classes, best first (or as asked); None where there is no explanation.
        class_name: likewise.
        probability: likewise, by the classifier's head: softmax over all classes, or sigmoid.
        saliency: float32 (K, h, w) in [0, 1]; None also where the archive has no maps.
        error: why there is no explanation, or None.
    """

    photo: str
    key: str | None
    class_index: list[int] | None
    class_name: list[str] | None
    probability: list[float] | None
    saliency: NDArray[np.float32] | None
    error: str | None


def read_archive(
    location: str | Path, *, incomplete: bool = False
) -> Iterator[ArchivedExplanation]:
    """Read what ``ptame explain-archive`` wrote, row by row, in the order of its inputs.

    Args:
        location: path or URL of the archive.
        incomplete: read what is there of an archive that is not complete.

    Raises:
        InvalidInputError: there is no archive, or it is not complete.
        ArtifactError: its manifest or a part is damaged.
        MissingRequirementError: a package is not installed.
    """
    require_packages(READING)
    folder = ArchiveFolder(str(location))
    manifest = folder.read_manifest()
    if manifest is None:
        message = f"{folder.name} holds no {ARCHIVE_MANIFEST}: not an archive."
        raise InvalidInputError(message)
    parts = sorted(folder.parts())
    if len(parts) < manifest.shards and not incomplete:
        message = (
            f"{manifest.shards - len(parts)} of the {manifest.shards} parts of {folder.name} are "
            "not there yet: the command that began it goes on with it (or say incomplete=True)."
        )
        raise InvalidInputError(message)
    return _rows(folder, parts)


def count_rows(folder: ArchiveFolder, shards: Sequence[Shard]) -> tuple[int, int, list[str]]:
    """Count a complete archive.

    Args:
        folder: of the archive.
        shards: of the archive.

    Returns:
        Its rows; those without an explanation; the reasons of the first of them.

    Raises:
        CheckFailedError: a part has not the photos of its shard.
        ArtifactError: a part is damaged.
    """
    rows = bad = 0
    named: list[str] = []
    for shard in shards:
        with _part(folder, shard.number) as part:
            found = part.metadata.num_rows
            if shard.photos is not None and found < shard.photos:
                message = (
                    f"{folder.name}/{part_name(shard.number)} has {found} rows, not "
                    f"{shard.photos}: its inputs changed meanwhile. Remove it, and run the same "
                    "command again."
                )
                raise CheckFailedError(message)
            errors = part.read(columns=["error"])["error"].drop_null()
        rows += found
        bad += len(errors)
        named += errors.slice(0, MOST_NAMED - len(named)).to_pylist()
    return rows, bad, named


def _rows(folder: ArchiveFolder, parts: Sequence[int]) -> Iterator[ArchivedExplanation]:
    for number in parts:
        with _part(folder, number) as part:
            for batch in part.iter_batches(ROWS_A_GROUP):
                for row in batch.to_pylist():
                    yield ArchivedExplanation(
                        photo=row["photo"],
                        key=row["key"],
                        class_index=row["class_index"],
                        class_name=row["class_name"],
                        probability=row["probability"],
                        saliency=decode_maps(row),
                        error=row["error"],
                    )


@contextmanager
def _part(folder: ArchiveFolder, number: int) -> "Iterator[ParquetFile]":
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        with folder.reading_part(number) as file, ParquetFile(file) as part:
            yield part
    except ArrowInvalid as error:
        message = (
            f"{folder.name}/{part_name(number)} is damaged ({error}). Remove it, and run the "
            "command that made it again."
        )
        raise ArtifactError(message) from error
