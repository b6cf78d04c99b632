"""FP32 to FP16, with FP32 at the border and where half precision cannot hold the numbers."""

from collections.abc import Collection

import onnx
from onnx import TensorProto, helper

from ptame_deploy.graph_file import sort_nodes
from ptame_deploy.precision.blocks import logit_nodes, min_max_nodes, superpixel_nodes

# Sums of squares and exponentials of attention leave FP16's range (seen on ViT: accuracy lost).
FP32_OPERATORS = ("LayerNormalization", "Softmax", "ReduceMean", "InstanceNormalization")


def to_fp16(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """Convert a fused graph.

    Args:
        model: the FP32 graph with shapes inferred and weights loaded; it is changed.
        keep: names of nodes that stay in FP32, beside those that always do: min-max
            normalisation of the maps, superpixels, what lies behind the classifier's last layer,
            layer normalisation, softmax, top-k.

    Returns:
        The graph in FP16, inputs and outputs as before, nodes in topological order.
    """
    from onnxruntime.transformers import float16

    _move_transposes(model.graph)
    known = {node.name for node in model.graph.node}
    normalisation = _image_normalisation(model.graph)
    converted: onnx.ModelProto = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *FP32_OPERATORS],
        node_block_list=[
            *keep,
            *min_max_nodes(model.graph),
            *superpixel_nodes(model.graph),
            *logit_nodes(model.graph),
            *normalisation,
        ],
    )
    # The converter leaves some at the old type, and shape inference then refuses the graph.
    del converted.graph.value_info[:]
    _drop_repeated_casts(converted.graph)
    _skip_round_trips(converted.graph, known)
    sort_nodes(converted.graph)
    return converted


def lowered(model: onnx.ModelProto, names: Collection[str]) -> int:
    """Count how many of the named nodes compute in FP16."""
    half = {w.name for w in model.graph.initializer if w.data_type == TensorProto.FLOAT16}
    return sum(node.name in names and node.input[1] in half for node in model.graph.node)


def _move_transposes(graph: onnx.GraphProto) -> None:
    """Multiply by a weight first, then transpose, where the order makes no difference.

    torchvision's attention transposes batch and tokens in front of its projection. ONNX Runtime's
    CPU provider puts a cast between the two, for lack of an FP16 product; its optimiser (seen in
    1.31) exchanges cast and transpose without resolving the graph, and then crashes on what it
    made: https://github.com/microsoft/onnxruntime/issues/28392.
    """
    matrices = {weight.name for weight in graph.initializer if len(weight.dims) == 2}
    producers = {output: node for node in graph.node for output in node.output}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        transpose = producers.get(node.input[0]) if node.op_type == "MatMul" else None
        if transpose is None or transpose.op_type != "Transpose" or node.input[1] not in matrices:
            continue
        order = [axis for attribute in transpose.attribute for axis in attribute.ints]
        if not order or order[-1] != len(order) - 1:  # the axis that the product sums over moves
            continue
        moved = helper.make_node(
            "Transpose",
            [f"{node.output[0]}_untransposed"],
            [node.output[0]],
            name=f"{node.name}_transpose",
            perm=order,
        )
        node.input[0], node.output[0] = transpose.input[0], moved.input[0]
        nodes.append(moved)
        # The converter casts what a node kept in FP32 writes only if it knows the type.
        graph.value_info.append(
            helper.make_tensor_value_info(moved.input[0], TensorProto.FLOAT, None)
        )
    read = {name for node in nodes for name in node.input} | {o.name for o in graph.output}
    del graph.node[:]
    graph.node.extend(
        node for node in nodes if node.op_type != "Transpose" or node.output[0] in read
    )


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


def _skip_round_trips(graph: onnx.GraphProto, known: Collection[str]) -> None:
    """Let FP32 nodes read each other's FP32 results, which the converter rounds to FP16 between.

    Args:
        graph: as converted.
        known: names of the nodes that are not the converter's own.
    """
    down = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.name not in known and _cast_to(node) == TensorProto.FLOAT16
    }
    for node in graph.node:
        if _cast_to(node) == TensorProto.FLOAT:
            node.input[0] = down.get(node.input[0], node.input[0])
    read = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    for node in [n for n in graph.node if n.op_type == "Cast" and n.output[0] not in read]:
        graph.node.remove(node)


def _cast_to(node: onnx.NodeProto) -> int | None:
    """Return the type that a cast gives; None for other nodes."""
    if node.op_type != "Cast":
        return None
    return int(next(attribute.i for attribute in node.attribute if attribute.name == "to"))


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
