import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from ptame_deploy.errors import ArtifactError, CheckFailedError, InvalidInputError
from ptame_deploy.foreign_graph import read_foreign_graph
from ptame_deploy.heads import probabilities
from ptame_deploy.sources.load import load_backbone
from tests.doubles.onnx_classifiers import CLASSES, SIDE, classifier, saved

pytestmark = pytest.mark.unit


def theirs(path, images):
    """What the file itself answers, image for image."""
    session = onnxruntime.InferenceSession(str(path))
    name, kind = session.get_inputs()[0].name, session.get_inputs()[0].type
    shape = session.get_inputs()[0].shape
    if shape[-1] == 3:
        images = images.transpose(0, 2, 3, 1)
    if kind == "tensor(uint8)":
        images = np.rint(images * 255).astype(np.uint8)
    if kind == "tensor(float16)":
        images = images.astype(np.float16)
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"layout": "nhwc"},
        {"elem_type": TensorProto.UINT8},
        {"elem_type": TensorProto.UINT8, "layout": "nhwc", "batch": 1},
        {"elem_type": TensorProto.FLOAT16},
        {"batch": 1},
        {"size": ("height", "width")},
        {"opset": 11},
        {"opset": 17, "names": ("serving_default:0", "dense/Softmax:0"), "ending": "Softmax"},
    ],
    ids=str,
)
def test_any_exporters_graph_answers_as_its_file_does(tmp_path, how):
    path = saved(tmp_path, **how)
    backbone = load_backbone(
        str(path), preprocessing={"mean": (0, 0, 0), "std": (1, 1, 1), "input_size": (SIDE, SIDE)}
    )
    images = np.random.default_rng(1).integers(0, 256, (3, 3, SIDE, SIDE)) / 255
    images = images.astype(np.float32)
    with torch.no_grad():
        found = backbone.module(torch.from_numpy(images)).numpy()
    assert (backbone.num_classes, backbone.head) == (CLASSES, "softmax")
    expected = theirs(path, images)
    if "ending" in how:
        found = probabilities(found)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("ending", "head", "inside"),
    [("Softmax", "softmax", False), ("Sigmoid", "sigmoid", False), ("Exp", "softmax", True)],
)
def test_what_ends_in_probabilities_becomes_logits(tmp_path, ending, head, inside):
    path = saved(tmp_path, ending=ending)
    graph = read_foreign_graph(path)
    assert (graph.head, graph.gives_probabilities) == (head, inside)
    backbone = load_backbone(str(path), preprocessing={"mean": (0, 0, 0), "std": (1, 1, 1)})
    images = np.random.default_rng(1).random((2, 3, SIDE, SIDE), dtype=np.float32)
    with torch.no_grad():
        logits = backbone.module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(probabilities(logits, head), theirs(path, images), atol=1e-5)


def test_a_graphs_own_size_is_the_classifiers(tmp_path):
    backbone = load_backbone(str(saved(tmp_path)))
    assert backbone.preprocessing.input_size == (SIDE, SIDE)
    assert backbone.preprocessing.mean == (0.485, 0.456, 0.406)


def test_bytes_are_not_normalised(tmp_path):
    backbone = load_backbone(str(saved(tmp_path, elem_type=TensorProto.UINT8)))
    assert backbone.preprocessing.mean == (0, 0, 0)
    assert backbone.preprocessing.std == (1, 1, 1)


@pytest.mark.parametrize("name", ["answer", "opposite"])
def test_the_right_output_can_be_named(tmp_path, name):
    path = saved(tmp_path, second_output="opposite")
    graph = read_foreign_graph(path, output_name=name)
    assert [output.name for output in graph.model.graph.output] == [name]
    text = f"{path}@output={name},input=pixels"
    assert load_backbone(text).name == text


def test_logits_are_taken_where_one_output_is_called_so(tmp_path):
    path = saved(tmp_path, second_output="logits")
    assert read_foreign_graph(path).output == "logits"


@pytest.mark.parametrize(
    ("how", "chosen", "message"),
    [
        ({"second_output": "b"}, "", r"several outputs .*\(answer, b\): .*theirs.onnx@output=NAME"),
        (
            {"more_inputs": [("mask", [1, 3, 8, 8])]},
            "",
            r"takes several images \(pixels, mask\).*@output=NAME",
        ),
        ({"more_inputs": [("scale", [1])]}, "", r"takes more than an image \(scale\)"),
        ({}, "@output=nothing", r"'nothing' .* is no classifier's answer .*answer float32"),
        ({}, "@input=nothing", r"'nothing' .* is no image input .*pixels float"),
        ({}, "@outputs=answer", r"@input=NAME, @output=NAME, .* got 'outputs=answer'"),
        ({}, "@channels=blue", r"@channels=bgr, .* got 'channels=blue'"),
        ({"classes": 1}, "", r"gives one number, .* --head sigmoid"),
    ],
)
def test_what_cannot_be_told_is_asked_for(tmp_path, how, chosen, message):
    path = saved(tmp_path, **how)
    with pytest.raises(InvalidInputError, match=message):
        load_backbone(f"{path}{chosen}")


def test_inputs_that_the_answer_does_not_need_are_left_away(tmp_path):
    """Of a graph with two towers, the output says which image is meant."""
    photo, other = (
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
        for name in ("photo", "other")
    )
    answers = [
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])
        for name in ("of_photo", "of_other")
    ]
    nodes = [
        onnx.helper.make_node("ReduceMean", [image], [answer], axes=[2, 3], keepdims=0)
        for image, answer in (("photo", "of_photo"), ("other", "of_other"))
    ]
    graph = onnx.helper.make_graph(nodes, "towers", [photo, other], answers)
    path = tmp_path / "towers.onnx"
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
        ),
        path,
    )
    with pytest.raises(InvalidInputError, match=r"several images \(photo, other\)"):
        read_foreign_graph(path)
    found = read_foreign_graph(path, output_name="of_other")
    assert (found.input, found.output) == ("other", "of_other")
    assert [value.name for value in found.model.graph.input] == ["other"]
    whole = np.random.default_rng(0).random((2, 3, SIDE, SIDE)).astype(np.float32)
    session = onnxruntime.InferenceSession(found.model.SerializeToString())
    (answer,) = session.run(None, {"other": whole})
    np.testing.assert_allclose(answer, whole.mean((2, 3)), rtol=1e-5)


def test_colours_in_opencvs_order(tmp_path):
    path = saved(tmp_path)
    plain = {"mean": (0.1, 0.2, 0.3), "std": (1, 1, 1)}  # of red, green, blue
    backbone = load_backbone(f"{path}@channels=bgr,output=answer", preprocessing=plain)
    images = np.random.default_rng(1).random((2, 3, SIDE, SIDE)).astype(np.float32)
    with torch.no_grad():
        found = backbone.module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, theirs(path, images[:, ::-1]), atol=1e-5)
    other = load_backbone(str(path), preprocessing=plain)
    assert backbone.weights.sha256 != other.weights.sha256  # not to be taken for one another
    assert load_backbone(f"{path}@channels=rgb").weights.sha256 == other.weights.sha256


def changed(tmp_path, *, last, output=None, more=()):
    """A classifier behind whose answer stands another node."""
    model = classifier()
    nodes, outputs = model.graph.node, model.graph.output
    nodes[-1].output[0] = "inner"
    nodes.append(last)
    if output is not None:
        outputs[0].CopyFrom(output)
    model.graph.initializer.extend(more)
    path = tmp_path / "theirs.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("ending", [None, "Softmax"])
def test_answers_with_places_of_one_pixel_are_flattened(tmp_path, ending):
    """As of SqueezeNet and whatever else ends in a convolution and a pooling."""
    model = classifier(names=("pixels", "flat_answer"))
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    model.graph.initializer.append(axes)
    last = "four" if ending else "answer"
    model.graph.node.append(onnx.helper.make_node("Unsqueeze", ["flat_answer", "axes"], [last]))
    if ending:
        model.graph.node.append(onnx.helper.make_node(ending, ["four"], ["answer"], axis=1))
    del model.graph.output[:]
    shape = ["batch", CLASSES, 1, 1]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("answer", TensorProto.FLOAT, shape)
    )
    path = tmp_path / "theirs.onnx"
    onnx.save(model, path)
    found = read_foreign_graph(path)
    assert (found.num_classes, found.gives_probabilities) == (CLASSES, False)
    onnx.checker.check_model(found.model, full_check=True)
    images = np.random.default_rng(1).random((2, 3, SIDE, SIDE)).astype(np.float32)
    session = onnxruntime.InferenceSession(found.model.SerializeToString())
    (logits,) = session.run(None, {"pixels": images})
    plain = onnxruntime.InferenceSession(classifier().SerializeToString())
    np.testing.assert_allclose(logits, plain.run(None, {"pixels": images})[0], rtol=1e-5)


def test_outputs_that_are_no_tensors_are_left_out(tmp_path):
    sequence = onnx.helper.make_tensor_sequence_value_info("answer", TensorProto.FLOAT, None)
    last = onnx.helper.make_node("SplitToSequence", ["inner"], ["answer"], axis=0)
    path = changed(tmp_path, last=last, output=sequence)
    with pytest.raises(InvalidInputError, match="Its outputs: no tensors"):
        read_foreign_graph(path)


def test_weights_among_the_inputs_of_an_old_graph(tmp_path):
    model = classifier(opset=9, batch=1)
    model.ir_version = 3
    for weight in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        )
    path = tmp_path / "theirs.onnx"
    onnx.save(model, path)
    found = read_foreign_graph(path)
    assert onnx.version_converter.convert_version(found.model, 18).graph.node


def test_answers_that_are_broken_or_random_are_said(tmp_path):
    path = changed(tmp_path, last=onnx.helper.make_node("Sqrt", ["inner"], ["answer"]))
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        read_foreign_graph(path)
    last = onnx.helper.make_node("RandomNormalLike", ["inner"], ["answer"])
    with pytest.raises(CheckFailedError, match="random operators"):
        read_foreign_graph(changed(tmp_path, last=last))


def test_a_graph_that_fails_at_the_usual_size_asks_for_its_own(tmp_path):
    path = saved(tmp_path, size=("height", "width"), batch=1)  # reshapes to what 64 x 64 gives
    with pytest.raises(InvalidInputError, match=r"of \(1, 3, 224, 224\).*--input-size"):
        load_backbone(str(path))
    assert load_backbone(str(path), preprocessing={"input_size": (SIDE, SIDE)}).num_classes == 4


def test_no_image_and_no_graph_are_said(tmp_path):
    path = tmp_path / "theirs.onnx"
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5])],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
    )
    onnx.save(onnx.helper.make_model(graph), path)
    with pytest.raises(InvalidInputError, match=r"no image input .*x float \(1, 5\)"):
        load_backbone(str(path))
    path.write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match="cannot be read as an ONNX graph"):
        load_backbone(str(path))
    with pytest.raises(InvalidInputError, match="does not exist"):
        load_backbone(str(tmp_path / "absent.onnx"))


def test_a_size_that_does_not_fit_is_said(tmp_path):
    with pytest.raises(InvalidInputError, match="fails on an input of 32x32"):
        load_backbone(str(saved(tmp_path)), preprocessing={"input_size": (32, 32)})


def test_a_batch_that_cannot_be_freed_is_refused(tmp_path):
    model = onnx.load(saved(tmp_path, batch=1))
    # A mean over the whole batch: it answers, but each image depends on the others.
    model.graph.node.append(
        onnx.helper.make_node("ReduceMean", ["answer"], ["mean"], axes=[0], keepdims=1)
    )
    model.graph.node.append(onnx.helper.make_node("Add", ["answer", "mean"], ["both"]))
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("both", TensorProto.FLOAT, [1, CLASSES])
    )
    path = tmp_path / "mixed.onnx"
    onnx.save(model, path)
    with pytest.raises(CheckFailedError, match=r"fixed to a batch of 1.*dynamic batch"):
        read_foreign_graph(path)


def test_weights_are_hashed_and_cannot_be_replaced(tmp_path):
    path = saved(tmp_path)
    one = load_backbone(str(path)).weights
    again = load_backbone(str(path)).weights
    assert one == again
    assert one.source == "file theirs.onnx"
    with pytest.raises(InvalidInputError, match="brings its own weights"):
        load_backbone(str(path), weights="random")


def test_a_graph_that_contradicts_itself_is_said(tmp_path):
    model = classifier()
    pool = next(node for node in model.graph.node if node.op_type == "AveragePool")
    del pool.output[:]  # found by fuzzing
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ArtifactError, match="contradicts itself"):
        read_foreign_graph(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "location", ["../outside.bin", "/etc/hostname", "inside/../../outside.bin"]
)
def test_weights_outside_its_folder_are_refused(tmp_path, location):
    (tmp_path / "outside.bin").write_bytes(bytes(10**5))
    model = classifier()
    weights = next(w for w in model.graph.initializer if w.name == "w")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(model, folder / "m.onnx")
    with pytest.raises(ArtifactError, match="cannot be read as an ONNX graph"):
        read_foreign_graph(folder / "m.onnx")


def test_a_fused_graph_is_no_classifier(tiny_artifact):
    with pytest.raises(InvalidInputError, match="explains already"):
        read_foreign_graph(tiny_artifact / "model.onnx")
