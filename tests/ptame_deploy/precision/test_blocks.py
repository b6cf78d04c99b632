import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptame_deploy.graph_file import sort_nodes
from ptame_deploy.precision.blocks import find_blocks, min_max_nodes, weighted_nodes

pytestmark = pytest.mark.unit


def graph_of(weights):
    """A chain of matrix products, one for each weight's name."""
    nodes, tensor = [], "image"
    for number, weight in enumerate(weights):
        nodes.append(
            helper.make_node("MatMul", [tensor, weight], [f"t{number}"], name=f"n{number}")
        )
        tensor = f"t{number}"
    tensors = [numpy_helper.from_array(np.eye(2, dtype=np.float32), name) for name in weights]
    value = helper.make_tensor_value_info
    return helper.make_graph(
        nodes,
        "g",
        [value("image", TensorProto.FLOAT, [1, 2])],
        [value(tensor, TensorProto.FLOAT, [1, 2])],
        tensors,
    )


def test_blocks_are_the_modules_that_hold_the_layers():
    found = find_blocks(
        graph_of(
            [
                "model.classifier.module.layer1.0.conv1.weight",
                "model.classifier.module.layer1.0.conv2.weight",
                "model.auxiliary.stages.0.conv.weight",
            ]
        )
    )
    assert found == {"classifier.layer1.0": ["n0", "n1"], "auxiliary.stages.0": ["n2"]}


def test_a_long_list_of_layers_is_no_block():
    names = [f"model.classifier.module.features.{number}.weight" for number in range(9)]
    found = find_blocks(graph_of(names))
    assert list(found) == [f"classifier.features.{number}" for number in range(9)]


def test_nodes_without_names_of_modules_are_blocks_of_their_own():
    assert find_blocks(graph_of(["a", "b"])) == {"n0": ["n0"], "n1": ["n1"]}


def test_min_max_nodes_are_all_between_raw_maps_and_saliency(tiny_artifact):
    graph = onnx.load(tiny_artifact / "model.onnx").graph
    found = min_max_nodes(graph)
    kinds = [node.op_type for node in graph.node if node.name in found]
    assert {"ReduceMin", "ReduceMax", "Sub", "Div"} <= set(kinds)
    assert not {"Conv", "MatMul", "Resize"} & set(kinds)


def test_weighted_nodes_leave_products_of_activations_out(tiny_artifact):
    graph = onnx.load(tiny_artifact / "model.onnx").graph
    assert any(node.op_type == "MatMul" for node in graph.node)  # fusion rows times features
    assert {node.op_type for node in weighted_nodes(graph)} <= {"Conv", "Gemm"}


def test_sorting_puts_producers_first():
    graph = graph_of(["a", "b", "c"])
    nodes = list(graph.node)[::-1]
    del graph.node[:]
    graph.node.extend(nodes)
    sort_nodes(graph)
    assert [node.name for node in graph.node] == ["n0", "n1", "n2"]
