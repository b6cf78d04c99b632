import json
import shutil

import pytest
import torch

from ptame_deploy.cli import run
from ptame_deploy.errors import ArtifactError, InvalidInputError, MissingRequirementError
from ptame_deploy.sources.huggingface import read_processor
from ptame_deploy.sources.load import load_backbone
from ptame_deploy.vision import import_torchvision
from tests.conftest import TINY_OPTIONS

pytestmark = pytest.mark.integration
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


@pytest.fixture(scope="module")
def transformers():
    import_torchvision()
    return pytest.importorskip("transformers", reason="pip install transformers")


@pytest.fixture(scope="module")
def folder(transformers, tmp_path_factory):
    """What save_pretrained writes of a small classifier of three labels, several at a time."""
    directory = tmp_path_factory.mktemp("hf") / "vit"
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=64, patch_size=16, problem_type="multi_label_classification",
        id2label={0: "cat", 1: "dog", 2: "on a sofa"},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    model.save_pretrained(directory)
    transformers.ViTImageProcessor(
        size={"height": 64, "width": 64}, image_mean=MEAN, image_std=STD, resample=3
    ).save_pretrained(directory)
    return directory


def test_a_folder_brings_everything(transformers, folder):
    backbone = load_backbone(f"hf:{folder}")
    assert backbone.class_names == ("cat", "dog", "on a sofa")
    assert backbone.head == "sigmoid"
    prepared = backbone.preprocessing
    assert (prepared.input_size, prepared.resize, prepared.squash) == ((64, 64), 64, True)
    assert (prepared.interpolation, prepared.mean, prepared.std) == (
        "bicubic", tuple(MEAN), tuple(STD),
    )  # fmt: skip
    model = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(backbone.module(images), model(images).logits)


def test_it_is_exported_and_explained(folder, real_photos, tmp_path):
    backbone, model = f"hf:{folder}", tmp_path / "m"
    sizes = [*TINY_OPTIONS[:-2], "--top-k", "3", "-o", str(model)]
    assert run(["export", "--backbone", backbone, *sizes]) == 0
    photo = str(real_photos["chelsea"])
    assert run(["explain", str(model), photo, "-o", str(tmp_path / "explained")]) == 0
    rows = json.loads((tmp_path / "explained" / "results.json").read_text())["results"]
    assert {row["class_name"] for row in rows} == {"cat", "dog", "on a sofa"}


@pytest.mark.parametrize("auxiliary", [("--auxiliary", "self"), TINY_OPTIONS[:-4]])
def test_it_is_trained_then_exported_and_explained(
    folder, make_photos, real_photos, tmp_path, auxiliary, monkeypatch
):
    """Its own tokens as features, too; no option of the photos' preparation is needed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos, trained, model = (tmp_path / name for name in ("photos", "trained", "model"))
    photos.mkdir()
    make_photos(photos, 24)
    words = ["--backbone", f"hf:{folder}"]
    command = ["train", str(photos), *words, *auxiliary, "--masks", "6", "--allow-no-gain"]
    assert run([*command, "-o", str(trained)]) == 0
    seed = ["--auxiliary-weights", "random"] if "random" in auxiliary else []
    command = ["export", *words, *seed, "--explainer", str(trained), "--top-k", "2"]
    assert run([*command, "-o", str(model)]) == 0
    photo = str(real_photos["coffee"])
    assert run(["explain", str(model), photo, "--keep", "20", "-o", str(tmp_path / "out")]) == 0
    (first, second) = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert first["probability"] >= second["probability"]
    assert (tmp_path / "out" / "coffee.png").is_file()


def test_what_is_no_image_classifier_is_said(transformers, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "text").mkdir()
    with pytest.raises(InvalidInputError, match="no image classifier that transformers knows"):
        load_backbone(f"hf:{tmp_path / 'text'}")
    transformers.BertConfig(hidden_size=8, num_attention_heads=2).save_pretrained(tmp_path / "text")
    with pytest.raises(InvalidInputError, match="no image classifier that transformers knows"):
        load_backbone(f"hf:{tmp_path / 'text'}")
    shutil.copytree(folder, tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="cannot be loaded by transformers"):
        load_backbone(f"hf:{tmp_path / 'half'}")
    with pytest.raises(MissingRequirementError, match="cannot be downloaded"):
        load_backbone("hf:nobody/nothing-of-this-name")


@pytest.mark.parametrize(
    ("prepared", "size", "resize", "squash"),
    [
        ({"size": {"height": 224, "width": 224}}, (224, 224), 224, True),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True,
             "crop_size": {"height": 224, "width": 224}},
            (224, 224), 256, False,
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), 256, False),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), 384, True),
    ],
)  # fmt: skip
def test_processors_are_read(prepared, size, resize, squash):
    found = read_processor("hf:x", {"resample": 2, **prepared})
    assert (found.input_size, found.resize, found.squash) == (size, resize, squash)


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        ({"size": {"height": 224, "width": 300}}, "sides must be equal"),
        ({"size": {"longest_edge": 224}}, "is not understood"),
        ({"size": {"shortest_edge": 224}, "do_resize": False}, "does not resize"),
        ({"size": {"shortest_edge": 224}, "rescale_factor": 1.0}, "rescales"),
    ],
)
def test_processors_of_another_kind_are_refused(prepared, message):
    with pytest.raises(InvalidInputError, match=message):
        read_processor("hf:x", prepared)
