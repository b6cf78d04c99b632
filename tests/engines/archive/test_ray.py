"""The command with Ray, its workers and its driver killed: every photo once, the same answers."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray", reason="extra: archive")

from ptame_deploy import Explainer, read_archive

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHARDS = 12


@pytest.fixture
def command(tiny_artifact, big_photos, tmp_path):
    """The words of a command whose shards take long enough to be killed in."""
    words = [sys.executable, "-m", "ptame_deploy", "explain-archive", str(tiny_artifact)]
    words += [str(big_photos), "-o", str(tmp_path / "out"), "--workers", "2", "--threads", "1"]
    return [*words, "--shard-size", "3"]


@pytest.fixture(scope="module")
def big_photos(tmp_path_factory):
    """Photos whose decoding takes a while."""
    folder = tmp_path_factory.mktemp("big")
    rng = np.random.default_rng(5)
    for number in range(3 * SHARDS):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        large = coarse.resize((2400, 1800), Image.Resampling.BICUBIC)
        large.save(folder / f"{number:02}.png", compress_level=1)
    return folder


def parts(tmp_path):
    return sorted((tmp_path / "out").glob("part-*.parquet"))


def wait_for_part(process, tmp_path, seconds=240):
    end = time.monotonic() + seconds
    while not parts(tmp_path):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no part was made in time"
        time.sleep(0.05)


def processes_of(root):
    """Processes below one, with their titles: Ray names its workers after what they run."""
    children, titles = {}, {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                stat = (path / "stat").read_text()
                titles[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.name))
    found, todo = {}, [root]
    while todo:
        todo += children.get(todo[0], [])
        found[todo[0]] = titles.get(todo[0], "")
        todo.pop(0)
    return found


def workers_of(process):
    titles = processes_of(process.pid)
    return [pid for pid, title in titles.items() if title.startswith("ray::") and "Map" in title]


def assert_is_whole(tmp_path, artifact, folder):
    rows = list(read_archive(tmp_path / "out"))
    names = sorted(path.name for path in folder.iterdir())
    assert Counter(Path(row.photo).name for row in rows) == Counter(names)
    explainer = Explainer.load(artifact, threads=1)
    for row in rows[:: len(rows) // 4]:
        expected = explainer(row.photo)
        assert row.class_index == expected.class_index[0].tolist()
        np.testing.assert_allclose(row.probability, expected.probability[0], atol=1e-5)
        np.testing.assert_allclose(row.saliency, expected.saliency[0], atol=0.5 / 255 + 1e-5)
    assert len(parts(tmp_path)) == SHARDS
    assert not list((tmp_path / "out").glob(".ptame-*.parquet"))


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    return process.returncode, out, err


def wait_until_gone(pids, seconds=60):
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, f"{left} outlive the command"
        time.sleep(0.1)


def test_a_worker_is_killed(command, tiny_artifact, big_photos, tmp_path):
    process = start(command)
    wait_for_part(process, tmp_path)
    workers = workers_of(process)
    assert len(workers) == 2
    before = len(parts(tmp_path))
    os.kill(workers[0], signal.SIGKILL)
    code, out, err = finish(process)
    assert before < SHARDS
    assert code == 0, err
    assert f"Explained {3 * SHARDS} of {3 * SHARDS} photos" in out
    assert_is_whole(tmp_path, tiny_artifact, big_photos)


def test_the_driver_is_killed_and_the_same_command_goes_on(
    command, tiny_artifact, big_photos, tmp_path
):
    process = start(command)
    wait_for_part(process, tmp_path)
    started = workers_of(process)  # Ray's agents, which touch no archive, notice a little later
    process.kill()
    process.communicate()
    wait_until_gone(started)
    done = {path.name: path.stat().st_mtime_ns for path in parts(tmp_path)}
    assert 0 < len(done) < SHARDS
    code, out, err = finish(start(command))
    assert code == 0, err
    assert f"This run: {3 * (SHARDS - len(done))} photos" in out
    assert done.items() <= {path.name: path.stat().st_mtime_ns for path in parts(tmp_path)}.items()
    assert_is_whole(tmp_path, tiny_artifact, big_photos)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_is_asked_to_stop(command, tmp_path, number, expected):
    process = start(command)
    wait_for_part(process, tmp_path)
    started = [pid for pid in processes_of(process.pid) if pid != process.pid]
    process.send_signal(number)
    code, _, err = finish(process)
    assert code == expected, err
    assert "the same command goes on with the others" in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    wait_until_gone(started)
    assert 0 < len(parts(tmp_path)) < SHARDS
