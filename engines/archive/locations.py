"""Files and folders, here or wherever fsspec reaches: s3://, gs://, hf://, https://, ..."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from ptame_deploy.errors import InvalidInputError, MissingRequirementError
from ptame_deploy.photos import EXTENSIONS, printable
from ptame_deploy.tar_photos import COMPRESSED, TAR, compressed_message

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PARQUET = (".parquet", ".pq")
Kind = Literal["photos", "tar", "parquet"]
# What file systems call the mark of a file's content, the surest first.
_STAMPS = ("ETag", "etag", "md5Hash", "md5", "mtime", "LastModified", "last_modified", "updated")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that holds a photo, or many.

    Attributes:
        url: an absolute path, or a URL where it is not on this machine.
        kind: what it holds.
        size: in bytes.
        stamp: changes with its content: a hash or a time, as its file system has it.
    """

    url: str
    kind: Kind
    size: int
    stamp: str


def open_location(text: str) -> "tuple[AbstractFileSystem, str]":
    """Return the file system of a path or URL, and the path there.

    Credentials and other settings come from the environment, as fsspec's file systems take them.

    Raises:
        InvalidInputError: no file system is called so.
        MissingRequirementError: it needs a package that is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        found: tuple[AbstractFileSystem, str] = url_to_fs(text)
    except ImportError as error:
        message = f"{text} cannot be opened: {error}."
        raise MissingRequirementError(message) from error
    except ValueError as error:
        message = f"{printable(text)} cannot be opened: {error}."
        raise InvalidInputError(message) from error
    return found


def is_local(fs: "AbstractFileSystem") -> bool:
    """Whether a file system is this machine's own."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(fs, LocalFileSystem)


@contextmanager
def reachable(text: str, what: Literal["read", "written"] = "read") -> Iterator[None]:
    """Turn what a file system raises, each its own, into an error that names the location.

    Raises:
        InvalidInputError: it cannot be reached, read or written.
    """
    try:
        yield
    except (InvalidInputError, MissingRequirementError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"{printable(text)} cannot be {what}: {reason}."
        raise InvalidInputError(message) from error


def find_entries(sources: Sequence[str]) -> list[Entry]:
    """List the files with photos that paths and URLs name; each once, in a fixed order.

    Folders are searched recursively for photos, tar and Parquet files; a file that is named is
    taken for a photo whatever its ending, unless it is one of the other two.

    Raises:
        InvalidInputError: one does not exist or cannot be read, or there is nothing.
        MissingRequirementError: a file system needs a package that is not installed.
    """
    found: dict[str, Entry] = {}
    for source in sources:
        fs, path = open_location(source)
        with reachable(source):
            for entry in _entries(fs, path, source):
                found.setdefault(entry.url, entry)
    if not found:
        message = f"No photo, tar or Parquet file found in {printable(', '.join(sources))}."
        raise InvalidInputError(message)
    return list(found.values())


def _entries(fs: "AbstractFileSystem", path: str, source: str) -> Iterator[Entry]:
    if fs.isdir(path):
        yield from sorted(_inside(fs, path), key=lambda entry: entry.url)
    elif fs.exists(path):
        if path.lower().endswith(COMPRESSED):
            raise InvalidInputError(compressed_message(printable(source)))
        yield _entry(fs, fs.info(path), _kind(path) or "photos")
    elif matches := sorted(fs.glob(path)):
        for match in matches:
            yield from _entries(fs, match, match)
    else:
        message = f"{printable(source)} does not exist."
        raise InvalidInputError(message)


def _inside(fs: "AbstractFileSystem", folder: str) -> Iterator[Entry]:
    # A walk holds one folder's details at a time; those of millions of files would fill the memory.
    for _, _, files in fs.walk(folder, detail=True, on_error="raise"):
        for name, info in files.items():
            kind = _kind(name)
            if kind is not None:
                yield _entry(fs, info, kind)


def _entry(fs: "AbstractFileSystem", info: dict[str, Any], kind: Kind) -> Entry:
    stamp = next((str(info[name]) for name in _STAMPS if info.get(name)), "")
    path = str(info["name"])
    url = path if is_local(fs) else str(fs.unstrip_protocol(path))
    return Entry(url, kind, int(info.get("size") or 0), stamp)


def _kind(name: str) -> Kind | None:
    ending = PurePosixPath(name).suffix.lower()
    if ending == TAR:
        return "tar"
    if ending in PARQUET:
        return "parquet"
    return "photos" if ending in EXTENSIONS else None
