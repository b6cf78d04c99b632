"""The TensorRT backend: TensorRT's own headers, on doubles of its library and of CUDA's.

The doubles compute an engine's graph with ONNX Runtime, so that answers can be compared with
Python's; and they tell what was not freed, not waited for, or asked of a wrong address.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from cpp_doubles import write_engine

from ptame_deploy import Explainer

pytestmark = pytest.mark.integration

CPP = Path(__file__).parents[3] / "engines/cpp"


def assert_as_python(artifact, done, folder, engine_photos, classes=None):
    assert done.returncode == 0, done.stderr
    expected = Explainer.load(artifact)(engine_photos, classes)
    for number, (path, line) in enumerate(
        zip(engine_photos, done.stdout.splitlines(), strict=True)
    ):
        results = json.loads(line)["results"]
        for rank, result in enumerate(results):
            assert result["class_index"] == expected.class_index[number, rank]
            probability = expected.probability[number, rank]
            assert result["probability"] == pytest.approx(probability, abs=1e-4)
        maps = np.load(folder / f"{path.stem}.npy")
        np.testing.assert_allclose(maps, expected.saliency[number], atol=1e-4)


def test_answers_are_pythons(runs, engine, tiny_artifact, engine_photos, tmp_path):
    """A batch of four, one of three; each size has its own context, and one CUDA graph."""
    maps = tmp_path / "maps"
    done, report = runs(engine, *engine_photos, "--maps", maps, "--batch", "8")
    assert_as_python(tiny_artifact, done, maps, engine_photos)
    assert report["deserialised"] == 1
    assert report["contexts"] == 2
    assert report["launches"] == 2
    assert report["runs enqueued"] == 4  # of each size: once before the graph, once into it
    assert report["waits"] == 4


def test_a_size_is_kept_ready(runs, engine, engine_photos):
    """Batches of one, seven times: one context."""
    done, report = runs(engine, *engine_photos, "--batch", "1")
    assert done.returncode == 0, done.stderr
    assert report["contexts"] == 1
    assert report["launches"] == 7


def test_a_small_batch_is_filled_up(runs, tiny_artifact, engine_photos, tmp_path):
    engine = write_engine(tiny_artifact, tmp_path / "engine", (4, 4, 4))
    maps = tmp_path / "maps"
    done, report = runs(engine, *engine_photos[:5], "--maps", maps, DOUBLE_PROFILE="4,4,4")
    assert_as_python(tiny_artifact, done, maps, engine_photos[:5])
    assert report["contexts"] == 1


def test_classes_are_taken_and_uint8(runs, tiny_classes_artifact, engine_photos, tmp_path):
    engine = write_engine(tiny_classes_artifact, tmp_path / "engine")
    maps = tmp_path / "maps"
    words = ("--class", "7", "--class", "0", "--maps", maps)
    done, _ = runs(engine, *engine_photos, *words)
    assert_as_python(tiny_classes_artifact, done, maps, engine_photos, [7, 0])
    done, _ = runs(engine, engine_photos[0], *("--class", "1") * 6)
    assert done.returncode == 2
    assert "explains 1 to 5 classes" in done.stderr


@pytest.mark.parametrize("call", ["cudaStreamEndCapture", "cudaGraphInstantiateWithFlags"])
def test_without_a_cuda_graph_too(runs, engine, tiny_artifact, engine_photos, tmp_path, call):
    maps = tmp_path / "maps"
    done, report = runs(engine, *engine_photos, "--maps", maps, DOUBLE_FAIL=call)
    assert_as_python(tiny_artifact, done, maps, engine_photos)
    assert "launches" not in report


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        ("createInferRuntime", 3, "TensorRT 10.14.1.48 cannot start: it was told not to start"),
        ("createExecutionContext", 3, "it was told to have no memory. Free GPU memory"),
        ("cudaMalloc", 3, "cudaMalloc failed with cudaErrorMemoryAllocation: the GPU's memory is"),
        ("cudaMallocHost", 3, "cudaMallocHost failed"),
        ("setInputShape", 2, "refuses the shape of 'image': it was told to refuse shapes"),
        ("enqueueV3", 1, "The plan failed to run: it was told to fail"),
        ("cudaStreamSynchronize", 1, "cudaStreamSynchronize failed with cudaErrorUnknown"),
        ("location", 4, "on the host, which no plan of ptame build does"),
        ("type", 4, "inputs or outputs are not those that its manifest says"),
    ],
)
def test_failures_are_told_and_all_is_freed(runs, engine, engine_photos, call, code, says):
    done, _ = runs(engine, *engine_photos, DOUBLE_FAIL=call)
    assert done.returncode == code, done.stderr
    assert says in done.stderr


def test_other_batches_than_its_json_says(runs, engine, engine_photos):
    done, _ = runs(engine, engine_photos[0], DOUBLE_PROFILE="1,2,8")
    assert done.returncode == 4
    assert "takes other batches than its manifest says" in done.stderr


def test_no_gpu(runs, engine, engine_photos):
    for settings in ({"DOUBLE_GPUS": "0"}, {"DOUBLE_DRIVER": "0"}):
        done, report = runs(engine, engine_photos[0], **settings)
        assert done.returncode == 3
        assert "needs an NVIDIA GPU and its driver; this machine has none" in done.stderr
        assert "deserialised" not in report


def test_each_backend_names_the_other(runs, built, engine, tiny_artifact, engine_photos):
    done, _ = runs(tiny_artifact, engine_photos[0])
    assert done.returncode == 2
    assert "holds a graph, and this program runs engines of tensorrt" in done.stderr
    done, _ = runs(engine, engine_photos[0], "--threads", "2")
    assert done.returncode == 2
    assert "Threads can be chosen for graphs only" in done.stderr
    done = built.run(engine, engine_photos[0])
    assert done.returncode == 2
    assert "-DPTAME_BACKEND=tensorrt" in done.stderr


def test_another_backend_is_refused_by_cmake(cmake, tools, tmp_path):
    with pytest.raises(AssertionError, match="must be one of"):
        cmake("-S", CPP, "-B", tmp_path / "build", "-G", "Ninja", "-DPTAME_BACKEND=magic")
