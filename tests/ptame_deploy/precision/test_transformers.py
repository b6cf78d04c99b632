"""Transformers in every precision: what ONNX Runtime's optimisers did wrong must not come back."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.cli import run
from ptame_deploy.onnx_session import open_session
from ptame_deploy.precision import fp16
from ptame_deploy.synthetic import synthetic_images


def transposed_product(order):
    """The graph that ends the process with ONNX Runtime 1.31 once it is in FP16."""
    weight = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["image"], ["turned"], name="turn", perm=order),
            helper.make_node("MatMul", ["turned", "weight"], ["logits"], name="product"),
        ],
        "g",
        [value("image", TensorProto.FLOAT, ["B", 8, 8])],
        [value("logits", TensorProto.FLOAT, ["x", "y", 4])],
        [numpy_helper.from_array(weight, "weight")],
        value_info=[value("turned", TensorProto.FLOAT, ["x", "y", 8])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("order", "keep", "kinds"),
    [
        ([1, 0, 2], [], ["MatMul", "Transpose"]),
        ([1, 0, 2], ["product"], ["MatMul", "Transpose"]),
        ([0, 2, 1], [], ["Transpose", "MatMul"]),
    ],
)
def test_products_come_before_transposes_where_both_orders_are_equal(order, keep, kinds):
    model = transposed_product(order)
    image = np.random.default_rng(1).normal(size=(2, 8, 8)).astype(np.float32)
    (expected,) = open_session(model.SerializeToString()).run(None, {"image": image})
    half = fp16.to_fp16(model, keep)
    onnx.checker.check_model(half, full_check=True)
    assert [n.op_type for n in half.graph.node if n.op_type != "Cast"] == kinds
    (found,) = open_session(half.SerializeToString()).run(None, {"image": image})
    np.testing.assert_allclose(found, expected, atol=2e-2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), 8, (80, 80))


@pytest.fixture(scope="module")
def lowered(transformer_artifact, photos, tmp_path_factory):
    """The folders of the transformer's lowered graphs."""
    base = tmp_path_factory.mktemp("lowered")
    forms = {
        "fp16": ["-p", "fp16"],
        "cpu": ["-p", "int8", "--target", "cpu"],
        "tensorrt": ["-p", "int8", "--target", "tensorrt"],
    }
    for name, form in forms.items():
        arguments = ["quantize", str(transformer_artifact), str(photos), "-o", str(base / name)]
        options = ["--no-cache", "--max-kept", "0", "--allow-drift"]
        assert run([*arguments, *form, *options]) == 0
    return {name: base / name for name in forms}


@pytest.mark.integration
@pytest.mark.parametrize(("form", "allowed"), [("fp16", 0.01), ("cpu", 0.15), ("tensorrt", 0.15)])
def test_a_lowered_transformer_opens_and_answers_as_in_fp32(
    transformer_artifact, lowered, form, allowed
):
    feeds = {"image": synthetic_images(3, 64, 64, seed=5), "class_index": np.array([[1], [2], [3]])}
    (logits, maps), (found_logits, found_maps) = (
        open_session(directory / "model.onnx").run(["logits", "saliency"], feeds)
        for directory in (transformer_artifact, lowered[form])
    )
    assert np.abs(found_logits - logits).max() < allowed * logits.std()
    assert np.abs(found_maps - maps).mean() < allowed
    record = read_manifest(lowered[form], "model.json", GraphManifest).quantisation
    # The first layer of each network, the depthwise one behind the explainer's, and the last.
    assert record.kept_nodes == (0 if form == "fp16" else 4)


@pytest.mark.integration
@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_attention_stays_in_fp32_and_every_weight_is_int8(lowered, target):
    graph = onnx.load(lowered[target] / "model.onnx").graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    products = [
        [producers.get(name) == "DequantizeLinear" for name in node.input[:2]]
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm") and "logits" not in node.output
    ]
    # Of each transformer layer: the projections in and out, and the two of its perceptron.
    assert products.count([True, True]) == 2 * 4
    assert all(pair in ([True, True], [False, False]) for pair in products)
    for node in graph.node:
        if node.op_type in ("Softmax", "LayerNormalization"):
            assert producers[node.input[0]] != "DequantizeLinear"
