"""What a graph computes, and in which precision, in a few lines."""

from collections import Counter
from pathlib import Path

import onnx

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.graph_file import load_graph
from ptame_deploy.macs import count_macs
from ptame_deploy.precision.blocks import weighted_nodes

_QUANTISE = ("QuantizeLinear", "DequantizeLinear")


def summarise(path: Path) -> list[str]:
    """Describe a graph.

    Args:
        path: the file; external weights are not read.

    Returns:
        Lines: layers by precision, multiply-adds, quantisation, operators.

    Raises:
        ArtifactError: not an ONNX graph.
    """
    model = load_graph(path, weights=False)
    precisions = Counter(layer_precisions(model).values())
    layers = ", ".join(f"{count} {precision}" for precision, count in sorted(precisions.items()))
    kinds = Counter(node.op_type for node in model.graph.node)
    pairs = sum(kinds[name] for name in _QUANTISE)
    shown = [f"{count} {name}" for name, count in kinds.most_common() if name not in _QUANTISE]
    lines = [f"layers             {layers}", f"multiply-adds      {_macs(path)}"]
    if pairs:
        lines.append(f"quantisation       {pairs} quantise and dequantise operators")
    return [*lines, f"operators          {', '.join(shown)}"]


def layer_precisions(model: onnx.ModelProto) -> dict[str, str]:
    """Return the precision that each weighted layer's weights are stored in, by node name."""
    graph = model.graph
    types = {weight.name: weight.data_type for weight in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    found = {node.name: types[node.input[1]] for node in weighted_nodes(graph)}
    for node in graph.node:
        pair = producers.get(node.input[1]) if len(node.input) > 1 else None
        if (
            pair is not None
            and pair.op_type == "DequantizeLinear"
            and pair.input[0] in types
            and node.op_type in ("Conv", "Gemm", "MatMul")
        ):
            found[node.name] = types[pair.input[0]]
    names = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.INT8: "int8",
        onnx.TensorProto.UINT8: "int8",
    }
    return {name: names.get(kind, str(kind)) for name, kind in found.items()}


def _macs(path: Path) -> str:
    try:
        return f"{count_macs(path) / 1e9:.2f} GMAC an image"
    except InvalidInputError as error:
        return f"not counted: {error}"
