"""The folder of an archive, on this machine or wherever fsspec can write.

A part is written under another name and gets its own only when it is whole. So parts that are
there are done, whoever was killed meanwhile.
"""

import fcntl
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.archive.locations import is_local, open_location, reachable
from engines.archive.manifest import ARCHIVE_MANIFEST, ArchiveManifest, parse_manifest
from ptame_deploy.artifact_files import manifest_json
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import printable
from ptame_deploy.storage import atomic_file, check_writable, writable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_PART = re.compile(r"part-(\d{6,})\.parquet")
_LOCK = ".ptame-lock"


def _sweep(folder: Path) -> None:
    """Remove what those who were killed had begun to write."""
    for left in folder.glob(".ptame-*"):
        if left.name != _LOCK:
            left.unlink(missing_ok=True)


def part_name(number: int) -> str:
    """Return the file name of a part."""
    return f"part-{number:06d}.parquet"


class ArchiveFolder:
    """An archive's manifest and parts.

    Attributes:
        name: as it was given, for messages.
        location: the same from whichever folder a process works in.
    """

    def __init__(self, location: str) -> None:
        """Name a folder; nothing is read or made yet.

        Args:
            location: a path or a URL.

        Raises:
            InvalidInputError: no file system is called so.
            MissingRequirementError: it needs a package that is not installed.
        """
        self.name = printable(location)
        self._fs, self._path = open_location(location)
        self._local = Path(self._path) if is_local(self._fs) else None
        self.location = location if self._local is None else self._path

    def lies_in(self, source: str) -> bool:
        """Whether this is a folder of inputs, or inside of one."""
        fs, path = open_location(source)
        here, there = f"{self._path.rstrip('/')}/", f"{path.rstrip('/')}/"
        return type(fs) is type(self._fs) and here.startswith(there)

    def check_writable(self) -> None:
        """Find out before hours of work whether it can be written.

        Raises:
            InvalidInputError: it cannot.
            MissingRequirementError: the disk is full.
        """
        if self._local is not None:
            check_writable(self._local)

    def locked(self) -> "AbstractContextManager[None]":
        """Keep other runs away while this one works, and sweep up what a killed one left.

        Elsewhere than on this machine nothing can be locked: two runs then do the same work twice,
        and the same parts come of it.

        Raises:
            InvalidInputError: another run is at work.
        """
        return nullcontext() if self._local is None else self._lock(self._local)

    @contextmanager
    def _lock(self, folder: Path) -> Iterator[None]:
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / _LOCK).open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"Another ptame explain-archive is at work in {self.name}."
                raise InvalidInputError(message) from error
            _sweep(folder)
            try:
                yield
            finally:  # a worker of this run may have been killed too
                _sweep(folder)

    def read_manifest(self) -> ArchiveManifest | None:
        """Return what ``_archive.json`` says, or None where there is no archive.

        Raises:
            ArtifactError: it is damaged.
            InvalidInputError: it cannot be read.
        """
        path = self._join(ARCHIVE_MANIFEST)
        with reachable(self.name):
            if not self._fs.exists(path):
                return None
            text = self._fs.cat_file(path).decode("utf-8", "replace")
        return parse_manifest(text, f"{self.name}/{ARCHIVE_MANIFEST}")

    def write_manifest(self, manifest: ArchiveManifest) -> None:
        """Begin an archive.

        Raises:
            InvalidInputError: the folder cannot be written.
            MissingRequirementError: the disk is full.
        """
        with self._writing(ARCHIVE_MANIFEST) as temporary:
            temporary.write_text(manifest_json(manifest), encoding="utf-8")

    def parts(self) -> set[int]:
        """Return the numbers of the parts that are there."""
        with reachable(self.name):
            if not self._fs.exists(self._path):
                return set()
            names = [str(path).rsplit("/", 1)[-1] for path in self._fs.ls(self._path, detail=False)]
        return {int(found[1]) for name in names if (found := _PART.fullmatch(name))}

    def writing_part(self, number: int) -> "AbstractContextManager[Path]":
        """Give a file on this machine to write a part to; see `storage.atomic_file`."""
        return self._writing(part_name(number))

    @contextmanager
    def reading_part(self, number: int) -> Iterator[Any]:
        """Open a part as a binary file.

        Raises:
            InvalidInputError: it cannot be read.
        """
        with reachable(f"{self.name}/{part_name(number)}"):
            opened = self._fs.open(self._join(part_name(number)), "rb")
        with opened as file:
            yield file

    def _join(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        if self._local is not None:
            with atomic_file(self._local / name) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory(prefix="ptame-") as folder:
            yield Path(folder) / name
            # A file system puts it under its name at once; an object store copies it there whole.
            with reachable(self.name, "written"):
                self._fs.makedirs(self._path, exist_ok=True)
                self._fs.put_file(str(Path(folder) / name), self._join(f".ptame-{name}"))
                self._fs.mv(self._join(f".ptame-{name}"), self._join(name))
