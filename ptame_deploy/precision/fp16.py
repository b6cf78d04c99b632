"""FP32 to FP16, with FP32 at the border and where half precision cannot hold the numbers."""

from collections.abc import Collection

import onnx
from onnx import TensorProto

from ptame_deploy.graph_file import sort_nodes
from ptame_deploy.precision.blocks import min_max_nodes

# Sums of squares and exponentials of attention leave FP16's range (seen on ViT: accuracy lost).
FP32_OPERATORS = ("LayerNormalization", "Softmax", "ReduceMean", "InstanceNormalization")


def to_fp16(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """Convert a fused graph.

    Args:
        model: the FP32 graph with shapes inferred and weights loaded; it is changed.
        keep: names of nodes that stay in FP32, beside those that always do: min-max
            normalisation of the maps, layer normalisation, softmax, top-k.

    Returns:
        The graph in FP16, inputs and outputs as before, nodes in topological order.
    """
    from onnxruntime.transformers import float16

    normalisation = _image_normalisation(model.graph)
    converted: onnx.ModelProto = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *FP32_OPERATORS],
        node_block_list=[*keep, *min_max_nodes(model.graph), *normalisation],
    )
    # The converter leaves some at the old type, and shape inference then refuses the graph.
    del converted.graph.value_info[:]
    _drop_repeated_casts(converted.graph)
    sort_nodes(converted.graph)
    return converted


def lowered(model: onnx.ModelProto, names: Collection[str]) -> int:
    """Count how many of the named nodes compute in FP16."""
    half = {w.name for w in model.graph.initializer if w.data_type == TensorProto.FLOAT16}
    return sum(node.name in names and node.input[1] in half for node in model.graph.node)


def _drop_repeated_casts(graph: onnx.GraphProto) -> None:
    """Keep one of the equal casts that the converter writes for each reader of one tensor."""
    seen: set[str] = set()
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] in seen:
            continue
        seen.update(node.output)
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _image_normalisation(graph: onnx.GraphProto) -> list[str]:
    """List the nodes that normalise the image: element-wise ones right behind the input.

    In FP16 a pixel's value is rounded before the mean is taken away, and the rounding stays.
    """
    tainted = {"image"}
    found = []
    for node in graph.node:
        if node.op_type in ("Sub", "Div", "Cast", "Transpose", "Mul") and node.input[0] in tainted:
            found.append(node.name)
            tainted |= set(node.output)
    return found
