import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from ptame_deploy import Explainer, graph_file
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.cli import run
from ptame_deploy.onnx_session import open_session
from ptame_deploy.precision.blocks import min_max_nodes, superpixel_nodes
from ptame_deploy.synthetic import synthetic_images

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def photos(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), 16)


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def quantize(source, photos, output, *options):
    arguments = ["quantize", str(source), str(photos), "-o", str(output), "--max-kept", "0"]
    return run([*arguments, *options])


LENIENT = ("--min-agreement", "0.5", "--min-pearson", "0.5", "--max-map-difference", "0.3")


@pytest.fixture(scope="module")
def fp16(tiny_artifact, photos, tmp_path_factory):
    directory = tmp_path_factory.mktemp("fp16") / "m"
    assert quantize(tiny_artifact, photos, directory, "-p", "fp16") == 0
    return directory


@pytest.fixture(scope="module")
def int8(tiny_artifact, photos, tmp_path_factory):
    """INT8 graphs by target."""
    base = tmp_path_factory.mktemp("int8")
    for target in ("cpu", "tensorrt"):
        options = ("-p", "int8", "--target", target, "--no-cache", *LENIENT)
        assert quantize(tiny_artifact, photos, base / target, *options) == 0
    return base


def manifest_of(directory):
    return read_manifest(directory, "model.json", GraphManifest)


def test_fp16_holds_its_own_tolerance_and_says_so(fp16, tiny_artifact):
    manifest = manifest_of(fp16)
    assert manifest.precision == "fp16"
    record = manifest.quantisation
    assert record.drift.photos == 4
    assert record.drift.top1_agreement == 1
    assert record.drift.map_mean < 0.02
    assert 0 < record.drift.probability_max < 0.01
    assert record.misses == []
    assert record.lowered_nodes > 10
    assert len(record.faithfulness) == 6
    assert manifest.inputs == manifest_of(tiny_artifact).inputs
    assert manifest.outputs == manifest_of(tiny_artifact).outputs
    assert (fp16 / "model.onnx").stat().st_size < 0.7 * (
        tiny_artifact / "model.onnx"
    ).stat().st_size


def test_few_photos_are_a_caution(fp16):
    manifest = manifest_of(fp16)
    count = manifest.quantisation.drift.photos
    assert count < 20
    assert f"fp16 was compared with FP32 on {count} photos only" in manifest.cautions


def test_a_graph_is_not_written_over_itself(tiny_artifact, photos, tmp_path, capsys):
    folder = tmp_path / "m"
    shutil.copytree(tiny_artifact, folder)
    assert quantize(folder, photos, folder / ".", "-p", "fp16") == 2
    assert "is the graph itself" in capsys.readouterr().err
    assert manifest_of(folder).precision == "fp32"


def test_fp16_normalises_maps_in_fp32(fp16):
    model = onnx.shape_inference.infer_shapes(onnx.load(fp16 / "model.onnx"))
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    stretching = min_max_nodes(model.graph)
    assert stretching
    for node in model.graph.node:
        if node.name in stretching and node.op_type != "Cast":
            assert {types.get(name, TensorProto.FLOAT) for name in node.output} == {
                TensorProto.FLOAT
            }
    halves = [w for w in model.graph.initializer if w.data_type == TensorProto.FLOAT16]
    assert len(halves) > 10


@pytest.fixture(scope="module")
def with_superpixels(tmp_path_factory, export_tiny):
    directory = tmp_path_factory.mktemp("superpixels") / "m"
    assert export_tiny(directory, "--auxiliary-size", "224", "--superpixels") == 0
    return directory


@pytest.mark.parametrize("options", [("-p", "fp16"), ("-p", "int8", *LENIENT)])
def test_superpixels_stay_in_fp32(with_superpixels, photos, tmp_path, options):
    """Distances of colour leave FP16's range, and products of activations are not for INT8."""
    source = onnx.load(with_superpixels / "model.onnx").graph
    names = set(superpixel_nodes(source))
    assert {"Softmax", "MatMul", "AveragePool"} <= {
        n.op_type for n in source.node if n.name in names
    }
    assert quantize(with_superpixels, photos, tmp_path / "m", *options) == 0
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "m" / "model.onnx")).graph
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    products = [n for n in graph.node if n.op_type in ("MatMul", "Softmax") and n.name in names]
    assert len(products) > 5
    makers = {output: node.op_type for node in graph.node for output in node.output}
    for node in products:
        assert {types[name] for name in node.output} == {TensorProto.FLOAT}
        assert "DequantizeLinear" not in {makers.get(name) for name in node.input}
    drift = manifest_of(tmp_path / "m").quantisation.drift
    assert drift.pearson > 0.98


def test_fp16_rounds_nothing_between_nodes_in_fp32(fp16):
    graph = onnx.load(fp16 / "model.onnx").graph
    casts = {
        node.output[0]: (node.attribute[0].i, node.input[0])
        for node in graph.node
        if node.op_type == "Cast"
    }
    assert casts
    for target, source in casts.values():
        assert (target, casts.get(source, (None,))[0]) != (TensorProto.FLOAT, TensorProto.FLOAT16)


def test_a_flat_map_divides_by_no_zero(fp16, int8):
    flat = np.zeros((1, 3, 64, 64), np.float32)
    for directory in (fp16, int8 / "cpu", int8 / "tensorrt"):
        outputs = open_session(directory / "model.onnx").run(None, {"image": flat})
        assert all(np.isfinite(output).all() for output in outputs)


@pytest.mark.parametrize("kind", ["fp16", "cpu", "tensorrt"])
def test_batch_stays_dynamic_and_types_stay_at_the_border(fp16, int8, kind):
    directory = fp16 if kind == "fp16" else int8 / kind
    session = open_session(directory / "model.onnx")
    images = synthetic_images(5, 64, 64, seed=5)
    together = session.run(None, {"image": images})
    assert [output.dtype for output in together] == [np.float32, np.int64, np.float32]
    alone = session.run(None, {"image": images[2:3]})
    np.testing.assert_allclose(together[0][2], alone[0][0], atol=1e-2)
    np.testing.assert_allclose(together[2][2], alone[2][0], atol=2e-2)


def quantised_constants(model):
    graph = model.graph
    values = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    activations = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in values]
    return values, activations, weights


def test_the_tensorrt_form_is_signed_symmetric_without_bias(int8):
    values, activations, weights = quantised_constants(onnx.load(int8 / "tensorrt" / "model.onnx"))
    assert activations
    for node in activations:
        assert values[node.input[2]].dtype == np.int8
        assert (values[node.input[2]] == 0).all()
    assert weights
    for node in weights:
        assert values[node.input[0]].dtype == np.int8
        assert (values[node.input[2]] == 0).all()
    assert any(values[node.input[1]].size > 1 for node in weights)  # per channel


def test_the_cpu_form_has_unsigned_activations_and_quantised_bias(int8):
    values, activations, weights = quantised_constants(onnx.load(int8 / "cpu" / "model.onnx"))
    assert {values[node.input[2]].dtype for node in activations} == {np.dtype(np.uint8)}
    assert {values[node.input[0]].dtype for node in weights} == {
        np.dtype(np.int8),
        np.dtype(np.int32),
    }


def test_int8_is_what_its_manifest_says(int8):
    for target in ("cpu", "tensorrt"):
        record = manifest_of(int8 / target).quantisation
        assert record.target == target
        assert record.calibration.method == "percentile"
        assert record.calibration.photos == 6  # the other 6 are searched on
        assert record.lowered_nodes > 10


def test_a_lowered_graph_explains_photos(int8, photos, tmp_path):
    found = Explainer.load(int8 / "cpu")([photos / "03.png", photos / "04.png"])
    assert found.saliency.shape == (2, 2, 16, 16)
    arguments = ["explain", str(int8 / "cpu"), str(photos), "-o", str(tmp_path / "out")]
    assert run(arguments) == 0


def test_drift_is_1_and_keeps_nothing(tiny_artifact, photos, tmp_path, capsys):
    options = ("-p", "int8", "--min-pearson", "1")
    assert quantize(tiny_artifact, photos, tmp_path / "m", *options) == 1
    assert "Pearson of the maps 0." in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
    assert quantize(tiny_artifact, photos, tmp_path / "m", *options, "--allow-drift") == 0
    manifest = manifest_of(tmp_path / "m")
    assert any("DRIFTS" in caution for caution in manifest.cautions)


def test_blocks_kept_by_hand_stay_in_fp32(tiny_artifact, photos, tmp_path, capsys):
    assert quantize(tiny_artifact, photos, tmp_path / "x", "-p", "int8", "--keep", "no") == 2
    assert "auxiliary.stages.3.4" in capsys.readouterr().err
    options = ("-p", "int8", "--keep", "auxiliary.stages.3.4", *LENIENT)
    assert quantize(tiny_artifact, photos, tmp_path / "m", *options) == 0
    record = manifest_of(tmp_path / "m").quantisation
    assert record.kept_blocks == ["auxiliary.stages.3.4"]
    # And the first layer of each network, the depthwise one behind the explainer's, and the last.
    assert record.kept_nodes == 4 + 1
    graph = onnx.load(tmp_path / "m" / "model.onnx").graph
    weights = {w.name: w.data_type for w in graph.initializer}
    kept = [n for n in graph.node if "auxiliary.stages.3.4" in (n.input[1:2] or [""])[0]]
    assert len(kept) == 1
    assert {weights[n.input[1]] for n in kept} == {TensorProto.FLOAT}


def test_the_search_keeps_blocks_until_the_target_holds(tiny_artifact, photos, tmp_path):
    arguments = ["quantize", str(tiny_artifact), str(photos), "-o", str(tmp_path / "m")]
    options = ["-p", "int8", "--min-agreement", "0", "--min-pearson", "0.9995", "--max-kept", "30"]
    assert run([*arguments, *options, "--allow-drift"]) == 0
    record = manifest_of(tmp_path / "m").quantisation
    assert record.kept_blocks
    assert record.sensitivity[0].block == record.kept_blocks[0]
    kept = [row.nodes for row in record.sensitivity if row.block in record.kept_blocks]
    assert record.kept_nodes == sum(kept) + 4


def test_calibrations_are_cached_until_the_weights_change(
    tiny_artifact, export_tiny, photos, tmp_path, capsys
):
    options = ("-p", "int8", *LENIENT)
    assert quantize(tiny_artifact, photos, tmp_path / "a", *options) == 0
    assert "Calibrating" in capsys.readouterr().err
    assert quantize(tiny_artifact, photos, tmp_path / "b", *options) == 0
    assert "from its cache" in capsys.readouterr().err
    first, second = ((tmp_path / name / "model.onnx").read_bytes() for name in "ab")
    assert first == second
    assert export_tiny(tmp_path / "other", "--top-k", "2", "--seed", "1") == 0
    assert quantize(tmp_path / "other", photos, tmp_path / "c", *options, "--allow-drift") == 0
    assert "from its cache" not in capsys.readouterr().err


def test_every_calibration_method_is_tried(tiny_artifact, photos, tmp_path):
    options = ("-p", "int8", "--method", "sweep", *LENIENT)
    assert quantize(tiny_artifact, photos, tmp_path / "m", *options) == 0
    calibration = manifest_of(tmp_path / "m").quantisation.calibration
    assert set(calibration.swept) == {"minmax", "percentile", "entropy"}
    assert calibration.swept[calibration.method] == min(calibration.swept.values())


def test_photos_that_were_tuned_on_do_not_judge(tiny_artifact, photos, tmp_path, capsys):
    copies = tmp_path / "copies"
    copies.mkdir()
    for number in (0, 1):
        shutil.copy(photos / f"{number:02}.png", copies / f"other name {number}.png")
    options = ("-p", "fp16", "--calibration", str(copies), *LENIENT)
    assert quantize(tiny_artifact, photos, tmp_path / "m", *options) == 0
    assert manifest_of(tmp_path / "m").quantisation.drift.photos == 14
    assert quantize(tiny_artifact, copies, tmp_path / "n", *options) == 2
    assert "are among those to calibrate on" in capsys.readouterr().err


def test_unreadable_photos_are_named_and_the_others_serve(tiny_artifact, photos, tmp_path, capsys):
    some = tmp_path / "some"
    shutil.copytree(photos, some)
    (some / "03.png").write_bytes(b"no photo")
    assert quantize(tiny_artifact, some, tmp_path / "m", "-p", "fp16") == 2
    said = capsys.readouterr().err
    assert "Photos that were skipped (1)" in said
    assert "03.png" in said
    assert manifest_of(tmp_path / "m").precision == "fp16"


def test_inputs_that_cannot_be_lowered(fp16, tiny_artifact, photos, tmp_path, capsys):
    assert quantize(fp16, photos, tmp_path / "m", "-p", "int8") == 2
    assert "fp16 already" in capsys.readouterr().err
    assert quantize(tmp_path / "none", photos, tmp_path / "m", "-p", "int8") == 2
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(photos / "00.png", few)
    assert quantize(tiny_artifact, few, tmp_path / "m", "-p", "int8") == 2
    assert "too few" in capsys.readouterr().err
    (few / "00.png").write_bytes(b"nothing")
    options = ("-p", "int8", "--calibration", str(few))
    assert quantize(tiny_artifact, photos, tmp_path / "m", *options) == 2
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("options", [("-p", "fp16"), ("-p", "int8", "--target", "cpu")])
def test_graphs_that_take_classes_and_bytes(tiny_classes_artifact, photos, tmp_path, options):
    assert quantize(tiny_classes_artifact, photos, tmp_path / "m", *options, *LENIENT) == 0
    found = Explainer.load(tmp_path / "m")(photos / "00.png", class_index=[1, 2, 3])
    assert found.saliency.shape == (1, 3, 16, 16)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_large_graphs_keep_their_weights_outside(
    tiny_artifact, photos, tmp_path, monkeypatch, precision
):
    monkeypatch.setattr(graph_file, "EXTERNAL_DATA_BYTES", 1000)
    assert quantize(tiny_artifact, photos, tmp_path / "m", "-p", precision, *LENIENT) == 0
    assert set(manifest_of(tmp_path / "m").files) == {"model.onnx", "model.onnx.data"}
    assert (tmp_path / "m" / "model.onnx").stat().st_size < 600_000
    Explainer.load(tmp_path / "m")(photos / "00.png")


def test_a_manifest_cannot_call_itself_fp32(fp16, tmp_path):
    shutil.copytree(fp16, tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    document = json.loads(path.read_text())
    document["precision"] = "fp32"
    path.write_text(json.dumps(document))
    assert run(["explain", str(tmp_path / "m"), str(tmp_path), "-o", str(tmp_path / "o")]) == 4
