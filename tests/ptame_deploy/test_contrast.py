"""Contrastive maps: what speaks for one class and not for another."""

import json

import numpy as np
import pytest
import torch

from ptame_deploy import Explainer
from ptame_deploy.cli import run
from ptame_deploy.explainer import ExplainerNet, FoldedExplainer

pytestmark = pytest.mark.integration


def test_a_contrast_is_the_difference_of_two_maps():
    torch.manual_seed(0)
    net = ExplainerNet([6, 8], 5).eval()
    features = [torch.randn(2, 6, 8, 8), torch.randn(2, 8, 4, 4)]
    one, other = torch.tensor([[1, 2], [0, 4]]), torch.tensor([[3, 2], [4, 0]])
    with torch.no_grad():
        expected = net.class_maps(features, one) - net.class_maps(features, other)
        for all_classes in (False, True):
            folded = FoldedExplainer(net, all_classes=all_classes)
            found = folded(features, one, other)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found[0, 1].abs().max() < 1e-5  # a class against itself


@pytest.fixture(scope="module")
def best(tmp_path_factory, export_own):
    directory = tmp_path_factory.mktemp("contrast") / "best"
    assert export_own(directory, "--contrast", "--top-k", "3") == 0
    return directory


@pytest.fixture(scope="module")
def given(tmp_path_factory, export_own):
    directory = tmp_path_factory.mktemp("contrast") / "given"
    assert export_own(directory, "--contrast", "--classes", "input") == 0
    return directory


def test_each_class_is_held_against_the_best_other_one(best, real_photos):
    photo = real_photos["chelsea"]
    found = Explainer.load(best)(photo)
    first, second, _ = found.class_index[0]
    assert found.against.tolist() == [[second, first, first]]
    # Two maps of one pair are each other's negative, and so are they after min-max.
    np.testing.assert_allclose(found.saliency[0, 0], 1 - found.saliency[0, 1], atol=1e-3)
    assert found.heading(0).startswith(f"class {first}, not class {second}  ")
    assert found.rival(0, 2) == f"class {first}"
    assert np.abs(found.saliency[0, 2] - found.saliency[0, 0]).max() > 0.05


def test_each_class_is_held_against_the_one_given_after_it(best, given, real_photos):
    photo = real_photos["chelsea"]
    pairs = Explainer.load(best)(photo)
    first, second, _ = pairs.class_index[0]
    found = Explainer.load(given)(photo, [first, second])
    assert found.against.tolist() == [[second, first]]
    np.testing.assert_allclose(found.saliency[0], pairs.saliency[0, :2], atol=1e-3)


def test_pictures_and_tables_say_what_against(best, real_photos, tmp_path):
    assert run(["explain", str(best), str(real_photos["chelsea"]), "-o", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    assert rows[0]["against"] == rows[1]["class_name"]
    assert "against" in (tmp_path / "results.csv").read_text().splitlines()[0].split(",")


def test_one_class_is_no_contrast(given, best, export_tiny, real_photos, tmp_path, capsys):
    photo = str(real_photos["chelsea"])
    assert run(["explain", str(given), photo, "--class", "3", "-o", str(tmp_path / "e")]) == 2
    assert "give at least two" in capsys.readouterr().err
    command = ["evaluate", "--model", str(best), "--images", photo, "-o", str(tmp_path / "v")]
    assert run(command) == 2
    assert "Export the graph without --contrast" in capsys.readouterr().err
    assert not (tmp_path / "v").exists()
    options = ["--contrast", "--head", "sigmoid"]
    assert export_tiny(tmp_path / "m", *options, factory="one") == 2
    assert "needs two classes" in capsys.readouterr().err
