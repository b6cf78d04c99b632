"""Shards: what a worker does at once, and what is either wholly in the archive or not at all.

The same inputs and settings always give the same shards, so that a run that was killed needs no
list of what it was to do: it is made again, and compared by its hash.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from engines.archive.locations import Entry, Kind, is_local, open_location, reachable
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import printable
from ptame_deploy.tar_photos import photos_in_tar

if TYPE_CHECKING:
    import pyarrow as pa

# Columns that are looked for, in this order, where none is named.
IMAGE_COLUMNS = ("image", "img", "photo", "picture", "jpg", "jpeg", "png", "webp", "bytes")


@dataclass(frozen=True)
class Shard:
    """Photos that become one part of the archive.

    Attributes:
        number: of the part, from 0.
        kind: of the files.
        urls: files; one where it is a tar or a Parquet file.
        first: of a tar file the first photo, of a Parquet file the first group of rows.
        count: how many photos or groups; None for all that come.
        photos: how many photos; None where only reading tells.
        column: of a Parquet file's images.
    """

    number: int
    kind: Kind
    urls: tuple[str, ...]
    first: int = 0
    count: int | None = None
    photos: int | None = None
    column: str | None = None


def plan_shards(
    entries: Sequence[Entry],
    *,
    size: int,
    image_column: str | None = None,
    key_column: str | None = None,
) -> list[Shard]:
    """Cut inputs into shards.

    Files are taken together. A tar file on this machine is cut where it has more photos than a
    shard; elsewhere it is one shard, since to find its photos is to read all of it. Parquet files
    are cut between groups of rows.

    Args:
        entries: files with photos, in order.
        size: photos of a shard; those of a tar file elsewhere or of a single group of rows may be
            more.
        image_column: of Parquet files; None to look for it.
        key_column: must be there in Parquet files.

    Raises:
        InvalidInputError: a tar or Parquet file that cannot be read, or has no such column.
    """
    shards: list[Shard] = []
    for kind, run in groupby(entries, key=lambda entry: entry.kind):
        if kind == "photos":
            urls = [entry.url for entry in run]
            for start in range(0, len(urls), size):
                some = tuple(urls[start : start + size])
                shards.append(Shard(len(shards), kind, some, photos=len(some)))
            continue
        for entry in run:
            cut = _cut_tar if kind == "tar" else _parquet_cutter(image_column, key_column)
            for first, count, photos, column in cut(entry.url, size):
                shards.append(Shard(len(shards), kind, (entry.url,), first, count, photos, column))
    if not any(shard.photos is None or shard.photos for shard in shards):
        message = "The tar and Parquet files hold no photo."
        raise InvalidInputError(message)
    return shards


def fingerprint(entries: Sequence[Entry]) -> str:
    """Return a hash of what the inputs are: names, sizes, and marks of their content."""
    digest = hashlib.sha256()
    for entry in entries:
        line = f"{printable(entry.url)}\0{entry.size}\0{entry.stamp}\n"
        digest.update(line.encode())
    return digest.hexdigest()


_Cut = tuple[int, int | None, int | None, str | None]  # first, count, photos, column


def _cut_tar(url: str, size: int) -> Iterator[_Cut]:
    fs, path = open_location(url)
    if not is_local(fs):
        yield 0, None, None, None
        return
    with reachable(url), fs.open(path, "rb") as file:
        total = sum(1 for _ in photos_in_tar(file))
    for first in range(0, total, size):
        count = min(size, total - first)
        yield first, count, count, None


def _parquet_cutter(
    image_column: str | None, key_column: str | None
) -> Callable[[str, int], Iterator[_Cut]]:
    def cut(url: str, size: int) -> Iterator[_Cut]:
        from pyarrow.parquet import ParquetFile

        fs, path = open_location(url)
        with reachable(url), fs.open(path, "rb") as file, ParquetFile(file) as parquet:
            schema, metadata = parquet.schema_arrow, parquet.metadata
            rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        column = _image_column(schema, url, image_column)
        if key_column is not None and key_column not in schema.names:
            raise InvalidInputError(_no_column(url, "--key-column", key_column, schema))
        first = photos = 0
        for group, count in enumerate(rows):
            photos += count
            last = group == len(rows) - 1
            if photos >= size or last or photos + rows[group + 1] > size:
                yield first, group + 1 - first, photos, column
                first, photos = group + 1, 0

    return cut


def _image_column(schema: "pa.Schema", url: str, named: str | None) -> str:
    """Find the column of encoded photos: bytes, or as Hugging Face has it a struct with bytes."""
    if named is not None:
        if named not in schema.names:
            raise InvalidInputError(_no_column(url, "--image-column", named, schema))
        if not _holds_bytes(schema.field(named).type):
            message = (
                f"{printable(url)}: column {named!r} is {schema.field(named).type}; photos are "
                "bytes of files, or a struct with such bytes."
            )
            raise InvalidInputError(message)
        return named
    fitting = [field.name for field in schema if _holds_bytes(field.type)]
    known = [name for name in IMAGE_COLUMNS if name in fitting]
    if known or len(fitting) == 1:
        return str((known or fitting)[0])
    message = (
        f"{printable(url)}: which column holds the photos? Say so with --image-column; there are "
        f"{', '.join(schema.names)}."
    )
    raise InvalidInputError(message)


def _holds_bytes(kind: "pa.DataType") -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        names = [kind.field(number).name for number in range(kind.num_fields)]
        return "bytes" in names and _holds_bytes(kind.field(names.index("bytes")).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _no_column(url: str, option: str, name: str, schema: "pa.Schema") -> str:
    return f"{printable(url)} has no column {name!r} ({option}); it has {', '.join(schema.names)}."
