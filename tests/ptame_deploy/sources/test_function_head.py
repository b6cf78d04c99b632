"""Heads that a function of the user's says: a hierarchy from its classifier to lowered graphs."""

import json

import numpy as np
import pytest
import torch

from ptame_deploy import Explainer
from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.precision.blocks import logit_nodes
from ptame_deploy.sources.load import load_backbone

TREE = '''
import torch
from torch import nn

FAMILIES, SPECIES = 3, 6
PARENT = [0, 0, 1, 1, 1, 2]


class TwoAnswers(nn.Module):
    """Family and species from one trunk, as a dict."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=4), nn.ReLU(), nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(),
        )
        self.family, self.species = nn.Linear(16, FAMILIES), nn.Linear(16, SPECIES)

    def forward(self, image):
        pooled = self.trunk(image).mean((2, 3))
        # So sure of itself that FP16 would hold neither the probability nor what it lacks to 1.
        return {"family": 60 * self.family(pooled), "species": 40 * self.species(pooled)}


def build():
    torch.manual_seed(1)
    return TwoAnswers()


def tree(answer):
    family, species = answer["family"].softmax(1), answer["species"].sigmoid()
    return torch.cat([family, family[:, PARENT] * species], dim=1)


def logits(answer):
    return torch.cat([answer["family"], answer["species"]], dim=1)


def whole_numbers(answer):
    return answer["family"] > 0


def wants_a_tensor(answer):
    return answer.softmax(1)


def over_the_batch(answer):
    return answer["family"].softmax(0)


def at_random(answer):
    return torch.rand_like(answer["family"])


def a_loop(answer):
    return torch.stack([row.softmax(0) for row in answer["family"]])


def branches(answer):
    family = answer["family"].softmax(1)
    return family if family[0, 0] > 0.5 else 1 - family


def one_number(answer):
    return answer["family"].softmax(1)[:, 0]


no_function = 3


def black_box():
    return lambda images: images.mean((2, 3))
'''
CLASSES = 9
SIZES = ["--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random",
         "--auxiliary-size", "64", "--input-size", "64", "--resize", "72"]  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "taxonomy.py"
    path.write_text(TREE)
    return path


@pytest.fixture(scope="module")
def model(file, tmp_path_factory):
    directory = tmp_path_factory.mktemp("head") / "model"
    given = ["export", "--backbone", f"{file}:build", "--head", f"{file}:tree", *SIZES]
    assert run([*given, "--top-k", "3", "-o", str(directory)]) == 0
    return directory


def load(file, head="tree"):
    size = {"input_size": (64, 64), "resize": 72}
    return load_backbone(f"{file}:build", head=f"{file}:{head}", preprocessing=size)


def test_log_odds_are_those_of_the_functions_probabilities(file):
    backbone = load(file)
    assert (backbone.num_classes, backbone.head, backbone.class_names) == (CLASSES, "sigmoid", None)
    image = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = backbone.module.function(backbone.module.classifier(image))
        found = backbone.module(image).sigmoid()
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    assert found.isfinite().all()
    assert 0.2 < float(expected[:, :3].max()) <= 1


@pytest.mark.integration
def test_the_graph_holds_it(model, file, real_photos):
    record = json.loads((model / "model.json").read_text())
    assert record["classifier"]["head"] == "sigmoid"
    assert record["classifier"]["weights"]["source"] == "factory build, head tree"
    found = Explainer.load(model)(real_photos["chelsea"])
    backbone = load(file)
    from ptame_deploy.photos import open_photo
    from ptame_deploy.preprocessing import to_float

    image = to_float(backbone.preprocessing.apply(open_photo(real_photos["chelsea"]))[None])
    mean, std = (
        np.array(values, np.float32).reshape(3, 1, 1)
        for values in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    with torch.no_grad():
        answer = backbone.module.classifier(torch.from_numpy((image - mean) / std))
        expected = backbone.module.function(answer)[0].numpy()
    np.testing.assert_allclose(
        found.probability[0], expected[found.class_index[0]], atol=1e-4
    )  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lowered_it_stays_sure_but_finite(model, make_photos, tmp_path, precision):
    photos, lowered = tmp_path / "photos", tmp_path / "lowered"
    photos.mkdir()
    make_photos(photos, 12)
    arguments = ["quantize", str(model), str(photos), "--precision", precision]
    assert run([*arguments, "--allow-drift", "-o", str(lowered)]) == 0
    one, other = (Explainer.load(folder)(sorted(photos.iterdir())) for folder in (model, lowered))
    assert np.isfinite(other.probability).all()
    if precision == "fp16":
        np.testing.assert_allclose(other.probability, one.probability, atol=0.03)


def test_the_heads_nodes_are_told_from_the_classifiers(model, tiny_artifact):
    import onnx

    graph = onnx.load(model / "model.onnx").graph
    kinds = {node.op_type for node in graph.node if node.name in logit_nodes(graph)}
    assert {"Log", "Softmax", "Sigmoid"} <= kinds
    assert "Conv" not in kinds
    assert logit_nodes(onnx.load(tiny_artifact / "model.onnx").graph) == []


@pytest.mark.integration
def test_an_explainer_is_trained_for_it(file, make_photos, tmp_path):
    photos, explainer = tmp_path / "photos", tmp_path / "explainer"
    photos.mkdir()
    make_photos(photos, 30)
    same = ["--backbone", f"{file}:build", "--head", f"{file}:tree"]
    train = ["train", str(photos), *same, *SIZES, "--masks", "4", "--allow-no-gain"]
    assert run([*train, "-o", str(explainer)]) == 0
    export = ["export", *same, "--explainer", str(explainer), *SIZES[2:4], *SIZES[6:]]
    assert run([*export, "-o", str(tmp_path / "model")]) == 0


def test_another_function_is_another_classifier(file):
    one = load(file).weights.sha256
    assert one == load(file).weights.sha256
    text = file.read_text()
    changed = file.parent / "changed.py"
    changed.write_text(text.replace('answer["species"].sigmoid()', 'answer["species"].softmax(1)'))
    assert load(changed).weights.sha256 != one


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("missing", "has no .missing."),
        ("no_function", "is not a function"),
        ("logits", "Does it lack a softmax or a sigmoid"),
        ("whole_numbers", r"it returned bool \(2, 3\)"),
        ("over_the_batch", r"softmax or a sum over the batch \(dim 0\)"),
        ("at_random", "or at random"),
        ("one_number", r"it returned float32 \(2,\)"),
        ("wants_a_tensor", r"dict of family: float32 \(2, 3\), species: float32 \(2, 6\)\): A"),
    ],
)
def test_functions_that_are_no_heads_are_refused(file, head, message):
    with pytest.raises(InvalidInputError, match=message):
        load(file, head)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("head", "message"),
    [("a_loop", "frozen to one batch size"), ("branches", "could not export the model")],
)
def test_what_cannot_be_traced_is_said_in_a_sentence(file, tmp_path, capfd, head, message):
    given = ["export", "--backbone", f"{file}:build", "--head", f"{file}:{head}", *SIZES]
    assert run([*given, "-o", str(tmp_path / "m")]) == 1
    said = capfd.readouterr().err
    assert message in said
    assert len(said.splitlines()) < 20
    assert not (tmp_path / "m").exists()


@pytest.mark.integration
def test_it_is_evaluated_beside_its_source(file, model, make_photos, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    make_photos(photos, 4)
    source = ["--backbone", f"{file}:build", "--head", f"{file}:tree", *SIZES[2:4]]
    few = ["--methods", "p-tame,grad-cam", "--sanity-photos", "0", "--steps", "4", "--no-gallery"]
    given = ["evaluate", "--model", str(model), *source, "--images", str(photos), *few]
    assert run([*given, "-o", str(tmp_path / "e")]) == 0
    told = json.loads((tmp_path / "e" / "results.json").read_text())
    assert [one["status"] for one in told["methods"][:2]] == ["measured", "measured"]


def test_a_black_box_has_its_probabilities(file):
    with pytest.raises(InvalidInputError, match="returns probabilities already"):
        load_backbone(f"{file}:black_box", head=f"{file}:tree")


def test_a_head_of_no_name_is_refused(file):
    with pytest.raises(InvalidInputError, match="or a function of yours"):
        load_backbone(f"{file}:build", head="tree")
