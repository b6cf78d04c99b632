"""`ptame inspect` of what is no engine; those are in tests/engines/tensorrt."""

import json

import pytest

from ptame_deploy.cli import run
from ptame_deploy.shipped import shipped_explainers

pytestmark = pytest.mark.integration


def test_an_explainer_is_shown_with_what_it_gained(capsys):
    folder = shipped_explainers()["timm:tf_efficientnet_lite2"]
    assert run(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    kept = json.loads((folder / "explainer.json").read_text())["explainer"]
    assert f"better than its start by {kept['gain']['mean']:.3g}" in said
    assert f"agree with the classifier by {kept['own_answers']['mean']:.3g}" in said
    assert f"agree with the classifier by {kept['other_classes']['mean']:.3g}" in said
    assert "caution" not in said
    assert run(["inspect", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["explainer"] == kept


def test_a_file_is_told_from_a_folder_that_was_never_completed(tmp_path, tiny_artifact, capsys):
    path = tmp_path / "classifier.onnx"
    path.write_bytes((tiny_artifact / "model.onnx").read_bytes())
    assert run(["inspect", str(path)]) == 2
    assert "is a file, and the folder of a graph is expected" in capsys.readouterr().err
