"""Multiply-adds of an ONNX graph: what its convolutions and matrix products cost, unrun.

Counted are Conv, Gemm and MatMul; element-wise work, pooling and resizing are not, as usual.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from ptame_deploy.errors import ArtifactError, InvalidInputError, reason_of

if TYPE_CHECKING:
    import onnx

COUNTED = ("Conv", "Gemm", "MatMul")
# These multiply too. Refused rather than left out: a count that is too small would pass unnoticed.
UNCOUNTED = (
    "Attention", "ConvInteger", "ConvTranspose", "DeformConv", "Einsum", "GRU", "If", "LSTM",
    "Loop", "MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN", "Scan",
)  # fmt: skip
# Larger constants are weights: shape inference needs their shape alone.
_SMALL_CONSTANT = 1024

Shape = tuple[int, ...]


@dataclass(frozen=True)
class NodeMacs:
    """One operator's share.

    Attributes:
        name: the node's name in the graph.
        operator: its type.
        macs: multiply-adds at the batch size that was asked for.
    """

    name: str
    operator: str
    macs: int


def count_macs(model: "Path | onnx.ModelProto", batch: int = 1) -> int:
    """Count the multiply-adds of a graph; see `macs_by_node`."""
    return sum(node.macs for node in macs_by_node(model, batch))


def macs_by_node(model: "Path | onnx.ModelProto", batch: int) -> list[NodeMacs]:
    """Count the multiply-adds of each operator by shape inference.

    Args:
        model: the ONNX file (external weights are not read), or the graph, which is left as it is.
        batch: put in for every input's symbolic first dimension; any further symbolic dimension
            (classes to explain) counts as 1.

    Returns:
        The operators that multiply, in the graph's order.

    Raises:
        InvalidInputError: the graph has operators that cannot be counted, or unknown shapes.
        ArtifactError: the file is no ONNX graph.
    """
    import onnx

    light = _without_weights(_load(model) if isinstance(model, Path) else model)
    _fix_inputs(light.graph, batch)
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except Exception as error:  # its errors share no base but Exception
        message = f"The graph's shapes cannot be inferred: {reason_of(error)}"
        raise InvalidInputError(message) from error
    shapes = _known_shapes(inferred.graph)
    counts = []
    for node in inferred.graph.node:
        if node.op_type in UNCOUNTED or node.domain not in ("", "ai.onnx"):
            message = (
                f"The multiply-adds of {node.domain or 'ONNX'} operator {node.op_type} "
                f"({node.name}) are not counted here, so the graph's cannot be."
            )
            raise InvalidInputError(message)
        if node.op_type in COUNTED:
            counts.append(NodeMacs(node.name, node.op_type, _node_macs(node, shapes)))
    return counts


def _load(path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=False)
    except DecodeError as error:
        message = f"{path} is not an ONNX graph."
        raise ArtifactError(message) from error


def _without_weights(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Copy a graph, leaving of each weight its name, type and shape."""
    import onnx

    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    for weight in model.graph.initializer:
        if prod(weight.dims) <= _SMALL_CONSTANT:
            light.graph.initializer.append(weight)
        else:
            # As an input its shape is known to shape inference, and there are no values to copy.
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
            )
    # The outputs' own shapes name the dynamic batch and would contradict the one asked for.
    for output in model.graph.output:
        copied = light.graph.output.add()
        copied.CopyFrom(output)
        copied.type.tensor_type.ClearField("shape")
    return light


def _fix_inputs(graph: "onnx.GraphProto", batch: int) -> None:
    for value in graph.input:
        for position, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_value == 0:
                size.dim_value = batch if position == 0 else 1


def _known_shapes(graph: "onnx.GraphProto") -> dict[str, Shape]:
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    return shapes


def _node_macs(node: "onnx.NodeProto", shapes: dict[str, Shape]) -> int:
    output = _shape(node, node.output[0], shapes)
    if node.op_type == "Conv":
        # Each output value is a product over the filter: channels of its group x kernel.
        return prod(output) * prod(_shape(node, node.input[1], shapes)[1:])
    left = _shape(node, node.input[0], shapes)
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return prod(output) * left[0 if transposed else 1]
    return prod(output) * left[-1]


def _shape(node: "onnx.NodeProto", name: str, shapes: dict[str, Shape]) -> Shape:
    if name not in shapes:
        message = (
            f"The shape of {name!r} at operator {node.op_type} ({node.name}) depends on the "
            "image, so the graph's multiply-adds cannot be counted."
        )
        raise InvalidInputError(message)
    return shapes[name]
