"""FP32 to INT8 in QDQ form, in the one form that each target makes fast."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from ptame_deploy.graph_file import sort_nodes
from ptame_deploy.precision.blocks import bias_slots, weighted_nodes
from ptame_deploy.records import Target

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

# The operators between which ONNX Runtime's CPU provider stays in integers.
CPU_OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "MaxPool", "AveragePool", "GlobalAveragePool")
# TensorRT needs QDQ in front of what has weights, and fuses the rest itself.
TENSORRT_OPERATORS = ("Conv", "Gemm", "MatMul")
# A transformer computes on in FP32 behind them (bias, GELU, residual stream), and ONNX Runtime's
# integer kernels write FP32 themselves: rounding the result first would only cost precision.
CPU_FLOAT_OUTPUTS = ("Gemm", "MatMul")
DEQUANTIZE = "DequantizeLinear"
IMAGE_CHANNELS = 3
# What ONNX Runtime joins with the layer in front of it.
ACTIVATIONS = ("Relu", "Clip")
FP32_SUFFIX = "_fp32"


def to_int8(prepared: Path, ranges: "TensorsData", target: Target) -> onnx.ModelProto:
    """Insert quantise-dequantise pairs into a graph, wherever the target gains by them.

    Weights are INT8, symmetric, per channel, in both forms. ``tensorrt``: signed symmetric
    activations and no quantised bias, since its parser takes nothing else. ``cpu``: unsigned
    activations and quantised bias, which ONNX Runtime turns into integer kernels.

    Args:
        prepared: the FP32 graph as `prepare_graph` wrote it.
        ranges: of the activations, from calibration.
        target: what will run the graph.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

    model = load_model_with_shape_infer(prepared)
    fixed = border_layers(model.graph)
    for_cpu = target == "cpu"
    operators = CPU_OPERATORS if for_cpu else TENSORRT_OPERATORS
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if for_cpu else QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=_never_lowered(model.graph, operators),
        op_types_to_quantize=list(operators),
        extra_options={
            "ActivationSymmetric": not for_cpu,
            "WeightSymmetric": True,
            "QuantizeBias": for_cpu,
            "OpTypesToExcludeOutputQuantization": list(
                CPU_FLOAT_OUTPUTS if for_cpu else TENSORRT_OPERATORS
            ),
            # ONNX Runtime joins them with the convolution all the same; a layer that is put back
            # to FP32 must find the activation in front of it.
            "QDQKeepRemovableActivations": True,
        },
    )
    quantizer.quantize_model()
    quantized: onnx.ModelProto = quantizer.model.model
    _free_outputs(quantized.graph)
    _free_activations(quantized.graph)
    _free_inputs(quantized.graph, fixed)
    sort_nodes(quantized.graph)
    return quantized


def put_back(model: onnx.ModelProto, prepared: onnx.ModelProto, nodes: Collection[str]) -> None:
    """Let some of a quantised graph's nodes compute in FP32 again.

    Args:
        model: from `to_int8`; changed in place.
        prepared: the FP32 graph that it was made of, weights loaded.
        nodes: names of the nodes.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    weights = {weight.name: weight for weight in prepared.graph.initializer}
    sources = {node.name: node for node in prepared.graph.node}
    present = {weight.name for weight in graph.initializer}
    slots = bias_slots(prepared.graph)
    holders = {slots[name][0].name for name in nodes if name in slots}
    for node in graph.node:
        if node.name not in {*nodes, *holders}:
            continue
        originals = sources[node.name].input
        del node.input[len(originals) :]  # a bias that only corrects the rounding
        for position, original in enumerate(originals):
            pair = producers.get(node.input[position])
            if original in weights:
                name = f"{original}{FP32_SUFFIX}"  # the pair's own output may have the old one
                node.input[position] = name
                if name not in present:
                    graph.initializer.append(weights[original])
                    graph.initializer[-1].name = name
                    present.add(name)
            elif pair is not None and pair.op_type == DEQUANTIZE:
                node.input[position] = producers[pair.input[0]].input[0]
    _drop_unread(graph)


def lowered(model: onnx.ModelProto, names: Collection[str]) -> int:
    """Count how many of the named nodes read a quantised weight."""
    producers = {output: node for node in model.graph.node for output in node.output}
    return sum(
        node.name in names
        and node.input[1] in producers
        and producers[node.input[1]].op_type == DEQUANTIZE
        for node in model.graph.node
    )


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove the pairs, and the weights, that nothing reads any more."""
    outputs = {output.name for output in graph.output}
    while True:
        read = {name for node in graph.node for name in node.input} | outputs
        unread = [node for node in graph.node if not read & set(node.output)]
        if not unread:
            break
        for node in unread:
            graph.node.remove(node)
    kept = [weight for weight in graph.initializer if weight.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _free_activations(graph: onnx.GraphProto) -> None:
    """Take the pair between a layer and its activation away; the one behind the activation stays.

    Before ReLU6 values reach far over 6: quantised there, the few that matter lose their bits.
    """
    _read_unrounded(graph, [node for node in graph.node if node.op_type in ACTIVATIONS])


def _free_inputs(graph: onnx.GraphProto, nodes: Collection[str]) -> None:
    """Let nodes that stay in FP32 read what no pair has rounded, whoever else reads the pair.

    Between two pairs ONNX Runtime would quantise their FP32 weights itself, with one scale for all
    channels (its ``WeightBiasQuantization``; seen in 1.31).
    """
    _read_unrounded(graph, [node for node in graph.node if node.name in nodes])


def _read_unrounded(graph: onnx.GraphProto, nodes: Collection[onnx.NodeProto]) -> None:
    """Let nodes read what lies in front of the pair that they read."""
    producers = {output: node for node in graph.node for output in node.output}
    for node in nodes:
        pair = producers.get(node.input[0])
        if pair is not None and pair.op_type == DEQUANTIZE:
            node.input[0] = producers[pair.input[0]].input[0]
    _drop_unread(graph)


def _free_outputs(graph: onnx.GraphProto) -> None:
    """Take the pair of quantise and dequantise away in front of the graph's outputs.

    No kernel reads them there, and the clipped range of logits moves every probability.
    """
    producers = {output: node for node in graph.node for output in node.output}
    for output in graph.output:
        dequantise = producers.get(output.name)
        if dequantise is None or dequantise.op_type != DEQUANTIZE:
            continue
        quantise = producers[dequantise.input[0]]
        source = producers[quantise.input[0]]
        source.output[list(source.output).index(quantise.input[0])] = output.name
        graph.node.remove(quantise)
        graph.node.remove(dequantise)


def border_layers(graph: onnx.GraphProto) -> list[str]:
    """List the weighted nodes that always stay in FP32: a network's first ones, and the last.

    The first see the image (three channels), whose rounding every later layer inherits. A depthwise
    layer right behind (MobileNet, EfficientNet) has a filter for each of its channels, with large
    weights for those that hardly reach into the range that all share: this one tensor was most of
    what rounding the activations cost an EfficientNet-Lite2. The last makes the logits out of a few
    pooled features with long tails. All cost next to nothing.
    """
    shapes = {w.name: tuple(w.dims) for w in graph.initializer}
    weighted = {node.name for node in weighted_nodes(graph)}
    found = []
    behind: set[str] = set()  # tensors that no layer but a first one has made
    for node in graph.node:
        read = {name for name in node.input if name and name not in shapes}
        if node.name not in weighted:
            if read and read <= behind:
                behind |= set(node.output)
            continue
        channels = (*shapes[node.input[1]], 0)[1] if node.op_type == "Conv" else 0
        if channels == IMAGE_CHANNELS:
            behind |= set(node.output)
        depthwise = channels == 1 and read <= behind
        if channels == IMAGE_CHANNELS or depthwise or "logits" in node.output:
            found.append(node.name)
    return found


def _never_lowered(graph: onnx.GraphProto, operators: Collection[str]) -> list[str]:
    """List the nodes that would lose precision for no integer kernel in return.

    Besides `border_layers`: whatever lies behind the last weighted node (the maps' sums), sums
    that no convolution feeds (a transformer's residual stream, which needs its range), and
    products of two activations: between two that are quantised, attention's softmax would become
    an integer one, which loses flat attention (seen with ONNX Runtime 1.31: no top class was left).
    The quantiser's own ``MatMulConstBOnly`` says nothing to its QDQ form.
    """
    weighted = {node.name for node in weighted_nodes(graph)}
    producers = {output: node for node in graph.node for output in node.output}
    reaches: set[str] = set()  # tensors from which a weighted node can still be reached
    excluded = border_layers(graph)
    for node in reversed(graph.node):
        leads_on = node.name in weighted or reaches & set(node.output)
        if leads_on:
            reaches |= set(node.input)
        sources = [producers[name].op_type for name in node.input if name in producers]
        if node.op_type in operators and (
            not leads_on
            or (node.op_type == "Add" and "Conv" not in sources)
            or (node.op_type == "MatMul" and node.name not in weighted)
        ):
            excluded.append(node.name)
    return excluded
