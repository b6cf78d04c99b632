import json
import shutil

import pytest

from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import ExplainerManifest, GraphManifest
from ptame_deploy.errors import ArtifactError, InvalidInputError

pytestmark = pytest.mark.integration


def read(directory):
    return read_manifest(directory, "model.json", GraphManifest)


@pytest.fixture
def copy(tiny_artifact, tmp_path):
    shutil.copytree(tiny_artifact, tmp_path / "copy")
    return tmp_path / "copy"


def edit(directory, change):
    path = directory / "model.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_manifest_says_what_the_graph_is(tiny_artifact):
    manifest = read(tiny_artifact)
    assert [i.name for i in manifest.inputs] == ["image"]
    assert manifest.inputs[0].shape == ["batch", 3, 64, 64]
    assert [o.name for o in manifest.outputs] == ["logits", "class_index", "saliency"]
    assert [o.dtype for o in manifest.outputs] == ["float32", "int64", "float32"]
    assert manifest.outputs[2].shape == ["batch", 2, 16, 16]
    assert manifest.top_k == 2
    assert manifest.explainer.state == "initialised"
    assert manifest.explainer.start == "random"
    assert {r.batch for r in manifest.parity} == {1, 2, 5}
    assert all(r.difference <= r.tolerance for r in manifest.parity)
    assert manifest.provenance.versions["onnxruntime"]
    assert any("auxiliary weights are RANDOM" in c for c in manifest.cautions)
    assert any("RANDOM fusion weights" in c for c in manifest.cautions)


def test_missing_artifacts(tmp_path):
    with pytest.raises(InvalidInputError, match="does not exist"):
        read(tmp_path / "none")
    with pytest.raises(InvalidInputError, match=r"holds no model\.json"):
        read(tmp_path)


def test_a_changed_byte_is_found(copy):
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        read(copy)


def test_a_graph_cut_short_is_found(copy):
    data = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(data[:-1])
    with pytest.raises(ArtifactError, match="cut short or replaced"):
        read(copy)


def test_a_missing_graph_is_found(copy):
    (copy / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx is missing"):
        read(copy)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", "3", "[" * 100_000, '{"schema_version": 1}']
)
def test_json_that_is_no_manifest(copy, text):
    (copy / "model.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"model\.json"):
        read(copy)


def test_json_that_is_not_text(copy):
    (copy / "model.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match="cannot be read as JSON"):
        read(copy)


def test_newer_schema_says_update(copy):
    edit(copy, lambda d: d.update(schema_version=2))
    with pytest.raises(ArtifactError, match="Update ptame-deploy"):
        read(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("preprocessing"),
        lambda d: d["preprocessing"].update(std=[0, 1, 1]),
        lambda d: d["preprocessing"].update(resize="large"),
        lambda d: d["files"]["model.onnx"].update(sha256="nonsense"),
        lambda d: d.update(kind="explainer"),
        lambda d: d["classifier"].update(class_names=["only one"]),
        lambda d: d.update(files={}),
        lambda d: d.update(inputs=[]),
        lambda d: d["outputs"].pop(0),
        lambda d: d.update(top_k=3),
        lambda d: d.update(top_k=None),
        lambda d: d.update(map_size=[8, 8]),
        lambda d: d["classifier"].update(class_names=["x" * 501] * 10),
        lambda d: d["classifier"].update(class_names=["half \ud800"] * 10),
    ],
)
def test_wrong_fields_are_named(copy, change):
    edit(copy, change)
    with pytest.raises(ArtifactError, match="is not a valid manifest: "):
        read(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["outputs"][2].update(shape=["batch", 2, 99, 16]),
        lambda d: d["inputs"][0].update(dtype="uint8"),
        lambda d: d["preprocessing"].update(input_size=[32, 32]),
        lambda d: d["classifier"].update(num_classes=11),
    ],
)
def test_a_manifest_that_does_not_match_its_graph(copy, change):
    from ptame_deploy import Explainer

    edit(copy, change)
    with pytest.raises(ArtifactError, match="manifest"):
        Explainer.load(copy)


def test_files_outside_the_folder_are_refused(copy):
    edit(copy, lambda d: d["files"].update({"../../etc/passwd": d["files"]["model.onnx"]}))
    with pytest.raises(ArtifactError, match="outside its folder"):
        read(copy)


def test_what_stands_in_an_artifacts_place_is_named(tiny_artifact, tmp_path):
    with pytest.raises(InvalidInputError, match=rf"give its folder, {tiny_artifact}\."):
        read(tiny_artifact / "model.onnx")
    (tmp_path / "explainer.json").write_text("{}")
    with pytest.raises(InvalidInputError, match=rf"ptame export --explainer {tmp_path}"):
        read(tmp_path)
    with pytest.raises(InvalidInputError, match="holds a fused graph; an explainer"):
        read_manifest(tiny_artifact, "explainer.json", ExplainerManifest)


@pytest.mark.parametrize(
    ("mean", "low", "high", "photos", "warned"),
    [
        (0.2, 0.1, 0.3, 40, False),
        (0.02, -0.1, 0.1, 40, True),
        (-0.2, -0.3, -0.1, 40, True),
        (0.2, 0.1, 0.3, 3, True),
    ],
)
def test_maps_of_other_classes_that_explain_nothing_are_warned_of(
    tiny_artifact, mean, low, high, photos, warned
):
    found = read(tiny_artifact).model_dump()
    found["explainer"]["other_classes"] = {
        "mean": mean, "low": low, "high": high, "photos": photos
    }  # fmt: skip
    cautions = GraphManifest.model_validate(found).cautions
    told = [caution for caution in cautions if "classes other than the best one" in caution]
    assert len(told) == warned
    assert all(("point AWAY" in caution) == (high < 0) for caution in told)


@pytest.mark.parametrize(
    ("low", "photos", "warned"), [(0.01, 40, False), (-0.01, 40, True), (0.01, 7, True)]
)
def test_a_training_that_did_not_help_is_warned_of(tiny_artifact, low, photos, warned):
    found = read(tiny_artifact).model_dump()
    found["explainer"]["gain"] = {"mean": 0.02, "low": low, "high": 0.1, "photos": photos}
    cautions = GraphManifest.model_validate(found).cautions
    assert any("training did NOT make" in caution for caution in cautions) == warned


def test_answers_that_are_not_explained_are_warned_of_once(tiny_artifact):
    """Where the best class's maps are noise, the others' need no caution of their own."""
    found = read(tiny_artifact).model_dump()
    noise = {"mean": 0.02, "low": -0.1, "high": 0.1, "photos": 40}
    found["explainer"] |= {"own_answers": noise, "other_classes": noise}
    cautions = GraphManifest.model_validate(found).cautions
    (told,) = [caution for caution in cautions if "agree with" in caution]
    assert told == (
        "maps explain NOTHING beyond chance: they agree with the classifier by 0.02 (-0.10 to 0.10)"
        " on 40 photos that they had not seen, where 0 is chance"
    )


def test_what_is_doubted_or_assumed_of_a_classifier_stays_with_its_graph(tiny_artifact):
    found = read(tiny_artifact).model_dump()
    found["classifier"] |= {"assumed": ["mean", "std"], "doubts": ["it looks odd"]}
    cautions = GraphManifest.model_validate(found).cautions
    assert "DOUBT: it looks odd" in cautions
    assert any("(if not: --mean, --std)" in caution for caution in cautions)


def test_a_graph_of_the_answer_alone_has_no_other_classes(tmp_path, export_own):
    assert export_own(tmp_path / "one", "--top-k", "1") == 0
    found = read(tmp_path / "one").model_dump()
    found["explainer"]["other_classes"] = {"mean": 0.0, "low": -0.1, "high": 0.1, "photos": 40}
    assert not any("classes other than" in c for c in GraphManifest.model_validate(found).cautions)
    found["contrast"] = "best"  # the best other class is in the map then
    assert any("classes other than" in c for c in GraphManifest.model_validate(found).cautions)


def test_cautions_are_written_for_other_readers_and_told_anew(tiny_artifact, tmp_path):
    """C++ reads the sentences; whoever changes them changes nothing that Python says."""
    path = tiny_artifact / "model.json"
    written = json.loads(path.read_text())
    assert written["cautions"] == read(tiny_artifact).cautions
    shutil.copytree(tiny_artifact, tmp_path / "m")
    (tmp_path / "m" / "model.json").write_text(json.dumps(written | {"cautions": []}))
    assert read(tmp_path / "m").cautions == written["cautions"]
