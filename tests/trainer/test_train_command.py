import json
import os
import signal
import sys

import numpy as np
import pytest
from PIL import Image

from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.cli import run
from ptame_deploy.explainer_store import load_explainer, read_explainer_manifest
from ptame_deploy.sources.load import load_backbone

pytestmark = pytest.mark.integration
SIZES = ("--auxiliary-size", "64", "--input-size", "64", "--resize", "72")
AUXILIARY = ("--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random")


@pytest.fixture
def train(tiny_file, tmp_path, monkeypatch):
    """Train the 10-class classifier of `tiny_file`; returns the exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, factory="build", sizes=SIZES, preset="paper"):
        backbone = ["--backbone", f"{tiny_file}:{factory}"]
        backbone += [] if preset is None else ["--preset", preset]
        words = [*arguments, *backbone, *AUXILIARY, *sizes, "-o", tmp_path / "out"]
        return run(["train", *map(str, words)])

    return call


def test_train_writes_an_explainer_that_can_be_loaded(
    train, photo_folder, tiny_file, tmp_path, capsys
):
    assert train(photo_folder, "--batch-size", "2", "--epochs", "2", "--seed", "3") == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "explainer.json",
        "explainer.safetensors",
        "training",
    ]
    kept = sorted(path.name for path in (out / "training").iterdir())
    assert kept == ["logs", "report.html"]  # no checkpoint stays
    logged = (out / "training/logs/part_0/metrics.csv").read_text().splitlines()
    assert logged[0] == "step,train/area,train/cross_entropy,train/loss,train/variation"
    assert [line.partition(",")[0] for line in logged[1:]] == ["1", "2", "3", "4"]
    manifest = read_explainer_manifest(out)
    assert manifest.explainer.state == "trained"
    assert manifest.explainer.start == "fit"
    assert manifest.provenance.seed == 3
    assert manifest.training["steps"] == 4
    assert manifest.explainer.training_preset == manifest.training["preset"] == "paper"
    assert manifest.training["loss"] == "resnet50"
    overrides = {"input_size": (64, 64), "resize": 72}
    classifier = load_backbone(f"{tiny_file}:build", preprocessing=overrides)
    auxiliary = load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(64,), seed=3)
    explainer = load_explainer(out, classifier, auxiliary)
    assert explainer.branches[0].norm.weight.abs().max() > 0
    captured = capsys.readouterr()
    for line in ("First step: loss", "Last step:  loss"):
        assert line in captured.out
    assert "step 4 of 4: loss" in captured.err
    assert "RANDOM" in captured.err
    assert {path.name for path in tmp_path.iterdir()} == {"out", "photos"}  # no lightning_logs


def test_quiet_leaves_only_results_and_warnings(train, photo_folder, tiny_file, tmp_path, capsys):
    words = ["-q", "train", photo_folder, "--backbone", f"{tiny_file}:build", *AUXILIARY, *SIZES]
    assert (
        run(
            [
                str(word)
                for word in (*words, "--preset", "paper", "--max-steps", 1, "-o", tmp_path / "out")
            ]
        )
        == 0
    )
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 3
    assert all(line.startswith("Warning:") for line in captured.err.splitlines())


def test_a_shared_set_of_classes_starts_as_the_activation_map(
    train, photo_folder, tmp_path, capsys
):
    assert train(photo_folder, "--max-steps", "1", factory="thousand") == 0
    assert json.loads((tmp_path / "out/explainer.json").read_text())["explainer"]["start"] == (
        "activation-map"
    )
    assert "--class-names imagenet" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["vgg16", "resnet50", "vit_b_16"])
def test_all_loss_weights_train(train, photo_folder, tmp_path, loss):
    assert train(photo_folder, "--loss", loss, "--max-steps", "1", "--start", "random") == 0
    assert read_explainer_manifest(tmp_path / "out").training["loss"] == loss


def test_a_file_that_is_no_photo_is_named_and_skipped(train, photo_folder, capsys):
    (photo_folder / "notes.txt").write_text("not looked at")
    (photo_folder / "broken.png").write_text("no photo")
    assert train(photo_folder, "--max-steps", "1") == 0
    error = capsys.readouterr().err
    assert "1 of 4 photos were skipped" in error
    assert "broken.png" in error
    assert "notes.txt" not in error


def test_one_photo_trains(train, photo_folder, tmp_path):
    assert train(photo_folder / "b.jpg") == 0
    assert read_explainer_manifest(tmp_path / "out").explainer.start == "random"


def test_the_old_artifact_stays_until_the_new_one_is_whole(train, photo_folder, tmp_path):
    assert train(photo_folder, "--max-steps", "1", "--start", "random") == 0
    before = (tmp_path / "out" / "explainer.json").read_text()
    assert train(photo_folder, "--learning-rate", "1e38", "--epochs", "30") == 1
    assert (tmp_path / "out" / "explainer.json").read_text() == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "explainer.json",
        "explainer.safetensors",
        "training",
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--learning-rate", "0"), "--learning-rate must be a positive number"),
        (("--learning-rate", "nan"), "--learning-rate must be a positive number"),
        (("--batch-size", "0"), "--batch-size must be at least 1"),
        (("--epochs", "0"), "--epochs must be at least 1"),
        (("--mean", "0.5"), "--mean takes three numbers"),
        (("--loss", "resnet18"), "resnet18"),
        (("--masks", "8"), "--masks: for --preset few only"),
        (("--precision", "int8"), "int8"),
        (("--start", "activation-map"), "--start fit"),
        (("no/such/folder",), "no/such/folder does not exist"),
    ],
)
def test_bad_usage_is_exit_2_and_writes_nothing(
    train, photo_folder, tmp_path, capsys, options, says
):
    assert train(photo_folder, *options) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_photos_that_are_none_are_exit_2(train, tmp_path, capsys):
    folder = tmp_path / "none"
    folder.mkdir()
    assert train(folder) == 2
    assert "No photo found" in capsys.readouterr().err
    (folder / "a.png").write_text("no photo")
    (folder / "b.png").write_text("no photo")
    assert train(folder) == 2
    assert "a.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_found_before_anything_is_loaded(
    train, photo_folder, tmp_path, capsys
):
    (tmp_path / "out").write_text("a file")
    assert train(photo_folder, factory="no_such_factory") == 2
    assert "Cannot write" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "a file"


def test_an_interrupt_is_exit_130_and_can_be_gone_on_with(
    train, photo_folder, tmp_path, monkeypatch, capsys
):
    from trainer.module import ExplainerModule

    compute, calls = ExplainerModule.compute_loss, []

    def interrupted(self, images):
        calls.append(images)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return compute(self, images)

    monkeypatch.setattr(ExplainerModule, "compute_loss", interrupted)
    options = (photo_folder, "--epochs", "6", "--start", "random")
    assert train(*options) == 130
    assert len(calls) == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["training"]
    assert "Stopped after step 3 of 6; add --resume to go on from here." in capsys.readouterr().err
    assert train(*options) == 2
    assert "holds a training: add --resume" in capsys.readouterr().err
    assert train(*options, "--resume", "--learning-rate", "1e-3") == 2
    assert (
        "belongs to another training: learning_rate was 0.0001, now it is 0.001"
        in capsys.readouterr().err
    )
    assert train(*options, "--resume") == 0
    assert len(calls) == 6
    resumed = read_explainer_manifest(tmp_path / "out").explainer.weights_sha256
    assert train(*options) == 0
    assert read_explainer_manifest(tmp_path / "out").explainer.weights_sha256 == resumed


@pytest.fixture
def without_lightning(monkeypatch):
    """An environment without the extra, in which the trainer is imported anew."""
    import trainer

    for name in list(sys.modules):
        if name.startswith(("lightning", "trainer.")):
            monkeypatch.delitem(sys.modules, name)
            package, _, child = name.rpartition(".")
            if package == "trainer":  # else the new modules would stay reachable there
                monkeypatch.delattr(trainer, child, raising=False)
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)


@pytest.mark.usefixtures("without_lightning")
def test_without_lightning_the_extra_is_named(train, photo_folder, capsys):
    assert train(photo_folder) == 3
    assert 'pip install "ptame-deploy[train]"' in capsys.readouterr().err


def test_the_trained_explainer_differs_by_seed_alone(train, photo_folder, tmp_path):
    def weights(seed):
        options = ("--max-steps", "2", "--batch-size", "2", "--start", "random")
        assert train(photo_folder, *options, "--seed", seed) == 0
        return read_explainer_manifest(tmp_path / "out").explainer.weights_sha256

    assert weights(0) == weights(0) != weights(1)


def test_photos_of_every_kind_are_taken(train, tmp_path):
    folder = tmp_path / "kinds"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (70, 80), dtype=np.uint8)
    grey = Image.fromarray(pixels)
    grey.save(folder / "grey.png")
    grey.convert("RGBA").save(folder / "alpha.png")
    grey.convert("CMYK").save(folder / "cmyk.jpg")
    grey.convert("P").save(folder / "palette.gif")
    assert train(folder, "--max-steps", "1") == 0
    assert read_explainer_manifest(tmp_path / "out").training["skipped_photos"] == 0


@pytest.fixture
def two_dozen(tmp_path):
    """Photos of coloured blocks, which even a random classifier tells apart."""
    folder = tmp_path / "two-dozen"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(24):
        blocks = generator.integers(0, 255, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((90, 80), 0).save(folder / f"{number}.png")
    return folder


def test_few_photos_are_trained_on_in_one_go(train, two_dozen, tmp_path, capsys):
    (two_dozen / "broken.png").write_text("no photo")
    assert train(two_dozen, "--masks", "6", "--allow-no-gain", preset=None) == 0
    manifest = read_explainer_manifest(tmp_path / "out")
    assert manifest.explainer.state == "trained"
    assert manifest.explainer.training_preset == manifest.training["preset"] == "few"
    assert manifest.explainer.training_steps is None
    assert manifest.explainer.training_photos == 25
    assert manifest.training["masks"] == {"count": 6, "cells": 7, "keep": 0.5, "seed": 0}
    assert manifest.training["classifier_passes"] == 24 * 7
    captured = capsys.readouterr()
    assert "Agreement with the scores of masked copies, 24 photos that the judged" in captured.out
    others = manifest.explainer.other_classes
    assert others.photos == 24
    assert manifest.training["other_classes"] == others.model_dump()
    said = captured.out if others.low > 0 else captured.err
    assert "Maps of the second-best class, 24 photos that the judged explainer had not" in said
    assert "Maps of the second-best class" in (tmp_path / "out/training/report.html").read_text()
    gain = manifest.training["gain"]
    assert manifest.explainer.gain.model_dump() == gain["better"]
    assert manifest.explainer.own_answers.model_dump() == gain["trained"]
    assert "broken.png" in captured.err
    assert train(two_dozen, "--masks", "6", "--allow-no-gain", preset=None) == 0
    again = read_explainer_manifest(tmp_path / "out")
    assert again.training["classifier_passes"] == 0  # the scores were kept
    assert again.explainer.weights_sha256 == manifest.explainer.weights_sha256
    assert train(two_dozen, "--masks", "6", "--allow-no-gain", "--no-cache", preset=None) == 0
    assert read_explainer_manifest(tmp_path / "out").training["classifier_passes"] == 24 * 7


def test_no_gain_is_exit_1_and_writes_nothing_unless_allowed(
    train, two_dozen, tmp_path, capsys, monkeypatch
):
    from trainer.result import Gain

    monkeypatch.setattr(Gain, "is_clear", property(lambda _: False))
    assert train(two_dozen, "--masks", "6", preset="few") == 1
    error = capsys.readouterr().err
    assert "did NOT make the explainer clearly better" in error
    assert "--allow-no-gain" in error
    assert "without --explainer" not in error  # its start was fitted: there is none to export
    out = tmp_path / "out"
    assert [str(path.relative_to(out)) for path in out.rglob("*.*")] == ["training/no-gain.html"]
    assert "not clearly better" in (out / "training/no-gain.html").read_text()
    assert "no-gain.html" in error
    assert train(two_dozen, "--masks", "6", "--allow-no-gain", preset="few") == 0
    assert not (out / "training/no-gain.html").exists()
    before = (out / "training/report.html").read_bytes()
    assert train(two_dozen, "--masks", "6", preset="few") == 1
    assert (out / "training/report.html").read_bytes() == before  # the page of what is there


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--epochs", "2", "--batch-size", "4"), "--epochs, --batch-size: for --preset paper only"),
        (("--masks", "3"), "--masks must be at least 4"),
        (("--start", "random"), "nothing to sharpen"),
        (("--auxiliary-size", "64;96"), "--auxiliary-size takes whole numbers of pixels"),
    ],
)
def test_what_few_cannot_do_is_exit_2(train, two_dozen, tmp_path, capsys, options, says):
    sizes = SIZES[2:] if "--auxiliary-size" in options else SIZES
    assert train(two_dozen, *options, preset="few", sizes=sizes) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_lightning")
def test_few_needs_no_lightning(train, two_dozen):
    assert train(two_dozen, "--masks", "6", "--allow-no-gain", preset="few") == 0


def test_own_features_take_no_size_and_no_weights(two_dozen, tiny_file, tmp_path, capsys):
    words = ["train", two_dozen, "--backbone", f"{tiny_file}:build", "--auxiliary", "self"]
    sizes = ("--input-size", "64", "--resize", "72", "--masks", "6", "--allow-no-gain")
    end = ("-o", tmp_path / "own")
    assert run([str(word) for word in (*words, *sizes, "--auxiliary-size", "64", *end)]) == 2
    assert "leave --auxiliary-weights and --auxiliary-size away" in capsys.readouterr().err
    assert run([str(word) for word in (*words, *sizes, *end)]) == 0
    assert read_explainer_manifest(tmp_path / "own").explainer.auxiliary == "self"
    end = ("--explainer", tmp_path / "own", "-o", tmp_path / "model")
    words = ["export", "--backbone", f"{tiny_file}:build", "--input-size", "64", "--resize", "72"]
    assert run([str(word) for word in (*words, *end)]) == 0


def test_a_change_of_the_activation_map_is_kept_in_kilobytes(
    train, two_dozen, tiny_file, tmp_path, capsys
):
    """And gives the very weights that were trained."""
    from ptame_deploy.weights import state_sha256

    assert (
        train(two_dozen, "--masks", "6", "--allow-no-gain", preset="few", factory="thousand") == 0
    )
    out = tmp_path / "out"
    manifest = read_explainer_manifest(out)
    assert manifest.explainer.start == "activation-map"
    assert manifest.form == "shared-terms"
    assert manifest.files["explainer.safetensors"].bytes < 20_000
    preparation = {"input_size": (64, 64), "resize": 72}
    classifier = load_backbone(f"{tiny_file}:thousand", preprocessing=preparation)
    auxiliary = load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(64,))
    explainer = load_explainer(out, classifier, auxiliary)
    assert state_sha256(explainer) == manifest.explainer.weights_sha256
    words = ["export", "--backbone", f"{tiny_file}:thousand", "--explainer", str(out)]
    sizes = ("--input-size", "64", "--resize", "72", "--auxiliary-weights", "random")
    assert run([*words, *sizes, "-o", str(tmp_path / "model")]) == 0
    capsys.readouterr()
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"other {number}" for number in range(1000)))
    named = ("--class-names", str(names), "-o", str(tmp_path / "named"))
    assert run([*words, *sizes, *named]) == 4
    assert "kept as a change of mobilenet_v3_small's activation map" in capsys.readouterr().err
