"""TensorRT's parser takes every graph that is made for it, for the torchvision backbones."""

import shutil

import pytest

from engines.flavours import load_flavour
from engines.tensorrt.network import check_border, parse
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def photos(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), 4, (256, 256))


def count_layers(directory):
    flavour = load_flavour("tensorrt-rtx")
    parsed = parse(flavour, directory / "model.onnx")
    check_border(flavour, parsed, read_manifest(directory, "model.json", GraphManifest))
    return parsed.network.num_layers


def test_a_transformer_is_parsed(torchvision_artifact):
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    assert count_layers(torchvision_artifact("vit_b_16")) > 50


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_lowered_transformer_is_parsed(transformer_artifact, photos, tmp_path, precision):
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    lowered = ["quantize", str(transformer_artifact), str(photos), "-p", precision]
    options = ["--target", "tensorrt", "--allow-drift", "--max-kept", "0", "--no-cache"]
    assert run([*lowered, *options, "-o", str(tmp_path / "m")]) == 0
    assert count_layers(tmp_path / "m") > count_layers(transformer_artifact)


@pytest.mark.parametrize("name", [pytest.param("vgg16", marks=pytest.mark.slow), "resnet50"])
def test_every_precision_is_parsed(photos, tmp_path, name):
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    source = tmp_path / "source"
    # Classes as an input: with random weights two precisions may have no best class in common.
    options = ["--weights", "random", "--auxiliary-weights", "random", "--classes", "input"]
    arguments = ["export", "--backbone", name, "--auxiliary", "resnet18", *options]
    assert run([*arguments, "-o", str(source)]) == 0
    plain = count_layers(source)
    assert plain > 50
    # Random weights: whether the graph drifts says nothing, whether it parses does.
    options = ["--allow-drift", "--max-kept", "0", "--no-cache", "--method", "minmax"]
    for precision in ("fp16", "int8"):
        lowered = ["quantize", str(source), str(photos), "-p", precision, "--target", "tensorrt"]
        assert run([*lowered, *options, "-o", str(tmp_path / precision)]) == 0
        manifest = read_manifest(tmp_path / precision, "model.json", GraphManifest)
        assert manifest.quantisation.lowered_nodes > 15
        assert count_layers(tmp_path / precision) > plain
        shutil.rmtree(tmp_path / precision)
