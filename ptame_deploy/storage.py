"""Files that appear whole or not at all, and the hashes that bind artifacts together."""

import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ptame_deploy.errors import InvalidInputError, MissingRequirementError

_UMASK = threading.Lock()
# A complete artifact whose files are being moved to their place; its file that comes last.
_PENDING, _LAST = ".ptame-pending", ".last"
_ABANDONED = 3600.0  # seconds after which a dead process's stage is removed


def cache_folder(name: str) -> Path:
    """Return the folder of a cache: ``$XDG_CACHE_HOME/ptame/NAME``, else under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ptame" / name


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_REMEDY = "choose another -o"


@contextmanager
def writable(target: Path, remedy: str = _REMEDY) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the target and the remedy.

    Args:
        target: what is written.
        remedy: what its writer can do instead, in words that end the message's sentence.

    Raises:
        InvalidInputError: it cannot be written.
        MissingRequirementError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"No room left on the disk while writing {target}. Free some, or {remedy}."
            raise MissingRequirementError(message) from error
        if error.errno in (
            errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
            errno.ENAMETOOLONG, errno.ENOENT, errno.ELOOP,
        ):  # fmt: skip
            message = f"Cannot write {target}: {error.strerror}. {remedy[0].upper()}{remedy[1:]}."
            raise InvalidInputError(message) from error
        raise


def check_writable(directory: Path, remedy: str = _REMEDY) -> None:
    """Find out before minutes of work whether a folder can be written; it is not made.

    Args:
        directory: that is going to be written.
        remedy: see `writable`.

    Raises:
        InvalidInputError: it cannot.
        MissingRequirementError: the disk is full.
    """
    with writable(directory, remedy):
        nearest = directory
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
        with tempfile.TemporaryDirectory(prefix=".ptame-", dir=nearest):
            pass


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; it takes the name once complete.

    On any failure, an interrupt included, the temporary file is removed and what ``path`` held
    before stays.

    Raises:
        InvalidInputError: the folder cannot be written.
        MissingRequirementError: the disk is full.
    """
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".ptame-", suffix=path.suffix, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (see `atomic_file`)."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def staged_artifact(directory: Path, manifest: str) -> Iterator[Path]:
    """Give an empty folder to write an artifact's files to; they move to ``directory`` together.

    A kill at any moment leaves the old artifact or the new one: a complete stage is renamed to
    ``.ptame-pending`` first, and whoever comes next, reader or writer, finishes moving its files.
    The manifest, which holds the other files' hashes, goes first from the old artifact and comes
    last with the new one: what reads in between finds no artifact, never a mixed one.

    Args:
        directory: where the artifact belongs; made if need be, other files in it are kept.
        manifest: name of the JSON file that makes the files an artifact.

    Raises:
        InvalidInputError: the folder cannot be written.
        MissingRequirementError: the disk is full.
    """
    with writable(directory):
        is_new = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        _sweep(directory)
        stage = Path(tempfile.mkdtemp(prefix=_stage_prefix(), dir=directory))
        try:
            yield stage
            for path in stage.iterdir():
                path.chmod(0o666 & ~_umask())  # ONNX writes external weights for their owner alone
                _flush(path)
            assert (stage / manifest).is_file()
            (stage / _LAST).write_text(manifest, encoding="utf-8")
            _commit(stage, directory)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            if is_new and not any(directory.iterdir()):
                directory.rmdir()


def _commit(stage: Path, directory: Path) -> None:
    with _locked(directory):
        _finish(directory)  # of a writer that was killed
        stage.rename(directory / _PENDING)
        _finish(directory)


def finish_pending(directory: Path) -> None:
    """Move a complete artifact's files to their place, where somebody was killed before that.

    Raises:
        OSError: the folder cannot be written.
    """
    if (directory / _PENDING).is_dir():
        with _locked(directory):
            _finish(directory)


def _finish(directory: Path) -> None:
    pending = directory / _PENDING
    if not pending.is_dir():  # done meanwhile
        return
    # A folder from elsewhere may hold anything: no link out of it is followed, no path leaves it.
    if pending.is_symlink():
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(pending))
    if (pending / _LAST).is_file():  # else all is done but the removal
        with (pending / _LAST).open("rb") as file:
            last = pending / Path(os.fsdecode(file.read(255))).name
        if last.is_file():
            (directory / last.name).unlink(missing_ok=True)
            for path in sorted(pending.iterdir()):
                if path.name not in (last.name, _LAST):
                    path.replace(directory / path.name)
            last.replace(directory / last.name)
    shutil.rmtree(pending)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Be the only one that moves files here, where the file system has locks for folders."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _stage_prefix() -> str:
    return f".ptame-{platform.node()[:40]}-{os.getpid()}-"


def _sweep(directory: Path) -> None:
    """Remove stages whose writers were killed here; young ones may be of another container."""
    pattern = re.compile(rf"\.ptame-{re.escape(platform.node()[:40])}-(\d+)-.+")
    for path in directory.iterdir():
        found = pattern.fullmatch(path.name)
        if found is None:
            continue
        try:
            if path.stat().st_mtime < time.time() - _ABANDONED:
                os.kill(int(found[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except OSError:  # gone by itself, or the process of somebody else
            continue


def publish(staged: Path, target: Path) -> None:
    """Give a folder that is complete its name at last; ``target`` must not be there.

    Args:
        staged: on the same disk.
        target: its name.
    """
    for path in staged.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~_umask())
            _flush(path)
    staged.rename(target)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    with _UMASK:  # it can be read by setting it alone, which is the whole process's
        mask = os.umask(0)
        os.umask(mask)
        return mask
