"""On a disk that is full or read-only, commands say so and leave what was there."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ptame_deploy.cli import run
from tests.conftest import OWN_OPTIONS, TINY_OPTIONS

pytestmark = pytest.mark.integration

# Shares of what a command needs that its disk has room for: the beginning, the middle, the end.
SHARES = (0.02, 0.5, 0.9)
STARTS_RAY = "explain-archive"  # which takes so long to start that the middle must do
PAGE = 4096


@dataclass
class Disk:
    """A small disk of its own."""

    path: Path
    mounted: bool = field(default=False)

    def mount(self, *options: str) -> None:
        """Mount it, or skip the test: not everybody may."""
        self.path.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self.path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount here")
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        self.mounted = True

    def unmount(self) -> None:
        """Unmount it; what was on it is gone."""
        if self.mounted:
            subprocess.run(["umount", str(self.path)], check=True)
            self.mounted = False


@pytest.fixture
def disk(tmp_path):
    found = Disk(tmp_path / "disk")
    yield found
    found.unmount()


@pytest.fixture
def sources(tmp_path, tiny_file, tiny_artifact, make_photos):
    """What commands read, outside the disk."""
    photos = tmp_path / "photos"
    photos.mkdir()
    make_photos(photos, 24)
    return {"photos": photos, "graph": tiny_artifact, "classifier": f"{tiny_file}:build"}


def words(command, sources, out):
    """Return a command line that writes to a place, and what it makes there."""
    graph, photos = str(sources["graph"]), str(sources["photos"])
    classifier = ["--backbone", sources["classifier"]]
    quick = ["--methods", "gaussian,random", "--measures", "insertion", "--steps", "4", "--limit",
             "4", "--sanity-photos", "0", "--threads", "1"]  # fmt: skip
    return {
        "export": ["export", *classifier, *OWN_OPTIONS, "-o", out],
        "train": ["train", photos, *classifier, *TINY_OPTIONS, "--masks", "4", "--allow-no-gain",
                  "--no-cache", "-o", out],
        "quantize": ["quantize", graph, photos, "--precision", "fp16", "--allow-drift",
                     "--max-kept", "0", "-o", out],
        "build": ["build", graph, "--runtime", "tensorrt-rtx", "-o", out],
        "evaluate": ["evaluate", "--model", graph, "--images", photos, *quick, "-o", out],
        "bench": ["bench", graph, "--batch", "1", "--iterations", "2", "--seconds", "0.01",
                  "--rise-masks", "0", "--no-memory", "--threads", "1", "--json", f"{out}/b.json"],
        "explain": ["explain", graph, photos, "--page", "--save-maps", "-o", out],
        "explain-archive": ["explain-archive", graph, photos, "-o", out],
        "triton": ["triton", graph, "--repository", out, "--name", "m"],
        "cpp-example": ["cpp-example", graph, "-o", out],
    }[command]  # fmt: skip


ARTIFACTS = ("export", "train", "quantize", "build")
COMMANDS = (*ARTIFACTS, "evaluate", "bench", "explain", STARTS_RAY, "triton", "cpp-example")
# What stays of a command that failed: what it goes on from the next time, or a training's page.
KEPT = {"evaluate": "out/work/", "train": "out/training/", STARTS_RAY: "out/"}


def contents(folder):
    """Return hashes of all files in a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def used(folder):
    """Bytes of a folder's files on a disk of pages."""
    sizes = (path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return sum(-(-size // PAGE) * PAGE for size in sizes)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_exit_3_and_what_was_there_stays(command, sources, disk, tmp_path, capsys):
    whole = tmp_path / "whole"
    assert run(words(command, sources, str(whole))) == 0
    need = used(whole)
    old = need if command in ARTIFACTS else 0
    shares = SHARES[1:2] if command == STARTS_RAY else SHARES
    for size in sorted({max(PAGE, int(need * share) // PAGE * PAGE) for share in shares}):
        if size >= need:  # it would fit
            continue
        disk.mount(f"size={old + size}", "mode=777")
        if old:
            shutil.copytree(whole, disk.path / "out")
        before = contents(disk.path)
        capsys.readouterr()
        code = run(words(command, sources, str(disk.path / "out")))
        after, said = contents(disk.path), capsys.readouterr().err
        disk.unmount()
        assert code == 3, (size, said)
        assert "No room left" in said
        assert "Traceback" not in said
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        if command == "explain":  # pictures that were finished are whole
            done = {f"out/{name}": digest for name, digest in contents(whole).items()}
            changed = {name for name in changed if done.get(name) != after.get(name)}
        assert not [name for name in changed if not name.startswith(KEPT.get(command, "-"))]


@pytest.mark.parametrize("size", [PAGE, 3 * PAGE])
def test_scores_that_cannot_be_kept_are_said(sources, disk, tmp_path, capsys, monkeypatch, size):
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk.path))
    disk.mount(f"size={size}")
    command = words("train", sources, str(tmp_path / "out"))
    command.remove("--no-cache")
    assert run(command) == 3
    said = capsys.readouterr().err
    assert "No room left on the disk" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_disk_is_exit_2(command, sources, disk, capsys):
    disk.mount("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    assert run(words(command, sources, str(disk.path / "out"))) == 2
    said = capsys.readouterr().err
    assert "Cannot write" in said
    assert "Traceback" not in said
    assert "Exporting" not in said  # it is told before minutes of work
