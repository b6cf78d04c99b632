import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptame_deploy.onnx_session import open_session
from ptame_deploy.precision import int8
from ptame_deploy.precision.bias_correction import correct_biases, mean_inputs
from ptame_deploy.precision.blocks import bias_slots
from ptame_deploy.precision.calibration import tensors_data

pytestmark = pytest.mark.unit
PHOTOS = np.random.default_rng(1).random((11, 4, 9, 10), np.float32)  # not a multiple of a batch


def constant(name, *shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def conv(name, source, target, *more, **attributes):
    return helper.make_node("Conv", [source, *more], [target], name=name, **attributes)


def model_of(nodes, weights, output):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", TensorProto.FLOAT, ["batch", *PHOTOS.shape[1:]])],
        [value(output, TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def with_rounded_weights(model, steps=4):
    """The same graph, weights as pairs of integers and scales of their own for each channel."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    graph = rounded.graph
    values = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    pairs = []
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            name = node.input[1]
            axis = 0 if node.op_type == "Conv" or node.attribute else 1
            others = tuple(a for a in range(values[name].ndim) if a != axis)
            scale = np.abs(values[name]).max(axis=others) / steps
            shape = [-1 if a == axis else 1 for a in range(values[name].ndim)]
            # Always down: rounded to the nearest, a few weights would cancel by chance.
            integers = np.floor(values[name] / scale.reshape(shape)).astype(np.int8)
            made = [f"{name}_q", f"{name}_scale"]
            graph.initializer.extend(map(numpy_helper.from_array, (integers, scale), made))
            node.input[1] = f"{name}_dq"
            pairs.append(helper.make_node(int8.DEQUANTIZE, made, [f"{name}_dq"], axis=axis))
    both = [*pairs, *graph.node]
    del graph.node[:]
    graph.node.extend(both)
    return rounded


def feed(part):
    return {"image": PHOTOS[part]}


def mean_answers(model, output):
    """A graph's mean output for all photos, by channel."""
    session = open_session(model.SerializeToString())
    answers = session.run([output], {"image": PHOTOS})[0].astype(np.float64)
    channel = 1 if model.graph.node[-1].op_type == "Conv" else answers.ndim - 1
    return answers.mean(axis=tuple(axis for axis in range(answers.ndim) if axis != channel))


CASES = {
    "dense": ([conv("n", "image", "y", "w")], [("w", 6, 4, 3, 2)]),
    "with bias": ([conv("n", "image", "y", "w", "b")], [("w", 6, 4, 1, 1), ("b", 6)]),
    "padded, strided": (
        [conv("n", "image", "y", "w", pads=[1, 0, 2, 3], strides=[2, 3])],
        [("w", 6, 4, 3, 3)],
    ),
    "dilated groups": (
        [conv("n", "image", "y", "w", "b", group=2, dilations=[2, 1], pads=[2, 1, 2, 1])],
        [("w", 6, 2, 3, 3), ("b", 6)],
    ),
    "depthwise": (
        [conv("n", "image", "y", "w", "b", group=4, pads=[1, 1, 1, 1])],
        [("w", 4, 1, 3, 3), ("b", 4)],
    ),
    "product and sum": (
        [
            helper.make_node("MatMul", ["image", "w"], ["p"], name="n"),
            helper.make_node("Add", ["b", "p"], ["y"], name="sum"),
        ],
        [("w", 10, 6), ("b", 6)],
    ),
    "gemm": (
        [
            helper.make_node("Flatten", ["image"], ["rows"], axis=3),
            helper.make_node("Gemm", ["rows", "w", "b"], ["y"], name="n", transB=1),
        ],
        [("w", 6, 10), ("b", 6)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_mean_output_is_that_of_the_unrounded_weights(case, tmp_path):
    nodes, shapes = CASES[case]
    weights = [constant(name, *shape, seed=n) for n, (name, *shape) in enumerate(shapes)]
    model = model_of(nodes, weights, "y")
    onnx.save(model, tmp_path / "prepared.onnx")
    expected = mean_answers(model, "y")
    shifted = mean_answers(with_rounded_weights(model), "y")
    assert np.abs(shifted - expected).min() > 0.05

    means = mean_inputs(tmp_path / "prepared.onnx", feed, len(PHOTOS))
    assert correct_biases(model, with_rounded_weights(model), means) == ["n"]

    # ONNX Runtime's own product with integer weights is no closer than this.
    np.testing.assert_allclose(mean_answers(with_rounded_weights(model), "y"), expected, atol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prepared.onnx"]


def test_layers_that_share_a_bias_are_corrected_apart(tmp_path):
    nodes = [conv("first", "image", "t", "v", "b"), conv("second", "t", "y", "w", "b")]
    weights = [constant("v", 4, 4, 1, 1), constant("w", 4, 4, 1, 1, seed=1), constant("b", 4)]
    model = model_of(nodes, weights, "y")
    onnx.save(model, tmp_path / "prepared.onnx")
    expected = mean_answers(model, "y")
    means = mean_inputs(tmp_path / "prepared.onnx", feed, len(PHOTOS))
    assert correct_biases(model, with_rounded_weights(model), means) == ["first", "second"]
    # The first one's correction is what lets the second one see the means that it was given.
    np.testing.assert_allclose(mean_answers(with_rounded_weights(model), "y"), expected, atol=1e-4)


def test_forms_without_a_known_mean_are_left_alone(tmp_path):
    nodes = [
        conv("same", "image", "t", "w", auto_pad="SAME_UPPER"),
        helper.make_node("MatMul", ["t", "v"], ["u"], name="bare"),
        helper.make_node("Flatten", ["u"], ["rows"], axis=3),
        helper.make_node("Gemm", ["rows", "m"], ["y"], name="scaled", alpha=0.5),
    ]
    weights = [constant("w", 4, 4, 3, 3), constant("v", 10, 6), constant("m", 6, 6)]
    model = model_of(nodes, weights, "y")
    onnx.save(model, tmp_path / "prepared.onnx")
    means = mean_inputs(tmp_path / "prepared.onnx", feed, len(PHOTOS))
    assert set(means) == {"bare"}
    before = model.SerializeToString()
    assert correct_biases(model, with_rounded_weights(model), means) == []
    assert model.SerializeToString() == before


def test_a_sum_that_is_no_bias_is_none():
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["p"], name="positions"),
        helper.make_node("Add", ["p", "rows"], ["q"], name="sum of rows"),
        helper.make_node("MatMul", ["q", "v"], ["r"], name="residual"),
        helper.make_node("Add", ["r", "q"], ["y"], name="sum of tensors"),
    ]
    weights = [constant("w", 10, 9), constant("v", 9, 9), constant("rows", 9, 1)]
    assert bias_slots(model_of(nodes, weights, "y").graph) == {}


def test_a_layer_that_is_put_back_has_its_own_bias_again(tmp_path):
    nodes = [
        conv("without", "image", "t", "w"),
        helper.make_node("MatMul", ["t", "v"], ["p"], name="product"),
        helper.make_node("Add", ["p", "b"], ["y"], name="sum"),
    ]
    weights = [constant("w", 4, 4, 1, 1), constant("v", 10, 6), constant("b", 6)]
    model = model_of(nodes, weights, "y")
    onnx.save(model, tmp_path / "prepared.onnx")
    expected = open_session(model.SerializeToString()).run(None, {"image": PHOTOS})[0]
    means = mean_inputs(tmp_path / "prepared.onnx", feed, len(PHOTOS))
    correct_biases(model, with_rounded_weights(model), means)
    lowered = with_rounded_weights(model)
    prepared = onnx.load(tmp_path / "prepared.onnx")
    int8.put_back(lowered, prepared, ["without", "product"])
    answers = open_session(lowered.SerializeToString()).run(None, {"image": PHOTOS})[0]
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    assert all("corrected" not in weight.name for weight in lowered.graph.initializer)


def test_a_depthwise_layer_right_behind_a_first_one_stays_in_fp32():
    nodes = [
        conv("stem", "image", "a", "stem_w"),
        helper.make_node("HardSwish", ["a"], ["b"], name="activation"),
        conv("depthwise", "b", "c", "depthwise_w", group=4),
        conv("pointwise", "c", "d", "pointwise_w"),
        conv("later", "d", "e", "later_w", group=4),
        conv("beside", "b", "f", "beside_w"),
    ]
    weights = [
        constant("stem_w", 4, 3, 3, 3),
        constant("depthwise_w", 4, 1, 3, 3),
        constant("pointwise_w", 4, 4, 1, 1),
        constant("later_w", 4, 1, 3, 3),
        constant("beside_w", 4, 4, 1, 1),
    ]
    assert int8.border_layers(model_of(nodes, weights, "e").graph) == ["stem", "depthwise"]


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_a_layer_in_fp32_reads_what_nothing_has_rounded(target, tmp_path):
    """Else ONNX Runtime rounds its weights itself, all by one scale."""
    nodes = [
        conv("stem", "image", "a", "stem_w"),
        helper.make_node("Relu", ["a"], ["b"], name="activation"),
        conv("depthwise", "b", "c", "depthwise_w", group=4),
        conv("pointwise", "c", "d", "pointwise_w"),
        conv("beside", "b", "e", "beside_w"),  # this one reads the stem in INT8
        helper.make_node("Add", ["d", "e"], ["f"], name="sum"),
        conv("last", "f", "y", "last_w"),
    ]
    shapes = {"stem": (4, 3, 1, 1), "depthwise": (4, 1, 1, 1)}
    names = ("stem", "depthwise", "pointwise", "beside", "last")
    weights = [constant(f"{name}_w", *shapes.get(name, (4, 4, 1, 1))) for name in names]
    model = model_of(nodes, weights, "y")
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "prepared.onnx")
    ranges = tensors_data(dict.fromkeys("abcdefy", (-4.0, 4.0)))
    graph = int8.to_int8(tmp_path / "prepared.onnx", ranges, target).graph
    sources = {node.output[0]: node.op_type for node in graph.node}
    read = {node.name: sources.get(node.input[0]) for node in graph.node if node.op_type == "Conv"}
    assert read == {
        "stem": None,
        "depthwise": "Relu",
        "pointwise": int8.DEQUANTIZE,
        "beside": int8.DEQUANTIZE,
        "last": int8.DEQUANTIZE,
    }
