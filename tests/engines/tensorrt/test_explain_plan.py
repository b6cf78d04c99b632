"""Explaining with a plan: really built, run by a double that computes with ONNX Runtime."""

import gc
import json

import numpy as np
import pytest

from engines.onnx_runtime import OnnxRuntime
from ptame_deploy import Explainer
from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError, MissingRequirementError
from ptame_deploy.storage import sha256_of_file

pytestmark = pytest.mark.integration


@pytest.fixture
def world(plan_world, tiny_plan, tiny_artifact):
    return plan_world(tiny_plan, OnnxRuntime(tiny_artifact / "model.onnx").run)


def same(one, other):
    np.testing.assert_array_equal(one.class_index, other.class_index)
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-4)
    np.testing.assert_allclose(one.saliency, other.saliency, atol=1e-4)


def test_a_plan_explains_as_its_graph_does(world, gpu, tiny_plan, tiny_artifact, photo_folder):
    photos = sorted(photo_folder.iterdir()) * 3  # 9 photos: batches of 4, 4 and 1
    explainer = Explainer.load(tiny_plan, batch_size=100)
    assert explainer.batch_size == 4
    assert explainer.plan.precision == "fp32"
    same(explainer(photos), Explainer.load(tiny_artifact)(photos))
    assert [next(iter(shapes.values()))[0] for shapes in world.contexts] == [4, 1]
    explainer.runtime.close()
    gc.collect()
    assert gpu.is_empty
    assert Explainer.load(tiny_plan, batch_size=2).batch_size == 2


@pytest.fixture
def wide_plan(tiny_artifact, tmp_path):
    """A plan that takes batches of 3 and 4 only."""
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    sizes = ["--min-batch", "3", "--opt-batch", "4", "--max-batch", "4"]
    arguments = ["build", str(tiny_artifact), "--runtime", "tensorrt-rtx", *sizes]
    assert run([*arguments, "-o", str(tmp_path / "wide")]) == 0
    return tmp_path / "wide"


def test_small_batches_are_filled_up(plan_world, wide_plan, tiny_artifact, photo_folder):
    world = plan_world(wide_plan, OnnxRuntime(tiny_artifact / "model.onnx").run)
    explainer, reference = Explainer.load(wide_plan), Explainer.load(tiny_artifact)
    photos = sorted(photo_folder.iterdir())
    for batch in (photos[:1], photos[1:], photos * 3):
        explanation = explainer(batch)
        assert len(explanation) == len(batch)
        same(explanation, reference(batch))
    # One and two photos ran as three, nine as four, four and one that was filled up to three.
    sizes = {next(iter(shapes.values()))[0] for shapes in world.contexts}
    assert sizes == {3, 4}


def test_chosen_classes_are_filled_up_too(gpu, tiny_classes_artifact, photo_folder):
    """A plan's profile and a runtime that takes no small batch, as far as the explainer cares."""
    from types import SimpleNamespace

    reference = Explainer.load(tiny_classes_artifact)

    class Runtime:
        description, copies = "double", True

        def run(self, inputs):
            assert [len(array) for array in inputs.values()] == [4, 4]
            return reference.runtime.run(inputs)

    plan = SimpleNamespace(profile=SimpleNamespace(min_batch=4, max_batch=8))
    explainer = Explainer(reference.manifest, Runtime(), plan=plan)
    photos = sorted(photo_folder.iterdir())
    same(explainer(photos, [[1], [2], [3]]), reference(photos, [[1], [2], [3]]))


def test_providers_and_threads_are_for_graphs(world, tiny_plan, tmp_path, photo_folder):
    for options in ({"threads": 2}, {"providers": ["CUDAExecutionProvider"]}):
        with pytest.raises(InvalidInputError, match="can be chosen for graphs only"):
            Explainer.load(tiny_plan, **options)
    arguments = ["explain", str(tiny_plan), str(photo_folder), "-o", str(tmp_path / "out")]
    assert run([*arguments, "--provider", "cuda"]) == 2
    assert not world.deserialised


def test_the_command_and_its_record(world, tiny_plan, tiny_artifact, photo_folder, tmp_path):
    for source, name in ((tiny_plan, "plan"), (tiny_artifact, "graph")):
        assert run(["explain", str(source), str(photo_folder), "-o", str(tmp_path / name)]) == 0
    documents = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("plan", "graph")
    ]
    plan, graph = documents
    assert plan["graph_sha256"] == graph["graph_sha256"]
    assert plan["plan_sha256"] == sha256_of_file(tiny_plan / "model.plan")
    assert graph["plan_sha256"] is None
    assert plan["runtime"].startswith("TensorRT for RTX 1.")
    assert [row["class_index"] for row in plan["results"]] == [
        row["class_index"] for row in graph["results"]
    ]


def test_without_a_gpu_one_sentence_and_exit_3(
    tiny_plan, photo_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("engines.gpu.find_gpu", lambda: None)
    out = tmp_path / "out"
    assert run(["explain", str(tiny_plan), str(photo_folder), "-o", str(out)]) == 3
    said = capsys.readouterr().err
    assert said.startswith("Error: Running a plan needs an NVIDIA GPU and its driver")
    assert said.count("\n") == 1
    assert not out.exists()
    with pytest.raises(MissingRequirementError):
        Explainer.load(tiny_plan)
