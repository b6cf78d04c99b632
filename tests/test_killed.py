"""Killed at any change of its folder, a command leaves the old artifact or the new, never half."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from engines.plan import read_plan
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import ExplainerManifest, GraphManifest
from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError
from tests.conftest import OWN_OPTIONS

pytestmark = pytest.mark.integration
EVEN, LAST = 2, 6  # points of a command: some over all its changes, and its last ones
KILLED = "-9"


@pytest.fixture
def kill(tmp_path):
    """Run a command killed at changes of a folder; calls back before and after each."""

    def call(folder, command, after, prepare=lambda: None):
        script = Path(__file__).parent / "doubles/killed.py"
        environment = os.environ | {
            "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }  # fmt: skip
        log = tmp_path / "log"
        with log.open("w") as said, subprocess.Popen(
            [sys.executable, str(script), str(folder), *map(str, command)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
        ) as process:  # fmt: skip

            def until(point):
                prepare()
                process.stdin.write(f"{point}\n")
                process.stdin.flush()
                return process.stdout.readline().split()

            answer = until(10**9)
            assert answer[0] == "0", log.read_text()
            last = int(answer[1]) - 1
            assert last > 2
            spread = {round(i * last / EVEN) for i in range(EVEN)}
            for point in sorted({*spread, *range(max(0, last - LAST + 1), last + 1)}):
                assert until(point) == [KILLED], log.read_text()
                after()

    return call


def state(folder, name, model):
    """Which artifact a folder holds, by its hash; None where it holds none."""
    try:
        read_manifest(folder, name, model)  # every file's hash is checked
    except InvalidInputError:
        return None
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


def swap(folder, old):
    """Put the old artifact back."""

    def prepare():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(old, folder)

    return prepare


def test_export_leaves_the_old_graph_or_the_new_one(kill, tiny_file, tiny_artifact, tmp_path):
    out = tmp_path / "out"
    words = ["-q", "export", "--backbone", f"{tiny_file}:build", *OWN_OPTIONS, "--top-k", "1"]
    first = json.loads((tiny_artifact / "model.json").read_text())["top_k"]
    found = []

    def after():
        assert state(out, "model.json", GraphManifest) is not None
        found.append(json.loads((out / "model.json").read_text())["top_k"])
        kept = [path.name for path in out.iterdir() if not path.name.startswith(".ptame-")]
        assert sorted(kept) == ["model.json", "model.onnx"]

    kill(out, [*words, "-o", out], after, swap(out, tiny_artifact))
    assert found == sorted(found, reverse=True)  # the old one, then the new one
    assert set(found) == {first, 1}
    assert run([*words, "-o", str(out)]) == 0  # nothing that is left is in the way


def test_train_leaves_no_half_explainer(kill, tiny_file, make_photos, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    make_photos(photos, 24)
    words = ["-q", "train", photos, "--backbone", f"{tiny_file}:build", "--masks", "4"]
    sizes = [*OWN_OPTIONS, "--allow-no-gain", "-o", out]
    found = []

    def after():
        found.append(state(out, "explainer.json", ExplainerManifest) is not None)

    def prepare():
        shutil.rmtree(out, ignore_errors=True)

    kill(out, [*words, *sizes], after, prepare)
    assert found == sorted(found)  # none, then the whole one
    assert run(list(map(str, [*words, *sizes]))) == 0


def test_explain_leaves_whole_pictures_and_tables(kill, tiny_artifact, photo_folder, tmp_path):
    out = tmp_path / "out"
    words = ["-q", "explain", tiny_artifact, photo_folder, "--save-maps", "--page", "-o", out]

    def after():
        for path in out.glob("[!.]*"):
            if path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".html":
                assert path.read_text().rstrip().endswith("</html>")

    kill(out, words, after)
    assert run(list(map(str, words))) == 0


def test_quantize_leaves_the_old_graph_or_the_new_one(kill, tiny_artifact, make_photos, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    make_photos(photos, 8)
    words = ["-q", "quantize", tiny_artifact, photos, "--precision", "fp16", "--allow-drift",
             "--max-kept", "0", "-o", out]  # fmt: skip
    found = []

    def after():
        assert state(out, "model.json", GraphManifest) is not None
        found.append(json.loads((out / "model.json").read_text())["precision"])

    kill(out, words, after, swap(out, tiny_artifact))
    assert found == sorted(found, reverse=True)  # fp32, then fp16
    assert set(found) == {"fp32", "fp16"}


def test_build_leaves_the_old_plan_or_the_new_one(kill, tiny_artifact, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    old, out = tmp_path / "old", tmp_path / "out"
    words = ["-q", "build", str(tiny_artifact), "--runtime", "tensorrt-rtx", "--max-batch"]
    assert run([*words, "2", "-o", str(old)]) == 0
    found = []

    def after():
        found.append(read_plan(out).profile.max_batch)

    kill(out, [*words, "3", "-o", out], after, swap(out, old))
    assert found == sorted(found)
    assert set(found) == {2, 3}


def test_evaluate_goes_on_from_what_a_kill_left(kill, tiny_artifact, make_photos, tmp_path):
    photos, out, whole = tmp_path / "photos", tmp_path / "out", tmp_path / "whole"
    photos.mkdir()
    make_photos(photos, 4)
    words = ["-q", "evaluate", "--model", tiny_artifact, "--images", photos, "--methods",
             "gaussian,random", "--measures", "insertion", "--steps", "4", "--sanity-photos", "0",
             "--threads", "1", "--no-gallery", "--resume", "-o"]  # fmt: skip
    words = list(map(str, words))
    assert run([*words, str(whole)]) == 0
    expected = (whole / "values.csv").read_text()

    def after():
        assert run([*words, str(out)]) == 0
        assert (out / "values.csv").read_text() == expected

    def prepare():
        shutil.rmtree(out, ignore_errors=True)

    kill(out, [*words, out], after, prepare)


def test_bench_leaves_the_old_table_or_the_new_one(kill, tiny_artifact, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    out = work / "bench.json"
    words = ["-q", "bench", tiny_artifact, "--batch", "1", "--iterations", "2", "--seconds", "0.01",
             "--rise-masks", "0", "--no-memory", "--threads", "1", "--json", out]  # fmt: skip
    assert run(list(map(str, words))) == 0
    old = out.read_text()

    def prepare():
        out.write_text(old)

    def after():
        json.loads(out.read_text())

    kill(work, words, after, prepare)
    assert run(list(map(str, words))) == 0


@pytest.mark.parametrize("command", ["triton", "cpp-example"])
def test_folders_appear_whole(kill, tiny_artifact, tmp_path, command):
    work = tmp_path / "work"
    work.mkdir()
    out = work / "out"
    words = {
        "triton": ["-q", "triton", tiny_artifact, "--repository", out, "--name", "m"],
        "cpp-example": ["-q", "cpp-example", tiny_artifact, "-o", out],
    }[command]
    target = out / "m" if command == "triton" else out
    whole, found = [], []

    def listing():
        return sorted(str(path.relative_to(target)) for path in target.rglob("*"))

    def prepare():
        if target.exists() and not whole:
            whole.extend(listing())
        shutil.rmtree(out, ignore_errors=True)

    def after():
        found.append(listing() if target.exists() else [])

    kill(work, words, after, prepare)
    assert whole
    assert all(one in ([], whole) for one in found)
    prepare()
    assert run(list(map(str, words))) == 0


def test_what_a_killed_writer_left_is_finished_by_whoever_reads(tmp_path, tiny_artifact):
    """In the middle of moving: the new artifact, not none."""
    out, pending = tmp_path / "out", tmp_path / "out" / ".ptame-pending"
    shutil.copytree(tiny_artifact, pending)
    (pending / ".last").write_text("model.json")
    (pending / "model.onnx").replace(out / "model.onnx")
    assert read_manifest(out, "model.json", GraphManifest).top_k == 2
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.onnx"]
    pending.mkdir()  # killed in the middle of its removal
    assert read_manifest(out, "model.json", GraphManifest).top_k == 2
    assert not pending.exists()
