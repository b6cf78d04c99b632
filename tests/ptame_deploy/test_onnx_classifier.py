"""Somebody's ONNX graph from file to explained photo, and with a gradient."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from ptame_deploy import Explainer
from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.onnx_session import open_graph
from ptame_deploy.sources.load import load_backbone
from ptame_deploy.vision import import_torchvision
from tests.conftest import TINY_OPTIONS
from tests.doubles.onnx_classifiers import CLASSES, SIDE, saved
from tests.ptame_deploy.test_foreign_graph import theirs

pytestmark = pytest.mark.integration
PLAIN = ["--mean", "0,0,0", "--std", "1,1,1"]


def export(path, directory, *options):
    """Export somebody's file; returns the exit code."""
    arguments = ["export", "--backbone", str(path), *TINY_OPTIONS, *PLAIN, *options]
    return run([*arguments, "-o", str(directory)])


@pytest.fixture
def translator():
    import_torchvision()  # onnx2torch imports it, and must find it whole
    return pytest.importorskip("onnx2torch", reason="pip install onnx2torch")


@pytest.mark.parametrize(
    ("how", "opset"),
    [
        ({"layout": "nhwc", "batch": 1, "opset": 11, "ending": "Softmax"}, 18),
        ({"elem_type": TensorProto.UINT8, "opset": 20}, 20),
        ({"ending": "Exp", "opset": 13}, 18),
    ],
    ids=str,
)
def test_a_graph_is_merged_as_it_is(tmp_path, how, opset):
    path = saved(tmp_path, **how)
    assert export(path, tmp_path / "m") == 0
    manifest = json.loads((tmp_path / "m" / "model.json").read_text())
    assert manifest["classifier"]["num_classes"] == CLASSES
    assert manifest["opset"] == opset
    model = onnx.load(tmp_path / "m" / "model.onnx")
    assert {entry.domain for entry in model.opset_import} == {""}
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert any(name.startswith("classifier/") for name in names)
    images = np.random.default_rng(1).random((3, 3, SIDE, SIDE), dtype=np.float32)
    outputs = open_graph(tmp_path / "m" / "model.onnx")(images, None)
    expected = theirs(path, images)
    np.testing.assert_array_equal(outputs["class_index"][:, 0], expected.argmax(axis=1))


def test_it_is_explained_lowered_and_measured_like_any_other(tmp_path, real_photos):
    path = saved(tmp_path, layout="nhwc", ending="Sigmoid")
    model, photo = tmp_path / "m", str(real_photos["chelsea"])
    assert export(path, model) == 0
    assert run(["explain", str(model), photo, "-o", str(tmp_path / "explained")]) == 0
    row = (tmp_path / "explained" / "results.csv").read_text().splitlines()[1]
    assert "chelsea" in row
    options = ["--precision", "fp16", "--allow-drift", "-o", str(tmp_path / "half")]
    photos = [str(path) for path in real_photos.values()]
    assert run(["quantize", str(model), *photos, *options]) == 0


def test_multi_label_probabilities_are_each_for_itself(tmp_path, real_photos):
    path = saved(tmp_path, ending="Sigmoid")
    model = tmp_path / "m"
    assert export(path, model, "--top-k", str(CLASSES)) == 0
    explainer = Explainer.load(model)
    found = explainer([real_photos["chelsea"]])
    photo = Image.open(real_photos["chelsea"]).convert("RGB")
    image = explainer.manifest.preprocessing.apply(photo)
    expected = theirs(path, (image[None].transpose(0, 3, 1, 2) / 255).astype(np.float32))[0]
    np.testing.assert_allclose(found.probability[0], np.sort(expected)[::-1], atol=1e-5)


def test_the_head_can_be_said(tmp_path):
    path = saved(tmp_path, classes=1)
    assert export(path, tmp_path / "m", "--head", "sigmoid") == 0
    manifest = json.loads((tmp_path / "m" / "model.json").read_text())
    assert manifest["classifier"]["head"] == "sigmoid"
    assert export(path, tmp_path / "n", "--head", "tanh") == 2


@pytest.mark.usefixtures("translator")
def test_a_gradient_goes_through_where_the_graph_can_be_translated(tmp_path):
    backbone = load_backbone(str(saved(tmp_path)), preprocessing={"std": (1, 1, 1)})
    image = torch.rand(2, 3, SIDE, SIDE, requires_grad=True)
    logits = backbone.module(image)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), image)
    step = 1e-2 * torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        after = backbone.module(image + step)
    torch.testing.assert_close(
        (after - logits)[:, 1].sum(), (gradient * step).sum(), rtol=1e-3, atol=1e-4
    )


@pytest.mark.usefixtures("translator")
def test_operators_without_translation_are_named(tmp_path):
    path = saved(tmp_path)
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Mish", ["answer"], ["mished"]))
    model.graph.output[0].name = "mished"
    model.opset_import[0].version = 18
    model.graph.node[-1].domain = ""
    onnx.save(model, path)
    backbone = load_backbone(str(path))
    with pytest.raises(InvalidInputError, match=r"no translation of .*Mish.*--preset few"):
        backbone.module(torch.rand(1, 3, SIDE, SIDE, requires_grad=True))
