"""What a precision pass may lower, and the blocks in which it thinks: a network's own modules."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import onnx

from ptame_deploy.graph_file import name_scopes

# Operators with weights: what costs time, and what INT8 is for.
WEIGHTED = ("Conv", "Gemm", "MatMul")
# Modules that directly hold more layers than this (VGG's one long list) are no block of their own.
MAX_BLOCK_LAYERS = 6


def weighted_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """List the convolutions and matrix products whose second factor is a weight, in order."""
    weights = {weight.name for weight in graph.initializer}
    return [
        node for node in graph.node if node.op_type in WEIGHTED and set(node.input[1:2]) <= weights
    ]


def bias_slots(graph: onnx.GraphProto) -> dict[str, tuple[onnx.NodeProto, int]]:
    """Find where each layer's bias is added: which node does it, and as which of its inputs.

    A convolution and a Gemm do it themselves, whether they have a bias yet or not; behind a matrix
    product it is a sum with a weight. Layers are left out whose bias is no vector of weights.

    Args:
        graph: any.

    Returns:
        Node and position, by the layer's name.
    """
    vectors = {w.name for w in graph.initializer if w.dims and w.dims[-1] == math.prod(w.dims)}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    slots = {}
    for node in weighted_nodes(graph):
        holder, position = node, 2
        if node.op_type == "MatMul":
            holder, *others = readers[node.output[0]] or [node]
            if others or holder.op_type != "Add":
                continue
            position = 1 - list(holder.input).index(node.output[0])
        if {*holder.input[position : position + 1]} - {""} <= vectors:
            slots[node.name] = (holder, position)
    return slots


def find_blocks(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """Group the weighted nodes by the module that holds them.

    Args:
        graph: as the exporter wrote it, or any other; without names of modules each node is a
            block of its own.

    Returns:
        Node names by block, blocks in the graph's order.
    """
    weights = {weight.name for weight in graph.initializer}
    layers = {node.name: _layer(node, weights) for node in weighted_nodes(graph)}
    parents: dict[str, set[str]] = defaultdict(set)
    for layer in layers.values():
        parents[_parent(layer)].add(layer)
    blocks: dict[str, list[str]] = defaultdict(list)
    for node, layer in layers.items():
        parent = _parent(layer)
        small = parent and len(parents[parent]) <= MAX_BLOCK_LAYERS
        blocks[parent if small else layer].append(node)
    return dict(blocks)


def superpixel_nodes(graph: onnx.GraphProto) -> list[str]:
    """List the nodes that average maps over superpixels, see `ptame_deploy.superpixels`.

    They stay in FP32: squared distances of colour, and sums over a map's pixels, leave FP16. They
    are told by where they stand, since passes forget modules: they see the image, but not through
    weights, and no weights lie behind them.

    Args:
        graph: a fused graph.
    """
    weighted = {node.name for node in weighted_nodes(graph)}
    leading = _before_weights(graph.node, weighted)
    seen, found = {"image"}, []
    for node in graph.node:
        if node.name in weighted or node.op_type == "Shape" or not seen & set(node.input):
            continue
        seen |= set(node.output)
        if not leading & set(node.output):
            found.append(node.name)
    return found


def logit_nodes(graph: onnx.GraphProto) -> list[str]:
    """List the nodes between the classifier's last weights and ``logits``.

    Only where its answer is more than what its last layer gives: log-odds of probabilities, or the
    logarithm of a softmax. They stay in FP32: FP16 holds no probability that is near 0 or 1.

    Args:
        graph: a fused graph.
    """
    names = _ancestors(graph, ["logits"])
    behind = [node for node in graph.node if node.name in names]
    weighted = {node.name for node in weighted_nodes(graph)}
    leading = _before_weights(behind, weighted)
    return [
        node.name for node in behind if node.name not in weighted and not leading & set(node.output)
    ]


def _before_weights(nodes: Sequence[onnx.NodeProto], weighted: Collection[str]) -> set[str]:
    """Return the tensors behind which there are weights, of nodes in the graph's order."""
    leading: set[str] = set()
    for node in reversed(nodes):
        if node.name in weighted or leading & set(node.output):
            leading |= set(node.input)
    return leading


def min_max_nodes(graph: onnx.GraphProto) -> list[str]:
    """List the nodes that stretch raw maps to [0, 1]: all between the raw maps and ``saliency``.

    They stay in FP32: a flat map's range is under what FP16 can hold beside its values.

    Args:
        graph: a fused graph.
    """
    behind = _ancestors(graph, ["saliency"])
    tainted = raw_map_tensors(graph)
    found = []
    for node in graph.node:
        if node.name in behind and tainted & set(node.input):
            found.append(node.name)
            tainted |= set(node.output)
    return found


def raw_map_tensors(graph: onnx.GraphProto) -> set[str]:
    """Return the maps as they are before they are stretched: their smallest values are asked for.

    Args:
        graph: a fused graph.
    """
    behind = _ancestors(graph, ["saliency"])
    return {n.input[0] for n in graph.node if n.op_type == "ReduceMin" and n.name in behind}


def _ancestors(graph: onnx.GraphProto, tensors: Iterable[str]) -> set[str]:
    producers = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    stack = list(tensors)
    while stack:
        node = producers.get(stack.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            stack += node.input
    return found


def _layer(node: onnx.NodeProto, weights: set[str]) -> str:
    """Return the path of a node's module, by its weight's name or by what the exporter noted."""
    weight = node.input[1]
    if weight in weights and "." in weight:
        path = weight.rpartition(".")[0]
    else:
        path = (name_scopes(node) or [""])[-1]
    return _without_wrappers(path) or node.name


def _without_wrappers(path: str) -> str:
    path = path.removeprefix("model.")
    return path.replace("classifier.module.", "classifier.", 1)


def _parent(layer: str) -> str:
    return layer.rpartition(".")[0]
