import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.graphs import compare_maps, graphs_of_artifact, make_inputs
from bench.memory import peak_memory
from bench.operators import operator_costs
from engines.onnx_runtime import OnnxRuntime
from ptame_deploy.errors import ArtifactError, CheckFailedError
from ptame_deploy.graph_parts import extract_classifier
from ptame_deploy.macs import count_macs

pytestmark = pytest.mark.integration


def test_the_classifier_alone_gives_the_fused_logits(tiny_artifact, tmp_path):
    graphs = graphs_of_artifact(tiny_artifact, tmp_path)
    alone, fused = OnnxRuntime(graphs.classifier), OnnxRuntime(graphs.fused)
    for batch in (1, 3):
        inputs = make_inputs(graphs.manifest, batch)
        logits = alone.run(inputs)
        assert list(logits) == ["logits"]
        np.testing.assert_allclose(logits["logits"], fused.run(inputs)["logits"], atol=1e-6)
    assert count_macs(graphs.classifier) < count_macs(graphs.fused)
    assert graphs.classifier.stat().st_size < graphs.fused.stat().st_size
    assert "--backbone" in graphs.all_class_reason


def test_inputs_of_a_graph_that_takes_bytes_and_classes(tiny_classes_artifact, tmp_path):
    graphs = graphs_of_artifact(tiny_classes_artifact, tmp_path)
    inputs = make_inputs(graphs.manifest, 3)
    assert inputs["image"].dtype == np.uint8
    assert inputs["class_index"].shape == (3, 1)
    fused = OnnxRuntime(graphs.fused).run(inputs)
    alone = OnnxRuntime(graphs.classifier).run({"image": inputs["image"]})
    np.testing.assert_allclose(alone["logits"], fused["logits"], atol=1e-6)


def test_inputs_are_seeded_and_differ_by_image(tiny_artifact, tmp_path):
    manifest = graphs_of_artifact(tiny_artifact, tmp_path).manifest
    image = make_inputs(manifest, 2)["image"]
    np.testing.assert_array_equal(image[:1], make_inputs(manifest, 1)["image"])
    assert not np.array_equal(image[0], image[1])
    assert not np.array_equal(image, make_inputs(manifest, 2, seed=1)["image"])
    assert image.min() >= 0
    assert image.max() <= 1


def test_external_weights_follow_the_classifier(tmp_path):
    weight = numpy_helper.from_array(np.arange(1200, dtype=np.float32).reshape(3, 400), "w")
    other = numpy_helper.from_array(np.ones((3, 400), np.float32), "v")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["image", "w"], ["logits"]),
            helper.make_node("MatMul", ["image", "v"], ["saliency"]),
        ],
        "fused",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 400])
            for name in ("logits", "saliency")
        ],
        [weight, other],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    onnx.save(model, tmp_path / "in/m.onnx", save_as_external_data=True, location="m.onnx.data")
    for _ in range(2):  # again, as an evaluation that goes on does: nothing may grow
        extract_classifier(tmp_path / "in/m.onnx", tmp_path / "out/c.onnx")
        assert (tmp_path / "out/c.onnx.data").stat().st_size == 4800
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["c.onnx", "c.onnx.data"]
    found = OnnxRuntime(tmp_path / "out/c.onnx").run({"image": np.eye(3, dtype=np.float32)})
    np.testing.assert_array_equal(found["logits"].ravel(), np.arange(1200))


class Maps:
    """A runtime that gives known maps."""

    description = "toy"

    def __init__(self, maps, index):
        self.outputs = {"saliency": np.array(maps), "class_index": np.array(index)}

    def run(self, _):
        return self.outputs


def test_maps_are_compared_with_their_classes():
    inputs = {"image": np.zeros((1, 3, 4, 4))}
    same = compare_maps(Maps([0.5, 1.0], [3]), Maps([0.5, 1 - 1e-6], [3]), inputs)
    assert same.equal
    assert same.max_abs_difference == pytest.approx(1e-6)
    assert not compare_maps(Maps([0.5], [3]), Maps([0.6], [3]), inputs).equal
    assert not compare_maps(Maps([0.5], [3]), Maps([0.5], [4]), inputs).equal
    assert not compare_maps(Maps([np.nan], [3]), Maps([0.5], [3]), inputs).equal


def test_peak_memory_is_that_of_the_graph(tiny_artifact, tmp_path):
    graphs = graphs_of_artifact(tiny_artifact, tmp_path)
    small = peak_memory(graphs.fused, make_inputs(graphs.manifest, 1), threads=1)
    large = peak_memory(graphs.fused, make_inputs(graphs.manifest, 64), threads=1)
    assert 0 < small.after_opening_mb <= small.peak_mb
    assert small.run_peak_mb > 0
    assert large.run_peak_mb > small.run_peak_mb + 5


def test_a_graph_that_cannot_be_opened_says_so(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckFailedError, match="cannot be loaded"):
        peak_memory(tmp_path / "no.onnx", {"image": np.zeros(1)})


def test_operators_carry_all_multiply_adds(tiny_artifact, tmp_path):
    graphs = graphs_of_artifact(tiny_artifact, tmp_path)
    costs = operator_costs(graphs.fused, make_inputs(graphs.manifest, 2), runs=3)
    assert sum(cost.time_share for cost in costs) == pytest.approx(1)
    assert sum(cost.macs_share for cost in costs) == pytest.approx(1)
    assert costs == sorted(costs, key=lambda cost: -cost.time_ms)


def test_a_graph_that_is_not_its_manifests_is_refused(tiny_artifact, tmp_path):
    shutil.copytree(tiny_artifact, tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    manifest = json.loads(path.read_text())
    manifest["preprocessing"]["input_size"] = [32, 32]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="prepares images of 32x32"):
        graphs_of_artifact(tmp_path / "m", tmp_path)
