"""The benchmark of the C++ library beside Python: that it measures, and that it can fail."""

import json

import benchmark_cpp
import pytest
from PIL import Image

from bench.cpp_program import CppTurns
from ptame_deploy.errors import CheckFailedError

pytestmark = pytest.mark.integration


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (70, 70), "red").save(path)
    return path


@pytest.fixture
def benchmark(built, tiny_artifact, tmp_path, monkeypatch):
    for name, value in built.environment.items():
        monkeypatch.setenv(name, value)

    def call(*words):
        program, out = built.folder / "ptame-run", tmp_path / "out.json"
        words = [tiny_artifact, "--program", program, "--json", out, "--threads", 1, *words]
        monkeypatch.setattr("sys.argv", ["benchmark_cpp.py", *map(str, words)])
        return benchmark_cpp.main(), out

    return call


def test_both_are_measured_in_turns(benchmark):
    code, path = benchmark("--rounds", 3, "--runs", 2, "--limit", 1e6)
    assert code == 0
    report = json.loads(path.read_text())
    assert [one["batch"] for one in report["batches"]] == [1, 8]
    for one in report["batches"]:
        assert one["ratio"]["rounds"] == 3
        assert one["ratio"]["p25"] <= one["ratio"]["value"] <= one["ratio"]["p75"]
        assert one["cpp"]["runs"] == one["python"]["runs"] == 6
        assert one["cpp"]["p50_ms"] > 0
        assert one["cpp_runtime"] == one["python_runtime"]  # the same ONNX Runtime
    assert report["device"]["cpu"]
    assert report["provenance"]["versions"]["onnxruntime"]


def test_over_the_limit_is_exit_1(benchmark, capsys):
    code, path = benchmark("--rounds", 1, "--runs", 1, "--limit", 1e-6)
    assert code == 1
    assert path.is_file()
    assert "at batch 1, 8" in capsys.readouterr().err


def test_a_program_that_ends_says_why(built, photo, tmp_path):
    with (
        CppTurns(
            built.folder / "ptame-run", tmp_path / "nothing", [photo], threads=1, runs=1
        ) as turns,
        pytest.raises(CheckFailedError, match="nothing does not exist"),
    ):
        turns.turn()


def test_bench_prints_one_line(built, tiny_artifact, photo):
    done = built.run(tiny_artifact, photo, photo, "--bench", "3", "--threads", "1")
    told = json.loads(done.stdout)
    assert (told["batch"], told["runs"], len(told["ms"])) == (2, 3, 3)
    assert told["p90_ms"] >= told["p50_ms"] > 0
    for words in (("--turns",), ("--bench", "1", "--batch", "1")):
        assert built.run(tiny_artifact, photo, photo, *words).returncode == 2
