"""What a classifier's source does not say: how photos are prepared, and what its answers are."""

import numpy as np
import pytest
import torch

from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.heads import probabilities
from ptame_deploy.own_features import OwnFeatures
from ptame_deploy.sources.load import load_backbone
from ptame_deploy.synthetic import synthetic_images
from tests.doubles.onnx_classifiers import saved

pytestmark = pytest.mark.integration
CLASSIFIERS = """
import numpy as np
import torch
from torch import nn


def plain():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    )
    nn.init.normal_(net[-1].weight, std=5)
    return net


def softmax():
    return nn.Sequential(plain(), nn.Softmax(1))


def sigmoid():
    return nn.Sequential(plain(), nn.Sigmoid())


def each_for_itself():
    return lambda images: 1 / (1 + np.exp(-images.mean((2, 3))))


def rounded():
    return lambda images: np.tile(np.array([0.33, 0.33, 0.33]), (len(images), 1))


def direct(images):
    return images.mean((2, 3))
"""
SIZE = {"input_size": (64, 64)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "classifiers.py"
    path.write_text(CLASSIFIERS)
    return path


def test_another_input_size_sees_as_much_of_the_photo():
    backbone = load_backbone("resnet18", weights="random", preprocessing={"input_size": (384, 384)})
    assert backbone.preprocessing.resize == round(256 * 384 / 224)
    said = {"input_size": (384, 384), "resize": 400}
    assert (
        load_backbone("resnet18", weights="random", preprocessing=said).preprocessing.resize == 400
    )


def test_what_was_assumed_is_known_until_it_is_said(file, tmp_path):
    assert load_backbone("resnet18", weights="random").assumed == ()
    code = load_backbone(f"{file}:plain", preprocessing=SIZE)
    assert code.assumed == ("resize", "interpolation", "mean", "std")
    assert code.record().assumed == list(code.assumed)
    said = {**SIZE, "resize": 70, "interpolation": "bicubic", "mean": (0,) * 3, "std": (1,) * 3}
    assert load_backbone(f"{file}:plain", preprocessing=said).assumed == ()
    graph = load_backbone(str(saved(tmp_path)))
    assert graph.assumed == ("resize", "interpolation", "mean", "std")  # it says its size
    any_size = load_backbone(str(saved(tmp_path, size=("h", "w"))), preprocessing=SIZE)
    assert any_size.assumed == graph.assumed
    function = load_backbone(f"{file}:each_for_itself", head="sigmoid")
    assert function.assumed == ("input_size", "resize", "interpolation")


def test_what_was_assumed_is_warned_of(file, tmp_path, capsys):
    words = ["export", "--backbone", f"{file}:plain", "--auxiliary", "self", "--input-size", "64"]
    assert run([*words, "-o", str(tmp_path / "m")]) == 0
    said = capsys.readouterr().err
    assert "--resize 73 --interpolation bilinear --mean 0.485,0.456,0.406 --std 0.229" in said
    assert run(["inspect", str(tmp_path / "m")]) == 0
    assert "assumed" in capsys.readouterr().out
    more = ["--resize", "64", "--interpolation", "bicubic", "--mean", "0,0,0", "--std", "1,1,1"]
    assert run([*words, *more, "-o", str(tmp_path / "m")]) == 0
    assert "does not say how photos are prepared" not in capsys.readouterr().err


def test_a_softmax_inside_is_not_taken_twice(file):
    images = torch.from_numpy(synthetic_images(3, 64, 64, seed=4))
    backbone = load_backbone(f"{file}:softmax", preprocessing=SIZE)
    plain = load_backbone(f"{file}:plain", preprocessing=SIZE)
    with torch.no_grad():
        found = probabilities(backbone.module(images).numpy())
        expected = probabilities(plain.module(images).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert expected.std() > 0.1
    # Its own features still start as its activation map: softmax does not hide the linear head.
    torch.testing.assert_close(OwnFeatures(backbone).embedding, OwnFeatures(plain).embedding)


@pytest.mark.parametrize(("head", "again"), [(None, "softmax"), ("sigmoid", "a second sigmoid")])
def test_answers_that_look_like_probabilities_are_doubted(file, head, again):
    backbone = load_backbone(f"{file}:sigmoid", preprocessing=SIZE, head=head)
    (doubt,) = backbone.doubts
    assert f"{again} is wrong" in doubt
    assert load_backbone(f"{file}:plain", preprocessing=SIZE, head=head).doubts == ()


def test_a_functions_probabilities_must_sum_to_one_or_be_sigmoids(file):
    with pytest.raises(InvalidInputError, match=r"do not sum to 1 .*--head sigmoid"):
        load_backbone(f"{file}:each_for_itself", preprocessing=SIZE)
    assert load_backbone(f"{file}:each_for_itself", head="sigmoid").head == "sigmoid"
    assert load_backbone(f"{file}:each_for_itself", head="softmax").head == "softmax"
    assert load_backbone(f"{file}:rounded").num_classes == 3


def test_a_function_in_place_of_its_factory_is_said(file):
    with pytest.raises(InvalidInputError, match=r"direct takes arguments\. Name a factory"):
        load_backbone(f"{file}:direct")


def test_without_a_network_the_hub_is_not_tried(monkeypatch):
    import socket

    from ptame_deploy.errors import MissingRequirementError

    pytest.importorskip("transformers")

    def unknown(*_arguments, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    tried = []
    monkeypatch.setattr("time.sleep", tried.append)  # between two tries
    with pytest.raises(MissingRequirementError, match="cannot be downloaded"):
        load_backbone("hf:nobody/nothing-at-all")
    assert tried == []
