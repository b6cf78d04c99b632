import numpy as np
import pytest
from onnx import TensorProto, helper

from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.macs import count_macs, macs_by_node

pytestmark = pytest.mark.unit


def graph_of(nodes, shape, output, weights, *, opset=18):
    made = [
        helper.make_tensor(name, TensorProto.FLOAT, dims, np.zeros(int(np.prod(dims))))
        for name, dims in weights.items()
    ]
    made.append(helper.make_tensor("shape", TensorProto.INT64, [2], [0, -1]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        made,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize("batch", [1, 3])
def test_by_hand(batch):
    node = helper.make_node
    model = graph_of(
        [
            node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2], name="conv"),
            node("Conv", ["a", "d"], ["b"], group=8, name="depthwise"),
            node("Reshape", ["b", "shape"], ["c"]),
            node("Gemm", ["c", "g"], ["d2"], transB=1, name="gemm"),
            node("MatMul", ["d2", "m"], ["e"], name="matmul"),
        ],
        ["batch", 3, 10, 12],
        "e",
        {"w": [8, 3, 3, 3], "d": [8, 1, 2, 2], "g": [7, 8 * 4 * 5], "m": [7, 5]},
    )
    counts = {counted.name: counted.macs for counted in macs_by_node(model, batch)}
    assert counts == {
        "conv": batch * 8 * 5 * 6 * 3 * 9,
        "depthwise": batch * 8 * 4 * 5 * 4,
        "gemm": batch * 160 * 7,
        "matmul": batch * 7 * 5,
    }
    assert count_macs(model, batch) == sum(counts.values())


def test_batched_and_broadcast_matrix_products():
    model = graph_of(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["x", "t"], ["y"]),
        ],
        ["batch", 4, 6],
        "y",
        {},
    )
    assert count_macs(model, 5) == 5 * 4 * 4 * 6


def test_a_transposed_gemm():
    model = graph_of(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)], ["n", 4], "y", {"w": [3, 5]}
    )
    assert count_macs(model, 3) == 4 * 3 * 5


def test_agrees_with_torchs_counter(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, groups=4, padding=1),
        torch.nn.Flatten(2),
        torch.nn.Linear(15 * 15, 20),
        torch.nn.TransformerEncoderLayer(20, 4, 40, batch_first=True),
    ).eval()
    images = torch.zeros(2, 3, 32, 32)
    path = tmp_path / "net.onnx"
    program = torch.onnx.export(net, (images,), dynamo=True, opset_version=18, verbose=False)
    program.save(str(path))
    # Without the fused kernels, which torch's counter does not know on the CPU.
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        net(images)
    assert 2 * count_macs(path, 2) == counter.get_total_flops()


def test_the_graph_is_left_as_it_was():
    model = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], ["n", 4], "y", {"w": [4, 5]})
    before = model.SerializeToString()
    count_macs(model, 2)
    assert model.SerializeToString() == before


def test_what_multiplies_but_is_not_counted_is_refused():
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik", name="sum")
    with pytest.raises(InvalidInputError, match="Einsum"):
        count_macs(graph_of([node], ["n", 4], "y", {"w": [4, 5]}))


def test_shapes_that_depend_on_the_image_are_refused():
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "f"], ["y"]),
    ]
    with pytest.raises(InvalidInputError, match="depends on the image"):
        count_macs(graph_of(nodes, ["n", 4], "y", {"w": [4, 2]}))


def test_no_graph(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"\xff\xff no graph")
    with pytest.raises(ArtifactError, match="not an ONNX graph"):
        count_macs(tmp_path / "no.onnx")
