"""The photos of a shard, one after the other, wherever they are."""

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from engines.archive.locations import is_local, open_location
from engines.archive.shards import Shard
from ptame_deploy.photos import UnreadablePhotoError, decode_photo, open_photo, printable
from ptame_deploy.tar_photos import photos_in_tar

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ROWS_AT_ONCE = 64  # of a Parquet file, whose photos are in memory together


@dataclass(frozen=True)
class Item:
    """A photo to be read.

    Attributes:
        photo: the file that holds it.
        key: its name in a tar file, its row in a Parquet file (or what the key's column says);
            None for a file of its own.
        open: reads and decodes it. It raises UnreadablePhotoError where there is no photo in the
            bytes; whatever else it raises says that they could not be had, now.
    """

    photo: str
    key: str | None
    open: Callable[[], Image.Image]


def photos_of(shard: Shard, key_column: str | None = None) -> Iterator[Item]:
    """List the photos of a shard in order.

    Raises:
        OSError: a tar or Parquet file cannot be read; other file systems raise errors of their own.
    """
    if shard.kind == "photos":
        _refuse_another_machines(shard)
        for url in shard.urls:
            yield Item(printable(url), None, _opener_of_file(url))
        return
    fs, path = open_location(shard.urls[0])
    if shard.kind == "tar":
        yield from _photos_of_tar(fs, path, shard)
    else:
        yield from _photos_of_parquet(fs, path, shard, key_column)


def _refuse_another_machines(shard: Shard) -> None:
    """See that files are on this machine too: one may vanish, all are a disk that is not here."""
    local = [url for url in shard.urls if is_local(open_location(url)[0])]
    if local and not any(os.path.lexists(url) for url in local):
        message = f"none of its photos is on this machine ({printable(local[0])} ...)"
        raise FileNotFoundError(message)


def _opener_of_file(url: str) -> Callable[[], Image.Image]:
    fs, path = open_location(url)
    if is_local(fs):
        return lambda: open_photo(Path(url))

    def opened() -> Image.Image:
        try:
            content = fs.cat_file(path)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            message = f"{printable(url)}: cannot be read ({error})"
            raise UnreadablePhotoError(message) from error
        return decode_photo(lambda: BytesIO(content), printable(url))

    return opened


def _photos_of_tar(fs: "AbstractFileSystem", path: str, shard: Shard) -> Iterator[Item]:
    name = printable(shard.urls[0])
    with fs.open(path, "rb") as file:
        try:
            for position, photo in enumerate(photos_in_tar(file)):
                if shard.count is not None and position >= shard.first + shard.count:
                    return
                if position >= shard.first:
                    file.seek(photo.offset)
                    content = file.read(photo.size)
                    key = printable(photo.name)
                    yield Item(name, key, _opener(content, f"{name}:{key}"))
        except tarfile.TarError as error:
            # Photos behind the damage cannot be found: the archive says so in a row of its own.
            yield Item(name, None, _broken(f"{name}: {error}; photos behind that are missing"))


def _photos_of_parquet(
    fs: "AbstractFileSystem", path: str, shard: Shard, key_column: str | None
) -> Iterator[Item]:
    from pyarrow.parquet import ParquetFile

    name = printable(shard.urls[0])
    assert shard.count is not None
    assert shard.column is not None
    with fs.open(path, "rb") as file, ParquetFile(file) as parquet:
        metadata = parquet.metadata
        row = sum(metadata.row_group(group).num_rows for group in range(shard.first))
        columns = [shard.column] if key_column is None else [shard.column, key_column]
        groups = list(range(shard.first, shard.first + shard.count))
        for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=columns):
            for values in batch.to_pylist():
                key = str(row) if key_column is None else str(values[key_column])
                content = _content(values[shard.column])
                if content is None:
                    yield Item(name, key, _broken(f"{name}:{key}: no bytes"))
                else:
                    yield Item(name, key, _opener(content, f"{name}:{key}"))
                row += 1


def _content(value: Any) -> bytes | None:
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


def _opener(content: bytes, name: str) -> Callable[[], Image.Image]:
    return lambda: decode_photo(lambda: BytesIO(content), name)


def _broken(message: str) -> Callable[[], Image.Image]:
    def opened() -> Image.Image:
        raise UnreadablePhotoError(message)

    return opened
