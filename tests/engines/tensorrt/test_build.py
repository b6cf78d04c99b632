import json
import os
import re
import shlex
import signal
import types

import onnx
import pytest

from engines.flavours import Flavour, load_flavour
from engines.plan import Profile, read_plan
from engines.tensorrt import build as build_module
from engines.tensorrt import engine_builder
from ptame_deploy.cli import run
from ptame_deploy.errors import ArtifactError, InvalidInputError, MissingRequirementError
from ptame_deploy.storage import sha256_of_file

pytestmark = pytest.mark.integration
LENIENT = ["--min-agreement", "0", "--min-pearson", "0", "--max-kept", "0", "--no-cache"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), 8)


@pytest.fixture(scope="module")
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    return load_flavour("tensorrt-rtx")


def ptame_build(source, output, *options):
    return run(["build", str(source), "--runtime", "tensorrt-rtx", "-o", str(output), *options])


def test_inspect_tells_graph_and_plan_apart(tiny_plan, tiny_artifact, capsys):
    assert run(["inspect", str(tiny_plan)]) == 0
    said = capsys.readouterr().out
    graph = json.loads((tiny_artifact / "model.json").read_text())["provenance"]["command"]
    assert re.search(r"^  made +\S+: (.*)$", said, re.MULTILINE)[1] == graph
    built = read_plan(tiny_plan).provenance.command
    assert re.search(r"^  built by +\S+: (.*)$", said, re.MULTILINE)[1] == built


def test_a_plan_has_its_graphs_border_and_profile(tiny_plan, tiny_artifact):
    manifest = read_plan(tiny_plan)
    assert manifest.precision == "fp32"
    assert manifest.profile.model_dump() == {"min_batch": 1, "opt_batch": 2, "max_batch": 4}
    graph = json.loads((tiny_artifact / "model.json").read_text())
    assert manifest.model_dump(mode="json")["inputs"] == graph["inputs"]
    assert manifest.graph.files["model.onnx"].sha256 == graph["files"]["model.onnx"]["sha256"]
    assert manifest.files["model.plan"].sha256 == sha256_of_file(tiny_plan / "model.plan")
    assert "9.0" not in manifest.compute_capabilities
    plan = (tiny_plan / "model.plan").read_bytes()
    assert b"schema_version" not in plan[:4096]  # raw: nothing is prepended


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lowered_graphs_are_built(rtx, tiny_artifact, photos, tmp_path, precision):
    lowered = ["quantize", str(tiny_artifact), str(photos), "-p", precision, *LENIENT]
    assert run([*lowered, "--target", "tensorrt", "-o", str(tmp_path / "m")]) == 0
    assert ptame_build(tmp_path / "m", tmp_path / "p", "--engine", precision) == 0
    assert read_plan(tmp_path / "p").precision == precision


def test_a_graph_is_lowered_on_the_way(rtx, tiny_artifact, photos, tmp_path, capsys):
    options = ["--engine", "fp16", "--photos", str(photos)]
    assert ptame_build(tiny_artifact, tmp_path / "p", *options) == 0
    assert "top-1 agreement" in capsys.readouterr().err
    assert read_plan(tmp_path / "p").precision == "fp16"


def test_graphs_with_classes_and_bytes_are_built(rtx, tiny_classes_artifact, tmp_path):
    assert ptame_build(tiny_classes_artifact, tmp_path / "p") == 0
    assert [t.dtype for t in read_plan(tmp_path / "p").inputs] == ["uint8", "int64"]


def test_refusals(rtx, tiny_artifact, photos, tmp_path, capsys):
    out = tmp_path / "p"
    assert ptame_build(tiny_artifact, out, "--min-batch", "4", "--opt-batch", "2") == 2
    assert "must rise" in capsys.readouterr().err
    assert ptame_build(tiny_artifact, out, "--engine", "int8") == 2
    assert "ptame quantize" in capsys.readouterr().err
    lowered = ["quantize", str(tiny_artifact), str(photos), "-p", "int8", *LENIENT]
    assert run([*lowered, "--target", "cpu", "-o", str(tmp_path / "cpu")]) == 0
    assert ptame_build(tmp_path / "cpu", out) == 2
    assert "--target tensorrt" in capsys.readouterr().err
    assert ptame_build(tmp_path / "cpu", out, "--engine", "fp32") == 2
    assert ptame_build(tiny_artifact, out, "--photos", str(photos)) == 2
    assert ptame_build(tmp_path, out) == 2
    assert not out.exists()


def test_graph_and_engine_keep_out_of_each_others_folders(
    rtx, tiny_artifact, tiny_plan, photos, capsys
):
    assert ptame_build(tiny_artifact, tiny_artifact) == 2
    assert "holds a graph" in capsys.readouterr().err
    assert not (tiny_artifact / "model.plan").exists()
    lowered = ["quantize", str(tiny_artifact), str(photos), "-p", "fp16", "-o", str(tiny_plan)]
    assert run(lowered) == 2
    assert "holds an engine" in capsys.readouterr().err
    assert not (tiny_plan / "model.onnx").exists()


def test_the_usual_batch_follows_the_limits(rtx, tiny_artifact, tmp_path):
    assert ptame_build(tiny_artifact, tmp_path / "p", "--max-batch", "2") == 0
    assert read_plan(tmp_path / "p").profile.opt_batch == 2


def test_the_full_tensorrt_is_missed_in_one_sentence(tiny_artifact, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    assert run(["build", str(tiny_artifact), "-o", str(tmp_path / "p")]) == 3
    assert "tensorrt cannot be used here" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_parse_errors_name_the_node(rtx, tiny_artifact, tmp_path, capsys):
    """A graph with an operator that no TensorRT knows."""
    from ptame_deploy.artifact_files import manifest_json, read_manifest, record_files
    from ptame_deploy.artifacts import GraphManifest

    model = onnx.load(tiny_artifact / "model.onnx")
    node = next(n for n in model.graph.node if n.op_type == "ReduceMin")
    node.op_type, node.domain = "NoSuchOperator", "nobody"
    model.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
    (tmp_path / "m").mkdir()
    onnx.save(model, tmp_path / "m" / "model.onnx")
    manifest = read_manifest(tiny_artifact, "model.json", GraphManifest)
    manifest = manifest.model_copy(update={"files": record_files(tmp_path / "m")})
    (tmp_path / "m" / "model.json").write_text(manifest_json(manifest))
    assert ptame_build(tmp_path / "m", tmp_path / "p") == 2
    said = capsys.readouterr().err
    assert "NoSuchOperator" in said
    assert node.name in said
    assert not (tmp_path / "p").exists()


def test_ctrl_c_stops_between_steps(rtx, tiny_artifact, tmp_path, monkeypatch):
    from ptame_deploy.cli import console

    seen = []

    class Bar:
        task_ids = (0,)

        def update(self, task, description):
            seen.append(description)
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    class Progress:
        def __enter__(self):
            return Bar()

        def __exit__(self, *error):
            return False

    monkeypatch.setattr(console, "progress", lambda *a, **k: Progress())
    assert ptame_build(tiny_artifact, tmp_path / "p") == 130
    assert not (tmp_path / "p").exists()


def test_timing_caches_are_written_and_used_again(rtx, tiny_artifact, tmp_path):
    cache = tmp_path / "new" / "timing.cache"
    for _ in range(2):
        assert ptame_build(tiny_artifact, tmp_path / "p", "--timing-cache", str(cache)) == 0
        assert cache.stat().st_size > 0


def test_a_timing_cache_of_another_tensorrt_is_refused(tmp_path):
    class Config:
        def create_timing_cache(self, data):
            return object() if data == b"" else None

        def set_timing_cache(self, cache, ignore_mismatch):
            return not ignore_mismatch

    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"of another one")
    with (
        pytest.raises(ArtifactError, match="Delete it"),
        engine_builder._timing_cache(Config(), cache),
    ):
        pass
    assert cache.read_bytes() == b"of another one"


def test_the_equal_trtexec_command(tiny_classes_artifact, tmp_path, capsys):
    arguments = ["build", str(tiny_classes_artifact), "-o", str(tmp_path / "a b"), "--emit-trtexec"]
    assert run([*arguments, "--workspace", "512", "--version-compatible"]) == 0
    words = shlex.split(capsys.readouterr().out)
    assert words[0] == "trtexec"
    assert "--profilingVerbosity=detailed" in words
    assert f"--onnx={tiny_classes_artifact}/model.onnx" in words
    assert "--optShapes=image:8x64x64x3,class_index:8x1" in words
    assert f"--saveEngine={tmp_path}/a b/model.plan" in words
    assert "--memPoolSize=workspace:512M" in words
    assert "--versionCompatible" in words


def test_the_full_tensorrt_needs_a_gpu_to_build(tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr("engines.gpu.find_gpu", lambda: None)
    double = Flavour("tensorrt", types.SimpleNamespace(__version__="10.9.0"))
    options = engine_builder.BuildOptions(Profile())
    with pytest.raises(MissingRequirementError, match="needs an NVIDIA GPU"):
        build_module.build(tiny_artifact, tmp_path / "p", double, options)
    with pytest.raises(MissingRequirementError, match="needs an NVIDIA GPU"):
        engine_builder.build_engine(tiny_artifact / "model.onnx", [], double, options)


def test_any_graph_becomes_an_engine(rtx, tmp_path):
    """As benchmarks need it: a graph that is no artifact, without a manifest."""
    from ptame_deploy.artifacts import TensorRecord

    shape = ["batch", 4]
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "g.onnx")
    phases = []
    plan = engine_builder.build_engine(
        tmp_path / "g.onnx",
        [TensorRecord(name="x", dtype="float32", shape=shape)],
        rtx,
        engine_builder.BuildOptions(Profile(min_batch=1, opt_batch=2, max_batch=4)),
        on_phase=phases.append,
    )
    assert isinstance(plan, bytes)
    assert len(plan) > 1000
    assert phases
    with pytest.raises(InvalidInputError, match="cannot parse"):
        engine_builder.build_engine(
            tmp_path / "none.onnx", [], rtx, engine_builder.BuildOptions(Profile())
        )


@pytest.mark.parametrize(
    ("version", "flags", "expected"),
    [
        ("10.3.0", types.SimpleNamespace(STRONGLY_TYPED=1, EXPLICIT_BATCH=0), 2),
        ("11.0.0", types.SimpleNamespace(), 0),
    ],
)
def test_networks_are_strongly_typed(version, flags, expected):
    module = types.SimpleNamespace(__version__=version, NetworkDefinitionCreationFlag=flags)
    assert Flavour("tensorrt", module).network_flags() == expected


def test_old_tensorrts_are_refused(monkeypatch):
    old = types.SimpleNamespace(__version__="8.6.1")
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", old)
    with pytest.raises(MissingRequirementError, match=r"8\.6\.1 is too old"):
        load_flavour("tensorrt")
