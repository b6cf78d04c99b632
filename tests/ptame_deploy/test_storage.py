import errno
import multiprocessing
import os
import platform
import subprocess
import time

import pytest

from ptame_deploy.errors import InvalidInputError, MissingRequirementError
from ptame_deploy.storage import (
    atomic_file,
    cache_folder,
    finish_pending,
    sha256_of_file,
    staged_artifact,
    write_text,
)

pytestmark = pytest.mark.unit


def listing(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_appears_whole(tmp_path):
    write_text(tmp_path / "sub" / "a.txt", "new")
    assert (tmp_path / "sub" / "a.txt").read_text() == "new"
    assert listing(tmp_path / "sub") == ["a.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "sub" / "a.txt").stat().st_mode & 0o777 == 0o666 & ~mask


def half_written(path, failure):
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(failure):
        half_written(tmp_path / "a.txt", failure)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert listing(tmp_path) == ["a.txt"]


def write_artifact(folder, content, failure=None):
    with staged_artifact(folder, "model.json") as stage:
        (stage / "model.onnx").write_text(content)
        if failure:
            raise failure
        (stage / "model.json").write_text(content)


def test_an_artifact_appears_whole_beside_other_files(tmp_path):
    folder = tmp_path / "deep" / "model"
    write_artifact(folder, "one")
    (folder / "notes.txt").write_text("mine")
    write_artifact(folder, "two")
    assert listing(folder) == ["model.json", "model.onnx", "notes.txt"]
    assert (folder / "model.onnx").read_text() == "two"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failed_artifact_leaves_the_old_one(tmp_path, failure):
    write_artifact(tmp_path / "model", "old")
    with pytest.raises(failure):
        write_artifact(tmp_path / "model", "new", failure)
    assert listing(tmp_path / "model") == ["model.json", "model.onnx"]
    assert (tmp_path / "model" / "model.onnx").read_text() == "old"


def test_a_failed_first_artifact_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError):
        write_artifact(tmp_path / "model", "new", RuntimeError)
    assert listing(tmp_path) == []


def test_while_files_move_there_is_no_manifest(tmp_path, monkeypatch):
    """Killed in the middle of the move, the folder must hold no artifact, not a mixed one."""
    from pathlib import Path

    write_artifact(tmp_path / "model", "old")
    replace, seen = Path.replace, []

    def spy(self, target):
        seen.append((Path(target).name, (tmp_path / "model" / "model.json").exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", spy)
    write_artifact(tmp_path / "model", "new")
    assert seen == [("model.onnx", False), ("model.json", False)]


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ENOSPC, MissingRequirementError, "No room left"),
        (errno.EACCES, InvalidInputError, "Choose another -o"),
        (errno.EROFS, InvalidInputError, "Choose another -o"),
    ],
)
def test_what_the_file_system_refuses_is_explained(tmp_path, number, kind, message):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(kind, match=message), atomic_file(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    with pytest.raises(kind, match=message):
        write_artifact(tmp_path / "model", "x", OSError(number, os.strerror(number)))
    assert (tmp_path / "a.txt").read_text() == "old"
    assert listing(tmp_path) == ["a.txt"]


def test_a_file_in_the_place_of_a_folder_is_explained(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidInputError, match="Choose another -o"):
        write_artifact(tmp_path / "taken", "x")
    with pytest.raises(InvalidInputError, match="Choose another -o"):
        write_text(tmp_path / "taken" / "a.txt", "x")


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(OSError, match="Bad file"), atomic_file(tmp_path / "a"):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_every_file_of_an_artifact_may_be_read_as_the_umask_says(tmp_path):
    with staged_artifact(tmp_path / "m", "m.json") as stage:
        (stage / "m.json").write_text("{}")
        (stage / "weights").touch(mode=0o600)
    before = os.umask(0o027)
    try:
        with staged_artifact(tmp_path / "n", "n.json") as stage:
            (stage / "n.json").touch(mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "m" / "weights").stat().st_mode == (tmp_path / "m/m.json").stat().st_mode
    assert (tmp_path / "n" / "n.json").stat().st_mode & 0o777 == 0o640


def test_caches_lie_where_the_user_has_them(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("scores") == tmp_path / "ptame" / "scores"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("calibration") == tmp_path / ".cache" / "ptame" / "calibration"


def write_many(folder, word, times):
    for number in range(times):
        write_artifact(folder, f"{word}{number}")


def test_two_writers_at_once_leave_one_whole_artifact(tmp_path):
    """And whoever reads meanwhile finds files of one writer, or none."""
    context = multiprocessing.get_context("fork")
    folder = tmp_path / "model"
    write_artifact(folder, "first")
    writers = [
        context.Process(target=write_many, args=(folder, word, 150)) for word in ("one", "other")
    ]
    for writer in writers:
        writer.start()
    checked = 0
    while any(writer.is_alive() for writer in writers):
        finish_pending(folder)
        try:
            before = (folder / "model.json").read_text()
            content = (folder / "model.onnx").read_text()
            after = (folder / "model.json").read_text()
        except FileNotFoundError:
            continue
        if before == after:
            assert content == before
            checked += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert checked
    assert listing(folder) == ["model.json", "model.onnx"]
    assert (folder / "model.json").read_text() in ("one149", "other149")


def test_stages_of_killed_writers_are_swept_once_they_are_old(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    node = platform.node()[:40]
    names = {
        "dead": f".ptame-{node}-{gone.pid}-x", "alive": f".ptame-{node}-{os.getpid()}-x",
        "young": f".ptame-{node}-{gone.pid}-y", "other": f".ptame-elsewhere-{gone.pid}-x",
    }  # fmt: skip
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("half")
    long_ago = time.time() - 7200
    for kind in ("dead", "alive", "other"):
        os.utime(tmp_path / names[kind], (long_ago, long_ago))
    write_artifact(tmp_path, "new")
    left = {kind for kind, name in names.items() if (tmp_path / name).exists()}
    assert left == {"alive", "young", "other"}


def test_a_folder_from_elsewhere_cannot_move_files_that_are_not_its_own(tmp_path):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    (mine / "key").write_text("secret")
    (mine / ".last").write_text("key")
    theirs.mkdir()
    (theirs / ".ptame-pending").symlink_to(mine)
    with pytest.raises(OSError, match="exists"):
        finish_pending(theirs)
    with pytest.raises(InvalidInputError, match="Choose another -o"):
        write_artifact(theirs, "new")
    assert (mine / "key").read_text() == "secret"
    (theirs / ".ptame-pending").unlink()
    (theirs / ".ptame-pending").mkdir()
    (theirs / ".ptame-pending" / ".last").write_text("../../mine/key")
    finish_pending(theirs)
    assert (mine / "key").read_text() == "secret"
    assert listing(theirs) == []
    for odd in (b"", b"\xff\x00", b"x" * 5000):
        (theirs / ".ptame-pending").mkdir()
        (theirs / ".ptame-pending" / ".last").write_bytes(odd)
        finish_pending(theirs)
        assert listing(theirs) == []
