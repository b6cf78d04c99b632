"""Bias correction: what rounding the weights moves in a layer's mean output, its bias takes back.

Behind an activation all inputs are positive: the rounding errors of a row of weights do not cancel
there, and all of a channel moves by the same amount. After Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction" (ICCV 2019, https://arxiv.org/abs/1906.04721,
section 4.2), with the means of real photos in place of those that batch normalisation promises.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptame_deploy.drift import batches
from ptame_deploy.graph_file import load_graph
from ptame_deploy.onnx_session import open_session
from ptame_deploy.precision.blocks import WEIGHTED, bias_slots, weighted_nodes
from ptame_deploy.precision.int8 import DEQUANTIZE

# By layer, the mean input of each of its weights. Of a convolution: (C, kh, kw), over photos and
# positions, padding included. Of a matrix product: (K,), over photos and rows.
Means = Mapping[str, NDArray[np.float64]]
Feed = Callable[[slice], dict[str, NDArray[Any]]]

_IMAGE_WEIGHT, _MATRIX_WEIGHT = 4, 2  # dimensions


def mean_inputs(prepared: Path, feed: Feed, count: int, *, threads: int = 0) -> Means:
    """Run photos through a graph and average what its layers' weights are multiplied with.

    The graph itself averages over each batch, so that one photo's activations are all that is held.

    Args:
        prepared: the FP32 graph as `prepare_graph` wrote it; another lies beside it for a moment.
        feed: gives the graph's inputs for a slice of the photos.
        count: number of photos.
        threads: of ONNX Runtime; 0 for one a core.

    Returns:
        Of each layer that can be corrected, by the node's name.
    """
    model = load_graph(prepared, weights=False)
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    layers = {}
    for node in weighted_nodes(model.graph):
        shape = shapes[node.input[1]]
        if _is_plain(node, shape):
            layers[node.name] = (node, shape[2:], _add_mean(model.graph, node.input[0], shape))
    wanted = sorted({name for _, _, name in layers.values()})
    if not wanted:
        return {}
    path = prepared.with_name(f"{prepared.stem}-means.onnx")  # finds weights that lie in a file
    onnx.save(model, path)
    session = open_session(path, threads=threads)
    path.unlink()
    totals: dict[str, NDArray[np.float64]] = {}
    for part in batches(count):
        found = dict(zip(wanted, session.run(wanted, feed(part)), strict=True))
        for layer, (node, kernel, name) in layers.items():
            mean = np.asarray(found[name], np.float64)
            if kernel:
                mean = mean_patch(mean, node, kernel)
            totals[layer] = totals.get(layer, np.zeros(1)) + (part.stop - part.start) * mean
    return {layer: total / count for layer, total in totals.items()}


def correct_biases(model: onnx.ModelProto, rounded: onnx.ModelProto, means: Means) -> list[str]:
    """Take from each layer's bias what rounding its weights adds to its mean output.

    A layer without a bias gets one.

    Args:
        model: the FP32 graph, weights loaded; changed in place.
        rounded: the same graph with quantised weights, which say how they were rounded.
        means: of the layers' inputs, from `mean_inputs`.

    Returns:
        Names of the layers that were corrected.
    """
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    quantised = _quantised_weights(rounded.graph)
    slots = bias_slots(graph)
    corrected = []
    for node in weighted_nodes(graph):
        if not (node.name in means and node.name in quantised and node.name in slots):
            continue
        error = quantised[node.name] - numpy_helper.to_array(weights[node.input[1]])
        shift = mean_output(node, error, means[node.name])
        holder, position = slots[node.name]
        has_one = len(holder.input) > position and bool(holder.input[position])
        bias = numpy_helper.to_array(weights[holder.input[position]]) if has_one else np.zeros(1)
        name = f"{node.name}_corrected_bias"  # a new one: other layers may share the old one
        value = (bias.reshape(-1) - shift).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(value, name))
        del holder.input[position : position + 1]
        holder.input.insert(position, name)
        corrected.append(node.name)
    return corrected


def mean_patch(
    image: NDArray[np.float64], node: onnx.NodeProto, kernel: tuple[int, ...]
) -> NDArray[np.float64]:
    """Average what each weight of a convolution's kernel meets, over all positions.

    Args:
        image: (C, H, W), the layer's input; the mean of inputs for the mean over them.
        node: the convolution.
        kernel: its height and width.

    Returns:
        (C, kh, kw).
    """
    attributes = _attributes(node)
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    strides, dilations = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
    reach = [  # from a weight's first position to behind its last one
        length - dilation * (size - 1)
        for length, size, dilation in zip(padded.shape[1:], kernel, dilations, strict=True)
    ]
    patch = np.empty((len(image), *kernel))
    for row, column in np.ndindex(*kernel):
        y, x = row * dilations[0], column * dilations[1]
        met = padded[:, y : y + reach[0] : strides[0], x : x + reach[1] : strides[1]]
        patch[:, row, column] = met.mean(axis=(1, 2))
    return patch


def mean_output(
    node: onnx.NodeProto, weight: NDArray[np.float32], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what a layer with this weight, without bias, gives on average: (channels,).

    Args:
        node: the layer.
        weight: in the layout of the node.
        mean: of its input, as in `Means`.
    """
    if node.op_type == "Conv":
        groups = _attributes(node).get("group", 1)
        grouped = weight.reshape(groups, len(weight) // groups, -1)
        return np.asarray((grouped @ mean.reshape(groups, -1, 1)).reshape(-1), np.float64)
    matrix = weight.T if _attributes(node).get("transB", 0) else weight
    return np.asarray(mean @ matrix, np.float64)


def _is_plain(node: onnx.NodeProto, shape: tuple[int, ...]) -> bool:
    """Whether a layer is of a form whose mean output is computed here."""
    attributes = _attributes(node)
    if node.op_type == "Conv":
        return len(shape) == _IMAGE_WEIGHT and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    scaled = attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1
    return len(shape) == _MATRIX_WEIGHT and not scaled and not attributes.get("transA", 0)


def _add_mean(graph: onnx.GraphProto, tensor: str, shape: tuple[int, ...]) -> str:
    """Let a graph also return a tensor's mean: over photos, and over the rows of matrices.

    Args:
        graph: changed in place.
        tensor: the input of a layer.
        shape: of the layer's weight.

    Returns:
        Name of the output; the same one for all layers of a kind that read the tensor.
    """
    name = f"{tensor}_mean_{len(shape)}d"
    if any(output.name == name for output in graph.output):
        return name
    source, axes = tensor, f"{name}_axes"
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), axes))
    if len(shape) == _MATRIX_WEIGHT:  # photos and tokens may come in any order
        source = f"{name}_rows"
        graph.node.append(helper.make_node("Flatten", [tensor], [source], axis=-1))
    graph.node.append(helper.make_node("ReduceMean", [source, axes], [name], keepdims=0))
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return name


def _quantised_weights(graph: onnx.GraphProto) -> dict[str, NDArray[np.float32]]:
    """Return what the quantised weights of a graph stand for, by the names of their nodes."""
    weights = {weight.name: weight for weight in graph.initializer}
    pairs = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == DEQUANTIZE and node.input[0] in weights
    }
    found = {}
    for node in graph.node:
        pair = pairs.get(node.input[1]) if node.op_type in WEIGHTED else None
        if pair is not None:
            values, scale = (numpy_helper.to_array(weights[name]) for name in pair.input[:2])
            axis = _attributes(pair).get("axis", 1)
            if scale.ndim:
                scale = scale.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
            found[node.name] = values.astype(np.float32) * scale  # symmetric: no zero point
    return found


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
