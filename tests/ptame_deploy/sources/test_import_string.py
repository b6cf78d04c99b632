"""Functions of the user's as classifiers: trained against, whatever they ask."""

import json

import pytest
import torch

from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.sources.load import load_backbone

pytestmark = pytest.mark.integration
REMOTE = """
import numpy as np
import torch
from torch import nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
asked = 0


class Behind(nn.Module):  # of normalised images, as its owner has it
    def __init__(self, seed):
        super().__init__()
        self.linear = nn.Linear(48, 4, bias=False)
        weights = np.random.default_rng(seed).normal(size=(48, 4)) * 4
        self.linear.weight.data = torch.tensor(weights.T.astype("float32"))
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, image):
        image = image * self.std + self.mean
        return self.linear(nn.functional.avg_pool2d(image, 16).flatten(1))


def behind():
    return Behind(0)


def another():
    return Behind(1)


def build():
    weights = np.random.default_rng(0).normal(size=(48, 4)) * 4

    def predict(images):
        global asked
        asked += len(images)
        pooled = images.reshape(len(images), 3, 4, 16, 4, 16).mean((3, 5)).reshape(len(images), -1)
        powers = np.exp(pooled @ weights)
        return powers / powers.sum(axis=1, keepdims=True)

    return predict


def logits():
    return lambda images: images.mean((2, 3)) * 10 - 3


def wrong_shape():
    return lambda images: np.ones(len(images))


def failing():
    def predict(images):
        raise ConnectionError("the service does not answer")
    return predict
"""
SIZE = {"input_size": (64, 64)}


@pytest.fixture
def remote(tmp_path):
    path = tmp_path / "remote.py"
    path.write_text(REMOTE)
    return path


def test_probabilities_become_log_probabilities(remote):
    backbone = load_backbone(f"{remote}:build", preprocessing=SIZE)
    assert backbone.preprocessing.mean == (0, 0, 0)
    assert backbone.weights.source == "function build"
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(backbone.module(images).exp().sum(1), torch.ones(3))


def test_probabilities_of_single_classes_become_their_logits(remote):
    backbone = load_backbone(f"{remote}:build", preprocessing=SIZE, head="sigmoid")
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(backbone.module.function(images.numpy())).float()
    torch.testing.assert_close(backbone.module(images).sigmoid(), expected, rtol=1e-4, atol=1e-6)


def test_scores_of_a_function_are_not_kept(remote, make_photos, tmp_path):
    """Another model may answer behind it tomorrow, under the same name and code."""
    (tmp_path / "photos").mkdir()
    photos = make_photos(tmp_path / "photos", 24)
    words = ["train", str(photos), "--backbone", f"{remote}:build", "--input-size", "64",
             "--resize", "72", "--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random",
             "--auxiliary-size", "64", "--masks", "6", "--allow-no-gain"]  # fmt: skip
    for name in ("one", "two"):
        assert run([*words, "-o", str(tmp_path / name)]) == 0
        told = json.loads((tmp_path / name / "explainer.json").read_text())["training"]
        assert (told["photos_scored_before"], told["classifier_passes"]) == (0, 24 * 7)


def test_it_is_trained_against_and_not_exported(remote, make_photos, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    photos = make_photos(tmp_path / "photos", 24)
    own = ["--backbone", f"{remote}:build", "--input-size", "64", "--resize", "72"]
    auxiliary = ["--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random",
                 "--auxiliary-size", "64"]  # fmt: skip
    options = ["--masks", "6", "--allow-no-gain", "-o", str(tmp_path / "explainer")]
    assert run(["train", str(photos), *own, *auxiliary, *options]) == 0
    told = json.loads((tmp_path / "explainer" / "explainer.json").read_text())
    assert told["training"]["photos_used"] == 24
    assert run(["export", *own, *auxiliary, "-o", str(tmp_path / "m")]) == 2
    assert "is a Python function, which no graph can hold" in capsys.readouterr().err
    # The model behind the function is known by its answers.
    rest = [*own[2:], *auxiliary[2:4], "--explainer", str(tmp_path / "explainer"), "-o"]
    behind = ["export", "--backbone", f"{remote}:behind"]
    assert run([*behind, *rest, str(tmp_path / "m")]) == 0
    another = ["export", "--backbone", f"{remote}:another"]
    for words in (another, [*behind, "--mean", "0.3,0.3,0.3"]):
        capsys.readouterr()
        assert run([*words, *rest, str(tmp_path / "never")]) == 4
        assert "Is an option missing here? It was trained with --head" in capsys.readouterr().err
        assert not (tmp_path / "never").exists()
    # Without the answers nothing tells it from others of its shape.
    manifest = tmp_path / "explainer" / "explainer.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"answers": None}))
    assert run([*behind, *rest, str(tmp_path / "never")]) == 4
    paper = ["--preset", "paper", "-o", str(tmp_path / "paper")]
    assert run(["train", str(photos), *own, *auxiliary, *paper]) == 2
    assert "without gradient: --preset few needs none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("logits", r"must return probabilities, floats in \[0, 1\]"),
        ("wrong_shape", "must return probabilities"),
        ("failing", "ConnectionError: the service does not answer"),
    ],
)
def test_what_gives_no_probabilities_is_said(remote, factory, message):
    with pytest.raises(InvalidInputError, match=message):
        load_backbone(f"{remote}:{factory}", preprocessing=SIZE)
