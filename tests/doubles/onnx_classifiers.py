"""ONNX classifiers as other exporters write them: NHWC, bytes, one fixed batch, softmax inside."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES = 64, 4


def classifier(
    *,
    layout="nchw",
    elem_type=TensorProto.FLOAT,
    batch="batch",
    ending=None,
    size=(SIDE, SIDE),
    opset=13,
    more_inputs=(),
    second_output=None,
    reshape=True,
    names=("pixels", "answer"),
    classes=CLASSES,
):
    """Make a linear classifier of 4 x 4 patches' mean colours; returns an onnx.ModelProto."""
    generator = np.random.default_rng(0)
    image, answer = names
    shape = [batch, 3, *size] if layout == "nchw" else [batch, *size, 3]
    nodes, last = [], image
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [last], ["planes"], perm=[0, 3, 1, 2]))
        last = "planes"
    if elem_type != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [last], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    kernel = SIDE // 4
    nodes.append(
        helper.make_node(
            "AveragePool", [last], ["pooled"], kernel_shape=[kernel] * 2, strides=[kernel] * 2
        )
    )
    width = 3 * 16
    rows = 1 if isinstance(batch, str) else batch
    target = np.array([rows if reshape else -1, width], np.int64)
    if isinstance(batch, str):
        target[0] = -1
    weights = [
        numpy_helper.from_array(generator.normal(size=(width, classes)).astype(np.float32), "w"),
        numpy_helper.from_array(target, "flat_shape"),
    ]
    raw = "logits" if ending else answer
    nodes += [
        helper.make_node("Reshape", ["pooled", "flat_shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], [raw]),
    ]
    if ending == "Exp":  # softmax by hand
        nodes += [
            helper.make_node("Exp", [raw], ["powers"]),
            helper.make_node("ReduceL1", ["powers"], ["sum"], axes=[1], keepdims=1),
            helper.make_node("Div", ["powers", "sum"], [answer]),
        ]
    elif ending:
        nodes.append(helper.make_node(ending, [raw], [answer]))
    for number, (name, _) in enumerate(more_inputs):  # each is read on the way to the answer
        nodes[0].input[0] = f"with{number}"
        nodes.insert(0, helper.make_node("Where", ["true", image, name], [f"with{number}"]))
        weights.append(numpy_helper.from_array(np.array(True), "true"))
    outputs = [helper.make_tensor_value_info(answer, TensorProto.FLOAT, [batch, classes])]
    if second_output:
        nodes.append(helper.make_node("Neg", [raw], [second_output]))
        outputs.append(
            helper.make_tensor_value_info(second_output, TensorProto.FLOAT, [batch, classes])
        )
    inputs = [
        helper.make_tensor_value_info(image, elem_type, shape),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in more_inputs),
    ]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def saved(folder, **how):
    """Write such a classifier, and return its path."""
    path = folder / "theirs.onnx"
    onnx.save(classifier(**how), path)
    return path
