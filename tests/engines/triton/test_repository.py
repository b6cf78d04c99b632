import json

import pytest
from tritonclient.grpc import model_config_pb2 as schema

from engines.artifact import Artifact
from engines.triton.config import Serving, parse_config
from engines.triton.repository import Wanted, write_models
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.storage import sha256_of_file

pytestmark = pytest.mark.integration


def read(folder):
    return parse_config((folder / "config.pbtxt").read_text())


def test_the_configuration_is_the_graphs_own(tiny_artifact, tmp_path, capsys):
    repository = tmp_path / "models"
    words = ["triton", str(tiny_artifact), "--repository", str(repository), "--name", "tiny"]
    assert run([*words, "--max-batch", "16", "--instances", "3", "--queue-delay", "2ms"]) == 0
    said = capsys.readouterr()
    assert "Wrote tiny in" in said.out
    assert "RANDOM" in said.err
    config = read(repository / "tiny")
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", 16)
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        ("image", schema.TYPE_FP32, [3, 64, 64])
    ]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [
        ("logits", schema.TYPE_FP32, [10]),
        ("class_index", schema.TYPE_INT64, [2]),
        ("saliency", schema.TYPE_FP32, [2, 16, 16]),
    ]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert [(one.count, one.kind) for one in config.instance_group] == [
        (3, schema.ModelInstanceGroup.KIND_CPU)
    ]
    assert [one.batch_size for one in config.model_warmup] == [1, 16]
    assert list(config.model_warmup[0].inputs["image"].dims) == [3, 64, 64]
    assert config.version_policy.latest.num_versions == 1
    manifest = GraphManifest.model_validate_json(config.parameters["ptame"].string_value)
    assert manifest == Artifact.read(tiny_artifact).graph
    served = repository / "tiny/1/model.onnx"
    assert sha256_of_file(served) == manifest.files["model.onnx"].sha256
    assert [path.name for path in served.parent.iterdir()] == ["model.onnx"]


def test_classes_as_an_input_and_class_names(tiny_classes_artifact, export_own, tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps(["two\nlines", *map(str, range(9))]))
    assert export_own(tmp_path / "named", "--class-names", str(names)) == 0
    words = [str(tiny_classes_artifact), str(tmp_path / "named"), "-o", str(tmp_path / "models")]
    assert run(["triton", *words, "--no-batching", "--no-warmup", "--gpu", "--threads", "2"]) == 0
    config = read(tmp_path / "models/model")
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        ("image", schema.TYPE_UINT8, [64, 64, 3]),
        ("class_index", schema.TYPE_INT64, [-1]),
    ]
    assert [list(one.dims) for one in config.output] == [[10], [-1, 16, 16]]
    assert not config.HasField("dynamic_batching")
    assert not config.model_warmup
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    assert not config.output[0].label_filename
    named = read(tmp_path / "models/named")
    assert named.output[0].label_filename == "labels.txt"
    labels = (tmp_path / "models/named/labels.txt").read_text().splitlines()
    assert labels == ["two lines", *map(str, range(9))]


def test_the_ensemble_hands_on_what_fits(tiny_classes_artifact, tmp_path):
    artifact = Artifact.read(tiny_classes_artifact)
    serving = Serving("onnxruntime", max_batch=4)
    wanted = [Wanted(artifact, "m", serving)]
    made = write_models(wanted, tmp_path, ensemble=True, also_classifier=True)
    assert made == ["m", "m-classifier", "m-decode", "m-photo"]
    graph, decode, whole = (read(tmp_path / name) for name in ("m", "m-decode", "m-photo"))
    assert decode.output[0].data_type == graph.input[0].data_type == schema.TYPE_UINT8
    assert list(decode.output[0].dims) == list(graph.input[0].dims) == [64, 64, 3]
    assert [one.name for one in whole.input] == ["photo", "class_index"]
    assert whole.input[0].data_type == schema.TYPE_STRING
    first, second = whole.ensemble_scheduling.step
    assert (first.model_name, second.model_name) == ("m-decode", "m")
    assert first.output_map["image"] == second.input_map["image"]
    assert dict(second.output_map) == {name: name for name in ("logits", "saliency")}
    assert [one.name for one in read(tmp_path / "m-classifier").output] == ["logits"]
    assert "ptame" not in read(tmp_path / "m-classifier").parameters
    assert not list(tmp_path.glob(".ptame-*"))


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--name", "a/b"], 2, "cannot be a model's name"),
        (["--name", "../up"], 2, "cannot be a model's name"),
        (["--backend", "tensorrt"], 2, "holds a graph, which the backend tensorrt does not run"),
        (["--max-batch", "0"], 2, "--max-batch must be at least 1"),
        (["--model-version", "0"], 2, "--model-version must be at least 1"),
        (["--queue-delay", "soon"], 2, "--queue-delay must be a time"),
        (["--queue-delay", "99999h"], 2, "--queue-delay must be at most 60s"),
        (["--max-batch", "99999999999"], 2, "--max-batch must be at most 2147483647"),
        (["--instances", "99999999999"], 2, "--instances must be at most 2147483647"),
        (["--name", "größe"], 2, "cannot be a model's name"),
    ],
)
def test_bad_usage_writes_nothing(tiny_artifact, tmp_path, capsys, options, code, says):
    words = ["triton", str(tiny_artifact), "-o", str(tmp_path / "models"), *options]
    assert run(words) == code
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "models").exists() or not any((tmp_path / "models").iterdir())


def test_a_folder_that_is_no_model_is_left_alone(tiny_artifact, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    words = ["triton", str(tiny_artifact), "-o", str(tmp_path), "--name", "mine"]
    assert run(words) == 2
    assert "is no model" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_models_come_all_or_not_at_all(tiny_artifact, tmp_path, capsys):
    import shutil

    for name in ("a/model", "b/model", "b/other"):
        shutil.copytree(tiny_artifact, tmp_path / name)
    repository = tmp_path / "models"
    words = ["triton", "-o", str(repository), "--ensemble"]
    assert run([*words, str(tmp_path / "a/model"), str(tmp_path / "b/model")]) == 2
    assert "Two models would be called model" in capsys.readouterr().err
    assert not list(repository.iterdir())
    (repository / "other").mkdir()
    assert run([*words, str(tmp_path / "a/model"), str(tmp_path / "b/other")]) == 2
    assert [path.name for path in repository.iterdir()] == ["other"]
    (repository / "other").rmdir()
    assert run([*words, str(tmp_path / "a/model"), str(tmp_path / "b/other")]) == 0
    assert len(list(repository.iterdir())) == 6


def test_a_configuration_that_is_none_is_left_alone(tiny_artifact, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for content in (b"\xff\xfe no text", b"name: nothing {"):
        (tmp_path / "mine/config.pbtxt").write_bytes(content)
        words = ["triton", str(tiny_artifact), "-o", str(tmp_path), "--name", "mine"]
        assert run(words) == 2
        assert "config.pbtxt cannot be read" in " ".join(capsys.readouterr().err.split())
        assert (tmp_path / "mine/config.pbtxt").read_bytes() == content


def test_corrupt_artifacts_and_missing_schema(tiny_artifact, tmp_path, capsys, monkeypatch):
    import shutil
    import sys

    broken = tmp_path / "broken"
    shutil.copytree(tiny_artifact, broken)
    (broken / "model.onnx").write_bytes(b"cut")
    assert run(["triton", str(broken), "-o", str(tmp_path / "models")]) == 4
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    capsys.readouterr()
    assert run(["triton", str(tiny_artifact), "-o", str(tmp_path / "models")]) == 3
    assert "ptame-deploy[triton]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "grpc://a:99999", "http://me@host:1", "http://[::1"]
)
def test_addresses_that_are_none(url, photo_folder, tmp_path, capsys):
    assert run(["client", url, str(photo_folder), "-o", str(tmp_path / "o")]) == 2
    assert "is no address" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_does_not_answer_is_exit_3(scheme, photo_folder, tmp_path, capsys):
    url = f"{scheme}://127.0.0.1:9"  # discard: nobody listens
    words = ["client", url, str(photo_folder), "-o", str(tmp_path / "o"), "--timeout", "2s"]
    assert run(words) == 3
    assert "No answer from 127.0.0.1:9" in capsys.readouterr().err


def test_engines_of_tensorrt_for_rtx_are_refused(tiny_artifact, tmp_path, capsys):
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    plan = tmp_path / "plan"
    assert run(["build", str(tiny_artifact), "--runtime", "tensorrt-rtx", "-o", str(plan)]) == 0
    assert run(["triton", str(plan), "-o", str(tmp_path / "models")]) == 2
    assert "Triton loads engines of TensorRT itself alone" in capsys.readouterr().err


def test_an_engines_profile_bounds_the_batch(tiny_artifact, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    plan = tmp_path / "plan"
    words = ["build", str(tiny_artifact), "--runtime", "tensorrt-rtx", "--max-batch", "8"]
    assert run([*words, "--opt-batch", "4", "-o", str(plan)]) == 0
    artifact = Artifact.read(plan)
    # As TensorRT itself would have written it: it cannot be installed here.
    assert artifact.plan is not None
    object.__setattr__(artifact, "plan", artifact.plan.model_copy(update={"flavour": "tensorrt"}))
    from engines.triton.repository import serving_of

    serving = serving_of(artifact, {})
    assert (serving.backend, serving.gpu, serving.max_batch) == ("tensorrt", True, 8)
    models = tmp_path / "models"
    assert write_models([Wanted(artifact, "engine", serving)], models) == ["engine"]
    config = read(tmp_path / "models/engine")
    assert (config.backend, config.max_batch_size) == ("tensorrt", 8)
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    served = tmp_path / "models/engine/1/model.plan"
    assert served.read_bytes() == (plan / "model.plan").read_bytes()
    with pytest.raises(InvalidInputError, match="takes 1 to 8 photos, Triton would give it 1 to 9"):
        write_models([Wanted(artifact, "e2", serving_of(artifact, {"max_batch": 9}))], models)
    with pytest.raises(InvalidInputError, match="cannot be cut out of one"):
        write_models([Wanted(artifact, "e3", serving)], models, also_classifier=True)


def test_a_second_version_stands_beside_the_first(tiny_artifact, export_own, tmp_path, capsys):
    repository = tmp_path / "models"
    words = ["triton", str(tiny_artifact), "-o", str(repository), "--name", "tiny"]
    assert run(words) == 0
    assert run(words) == 2
    assert "--model-version 2" in capsys.readouterr().err
    assert run([*words, "--model-version", "2"]) == 0
    assert sorted(path.name for path in (repository / "tiny").iterdir()) == [
        "1",
        "2",
        "config.pbtxt",
    ]
    other = tmp_path / "other"
    assert export_own(other, "--top-k", "3") == 0
    words[1] = str(other)
    assert run([*words, "--model-version", "3"]) == 2
    assert "has other outputs" in capsys.readouterr().err
    assert not (repository / "tiny/3").exists()
