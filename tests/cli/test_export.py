import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ptame_deploy.cli import run
from ptame_deploy.onnx_session import open_graph
from ptame_deploy.synthetic import synthetic_images

pytestmark = pytest.mark.integration


def manifest(directory):
    return json.loads((directory / "model.json").read_text())


def contents(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir()}


def write_explainer(directory, tiny_file, auxiliary_size=64, said=None, head=None):
    """Write an explainer for the tiny classifier, as `ptame train` does."""
    from ptame_deploy import (
        load_auxiliary,
        load_backbone,
        record_explainer,
        save_explainer,
        start_explainer,
    )

    preprocessing = {"input_size": (64, 64), "resize": 72, **(said or {})}
    backbone = load_backbone(f"{tiny_file}:build", preprocessing=preprocessing, head=head)
    auxiliary = load_auxiliary(
        "mobilenet_v3_small", weights="random", input_sizes=(auxiliary_size,)
    )
    explainer, start = start_explainer(auxiliary, 10, None, seed=5)
    record = record_explainer(explainer, auxiliary, state="trained", start=start)
    save_explainer(explainer, record, backbone, directory, seed=5)
    return directory


@pytest.fixture(scope="module")
def explainer_artifact(tmp_path_factory, tiny_file):
    return write_explainer(tmp_path_factory.mktemp("explainer") / "e", tiny_file)


def arguments(tiny_file, factory="build"):
    return ["export", "--backbone", f"{tiny_file}:{factory}", "--input-size", "64",
            "--resize", "72", "--auxiliary-weights", "random"]  # fmt: skip


def test_parity_is_printed_line_by_line(tmp_path, export_tiny, capsys):
    assert export_tiny(tmp_path / "m") == 0
    said = capsys.readouterr()
    for batch in (1, 2, 5):
        for output in ("logits", "probabilities", "saliency", "class_index"):
            lines = [x for x in said.err.splitlines() if f"batch {batch}  {output}" in x]
            assert len(lines) == 1
            assert " ok " in lines[0]
    assert f"Wrote {tmp_path / 'm' / 'model.onnx'}" in said.out
    assert "starts at random and its maps mean nothing" in said.err


def test_preprocessing_is_carried(tmp_path, export_own):
    options = ["--mean", "0,0,0", "--std", "1,1,1", "--interpolation", "bicubic"]
    assert export_own(tmp_path / "m", *options) == 0
    assert manifest(tmp_path / "m")["preprocessing"] == {
        "input_size": [64, 64],
        "resize": 72,
        "squash": False,
        "interpolation": "bicubic",
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
    }


def test_a_thousand_unnamed_classes_are_taken_for_imagenets_aloud(tmp_path, export_tiny, capsys):
    assert export_tiny(tmp_path / "m", factory="thousand") == 0
    assert "taken to be ImageNet's" in capsys.readouterr().err
    assert manifest(tmp_path / "m")["explainer"]["start"] == "activation-map"


def test_a_trained_explainer_is_taken(tmp_path, tiny_file, explainer_artifact):
    options = ["--explainer", str(explainer_artifact), "-o", str(tmp_path / "m")]
    assert run([*arguments(tiny_file), *options]) == 0
    explainer = manifest(tmp_path / "m")["explainer"]
    assert explainer["state"] == "trained"
    assert explainer["auxiliary_input_sizes"] == [64]
    told = json.loads((explainer_artifact / "explainer.json").read_text())["explainer"]
    assert explainer == told


def test_a_trained_explainer_without_superpixels_can_get_them(tmp_path, tiny_file):
    folder = write_explainer(tmp_path / "e", tiny_file, auxiliary_size=224)
    options = ["--explainer", str(folder), "--superpixels", "-o", str(tmp_path / "m")]
    assert run([*arguments(tiny_file), *options]) == 0
    assert manifest(tmp_path / "m")["map_size"] == [112, 112]
    assert manifest(tmp_path / "m")["explainer"]["superpixels"]["grid"] == 6


def test_superpixels_are_in_the_graph_and_in_its_manifest(tmp_path, export_tiny):
    options = ["--auxiliary-size", "224"]
    assert export_tiny(tmp_path / "plain", *options) == 0
    assert export_tiny(tmp_path / "m", *options, "--superpixels") == 0
    assert manifest(tmp_path / "plain")["explainer"]["superpixels"] is None
    assert manifest(tmp_path / "m")["explainer"]["superpixels"]["grid"] == 6
    images = synthetic_images(2, 64, 64)
    plain, pooled = (
        open_graph(tmp_path / name / "model.onnx")(images, None) for name in ("plain", "m")
    )
    np.testing.assert_allclose(pooled["logits"], plain["logits"], rtol=1e-4, atol=1e-5)
    assert plain["saliency"].shape == (2, 1, 56, 56)
    assert pooled["saliency"].shape == (2, 1, 112, 112)
    assert manifest(tmp_path / "m")["map_size"] == [112, 112]
    enlarged = plain["saliency"].repeat(2, axis=2).repeat(2, axis=3)
    assert np.abs(pooled["saliency"] - enlarged).max() > 0.05


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--superpixels"], 2, "too coarse for 6x6 superpixels"),
        (["--auxiliary", "resnet18"], 2, "brings its own auxiliary"),
        (["--auxiliary-size", "64"], 2, "brings its own auxiliary"),
        (["--seed", "9"], 4, "other auxiliary weights"),
        (["--weights", "random"], 4, "other classifier weights"),
        (["--mean", "0,0,0"], 4, "other preprocessing"),
    ],
)
def test_an_explainer_for_others_is_refused(
    tmp_path, tiny_file, explainer_artifact, capsys, options, code, message
):
    given = ["--explainer", str(explainer_artifact), "-o", str(tmp_path / "m")]
    assert run([*arguments(tiny_file), *given, *options]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.fixture
def named_explainer(explainer_artifact, tmp_path):
    """The explainer, trained with names for its 10 classes."""
    folder = tmp_path / "named"
    shutil.copytree(explainer_artifact, folder)
    path = folder / "explainer.json"
    found = json.loads(path.read_text())
    found["classifier"]["class_names"] = [f"kind {number}" for number in range(10)]
    path.write_text(json.dumps(found))
    return folder


def names_of(folder):
    return manifest(folder)["classifier"]["class_names"]


def test_class_names_are_those_of_the_training(tmp_path, tiny_file, named_explainer, capsys):
    given = ["--explainer", str(named_explainer), "--target", "kind 7", "-o", str(tmp_path / "m")]
    assert run([*arguments(tiny_file), *given]) == 0
    assert names_of(tmp_path / "m")[7] == "kind 7"
    assert manifest(tmp_path / "m")["targets"] == [7]
    assert "those that the explainer was trained with" in capsys.readouterr().err


@pytest.fixture(scope="module")
def told_explainer(tmp_path_factory, tiny_file):
    """An explainer whose training was told how photos are prepared."""
    said = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "interpolation": "bicubic"}
    folder = tmp_path_factory.mktemp("told") / "e"
    return write_explainer(folder, tiny_file, said=said, head="sigmoid")


def test_what_training_was_told_need_not_be_said_again(tmp_path, tiny_file, told_explainer, capsys):
    words = ["export", "--backbone", f"{tiny_file}:build", "--auxiliary-weights", "random",
             "--explainer", str(told_explainer), "-o", str(tmp_path / "m")]  # fmt: skip
    assert run(words) == 0
    found = manifest(tmp_path / "m")
    assert found["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert found["preprocessing"]["input_size"] == [64, 64]
    assert found["classifier"]["head"] == "sigmoid"
    assert found["classifier"]["assumed"] == []
    assert "does not say how photos are prepared" not in capsys.readouterr().err
    assert run([*words, "--mean", "0.4,0.4,0.4"]) == 4  # what is said, is meant
    assert run([*words, "--head", "softmax"]) == 4


def test_what_training_assumed_is_said_again(tmp_path, tiny_file, explainer_artifact, capsys):
    words = ["export", "--backbone", f"{tiny_file}:build", "--auxiliary-weights", "random",
             "--explainer", str(explainer_artifact), "-o", str(tmp_path / "m")]  # fmt: skip
    assert run(words) == 0
    assert manifest(tmp_path / "m")["classifier"]["assumed"] == ["interpolation", "mean", "std"]
    assert "does not say how photos are prepared" in capsys.readouterr().err


@pytest.mark.parametrize("changed", [{3: "kind 4", 4: "kind 3"}, {3: "x", 4: "kind 3"}])
def test_class_names_that_moved_are_refused(tmp_path, tiny_file, named_explainer, capsys, changed):
    names = [changed.get(number, f"kind {number}") for number in range(10)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    given = ["--explainer", str(named_explainer), "--class-names", str(tmp_path / "names.txt")]
    assert run([*arguments(tiny_file), *given, "-o", str(tmp_path / "m")]) == 2
    assert "when the explainer was trained" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_class_names_may_be_translated(tmp_path, tiny_file, named_explainer, capsys):
    (tmp_path / "names.txt").write_text("\n".join(f"Art {number}" for number in range(10)))
    given = ["--explainer", str(named_explainer), "--class-names", str(tmp_path / "names.txt")]
    assert run([*arguments(tiny_file), *given, "-o", str(tmp_path / "m")]) == 0
    assert names_of(tmp_path / "m")[7] == "Art 7"
    assert "others than when the explainer was trained" in capsys.readouterr().err


def test_an_explainer_for_other_classes_is_refused(tmp_path, tiny_file, explainer_artifact, capsys):
    given = ["--explainer", str(explainer_artifact), "-o", str(tmp_path / "m")]
    assert run([*arguments(tiny_file, "thousand"), *given]) == 4
    assert "number of classes: 10 there, 1000 here" in capsys.readouterr().err


def test_a_corrupt_explainer_is_4(tmp_path, tiny_file, explainer_artifact, capsys):
    shutil.copytree(explainer_artifact, tmp_path / "e")
    path = tmp_path / "e" / "explainer.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    given = ["--explainer", str(tmp_path / "e"), "-o", str(tmp_path / "m")]
    assert run([*arguments(tiny_file), *given]) == 4
    assert "cut short" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-k", "11"], "top-k must be 1 to 10"),
        (["--superpixels"], "too coarse for 6x6 superpixels"),
        (["--top-k", "2", "--classes", "input"], "exclude each other"),
        (["--opset", "9"], "opset must be 18 to 23"),
        (["--mean", "1,2"], "three numbers"),
        (["--mean", "127,127,127"], "for RGB in [0, 1], got '127,127,127'"),
        (["--std", "57.4,57.1,58.4"], "divide it by 255"),
        (["--std", "a,b,c"], "three numbers"),
        (["--interpolation", "magic"], "interpolation"),
        (["--auxiliary", "resnet"], "No auxiliary"),
        (["--weights", "no-such-file.safetensors"], "do not exist"),
        (["--class-names", "no-such-file.txt"], "cannot be read"),
    ],
)
def test_bad_options_are_2(tmp_path, export_tiny, capsys, options, message):
    assert export_tiny(tmp_path / "m", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_failed_check_is_1_and_the_old_artifact_stays(tmp_path, export_own, capsys):
    assert export_own(tmp_path / "m") == 0
    before = contents(tmp_path / "m")
    assert export_own(tmp_path / "m", factory="zero_head") == 1
    assert "do not depend on the image" in capsys.readouterr().err
    assert contents(tmp_path / "m") == before


def test_without_network_it_is_3(tmp_path, monkeypatch, capsys):
    from ptame_deploy.vision import import_torchvision

    def unreachable(*args, **kwargs):
        message = "<urlopen error [Errno -2] Name or service not known>"
        raise OSError(message)

    kinds = import_torchvision().models.get_model_weights("vgg16")
    monkeypatch.setattr(kinds, "get_state_dict", unreachable)
    assert run(["export", "--backbone", "vgg16", "-o", str(tmp_path / "m")]) == 3
    said = capsys.readouterr().err
    assert "The weights of vgg16 could not be downloaded" in said
    assert "give a file of weights" in said
    assert not (tmp_path / "m").exists()


def test_an_unwritable_folder_is_2(tmp_path, export_tiny, capsys):
    (tmp_path / "taken").write_text("")
    assert export_tiny(tmp_path / "taken") == 2
    assert "Choose another -o" in capsys.readouterr().err
    if os.geteuid() != 0:  # root writes anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        assert export_tiny(tmp_path / "locked" / "m") == 2


def test_a_full_disk_is_3_and_leaves_nothing(tmp_path, export_own, capsys):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")

    def save(model, path, **kwargs):
        with full.open("wb", buffering=0) as file:
            file.write(b"x")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptame_deploy.graph_file.onnx.save", save)
        assert export_own(tmp_path / "m") == 3
    assert "No room left on the disk" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_classifier_whose_code_changed_is_4(tmp_path, tiny_file, explainer_artifact, capsys):
    """The same weights, the opposite answers: told by the answers to images anybody can make."""
    changed = tmp_path / tiny_file.name
    text = tiny_file.read_text()
    inverted = """

class Inverted(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return -self.net(x)

    def state_dict(self, *args, **kwargs):
        return self.net.state_dict(*args, **kwargs)


_build = build


def build():
    return Inverted(_build())
"""
    changed.write_text(text + inverted)
    given = ["--explainer", str(explainer_artifact), "-o", str(tmp_path / "m")]
    assert run([*arguments(changed), *given]) == 4
    assert "of the same test image, class" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
