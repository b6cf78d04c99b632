import os
import signal

import pytest
import torch

from ptame_deploy.errors import CheckFailedError, InvalidInputError
from ptame_deploy.photos import find_photos
from ptame_deploy.weights import state_sha256
from trainer.hardware import Hardware
from trainer.loss_weights import LOSSES
from trainer.module import ExplainerModule
from trainer.paper import train
from trainer.paper_settings import PaperSettings

pytestmark = pytest.mark.integration


def settings(**given):
    defaults = {"loss": LOSSES["resnet50"], "batch_size": 4, "learning_rate": 1e-2}
    return PaperSettings(**{**defaults, **given})


@pytest.fixture
def photos(square_photos):
    return find_photos([square_photos])


def test_training_changes_the_explainer_and_says_how(
    backbone, auxiliary, photos, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    classifier, features = state_sha256(backbone.module), state_sha256(auxiliary)
    steps, said = [], []
    result = train(
        backbone, auxiliary, photos, settings(epochs=2), say=said.append, on_step=steps.append
    )
    assert [report.step for report in steps] == [1, 2, 3, 4, 5, 6]
    assert {report.total for report in steps} == {6}
    assert result.record["first_step"] == steps[0].terms
    assert result.record["last_step"] == steps[-1].terms
    assert set(result.record["first_step"]) == {"loss", "cross_entropy", "area", "variation"}
    assert result.start == "fit"
    assert not result.explainer.training
    assert result.explainer.branches[0].norm.weight.abs().max() > 0  # the start has 0
    assert state_sha256(backbone.module) == classifier
    assert state_sha256(auxiliary) == features
    record = result.record
    assert (record["preset"], record["loss"]) == ("paper", "resnet50")
    assert record["steps"] == 6
    assert record["photos"] == 12
    assert record["skipped_photos"] == 0
    assert record["fit"]["photos"] == 12
    assert record["optimiser"]["total_steps"] == 6
    assert record["first_step"] == result.record["first_step"]
    assert record["last_step"] == result.record["last_step"]
    assert record["seconds"] >= 0
    assert any("Fitting tiny's features" in line for line in said)
    assert list(tmp_path.iterdir()) == []  # Lightning writes no logs and no checkpoints


def test_the_seed_decides_the_weights(backbone, auxiliary, photos):
    def weights(**given):
        return state_sha256(train(backbone, auxiliary, photos, settings(**given)).explainer)

    first = weights(seed=1)
    torch.manual_seed(99)  # the caller's random state has no part in it
    assert weights(seed=1) == first
    assert weights(seed=1, workers=2) == first
    assert weights(seed=2) != first
    assert weights(seed=1, epochs=2) != first


def test_the_callers_random_state_stays(backbone, auxiliary, photos):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(backbone, auxiliary, photos, settings(max_steps=1))
    assert torch.equal(torch.rand(1), expected)


def test_max_steps_ends_within_an_epoch(backbone, auxiliary, photos):
    result = train(backbone, auxiliary, photos, settings(max_steps=2, epochs=5))
    assert result.record["steps"] == result.record["optimiser"]["total_steps"] == 2


def test_training_on_many_steps_lowers_the_loss(backbone, auxiliary, photos):
    result = train(backbone, auxiliary, photos, settings(epochs=15, batch_size=12))
    assert result.record["last_step"]["loss"] < result.record["first_step"]["loss"] - 0.05


@pytest.mark.parametrize("start", ["fit", "random"])
def test_the_start_is_recorded(backbone, auxiliary, photos, start):
    result = train(backbone, auxiliary, photos, settings(start=start, max_steps=1))
    assert result.start == result.record["start"] == start
    assert (result.record["fit"] is None) == (start == "random")


def test_half_precision_trains(backbone, auxiliary, photos):
    result = train(backbone, auxiliary, photos, settings(hardware=Hardware("bf16"), max_steps=2))
    assert result.record["precision"] == "bf16"
    assert all(p.dtype == torch.float32 for p in result.explainer.parameters())


def test_unreadable_photos_are_skipped_and_named_once(backbone, auxiliary, photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no more")
    result = train(
        backbone, auxiliary, [broken, *photos], settings(epochs=2, batch_size=1, max_steps=20)
    )
    assert len(result.skipped) == 1
    assert "broken.jpg" in result.skipped[0]
    assert result.record["skipped_photos"] == 1
    assert result.record["steps"] < 20  # batches without a photo are no steps


@pytest.mark.parametrize("start", ["fit", "random"])
def test_no_readable_photo_is_an_error(backbone, auxiliary, tmp_path, start):
    bad = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in bad:
        path.write_text("no photo")
    with pytest.raises(InvalidInputError, match=r"a\.png"):
        train(backbone, auxiliary, bad, settings(start=start))


def test_one_photo_is_enough_to_train_but_not_to_fit_a_start(backbone, auxiliary, photos):
    said = []
    result = train(backbone, auxiliary, photos[:1], settings(batch_size=32), say=said.append)
    assert result.start == "random"
    assert any("One photo" in line for line in said)
    with pytest.raises(InvalidInputError, match="at least 2 photos"):
        train(backbone, auxiliary, photos[:1], settings(start="fit"))


def test_one_photo_a_step_needs_features_of_more_than_one_position(
    backbone, make_auxiliary, photos
):
    with pytest.raises(InvalidInputError, match="--auxiliary-size"):
        train(backbone, make_auxiliary(16), photos, settings(batch_size=1, start="random"))
    train(backbone, make_auxiliary(16), photos, settings(batch_size=2, start="random", max_steps=1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", -1e-4),
        ("learning_rate", float("nan")),
        ("epochs", 0),
        ("max_steps", 0),
        ("batch_size", 0),
        ("workers", -1),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InvalidInputError, match=f"--{name.replace('_', '-')}"):
        settings(**{name: value})


def test_a_diverging_training_stops(backbone, auxiliary, photos):
    with pytest.raises(CheckFailedError, match="not finite"):
        train(backbone, auxiliary, photos, settings(learning_rate=1e38, epochs=20))


def test_an_interrupt_goes_through_lightning(backbone, auxiliary, photos):
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(report):
        if report.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(backbone, auxiliary, photos, settings(epochs=50), on_step=interrupt)
    assert signal.getsignal(signal.SIGINT) is handler


def test_too_little_memory_is_said_as_such(backbone, auxiliary, photos, monkeypatch):
    def fail(self, images):
        message = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."
        raise RuntimeError(message)

    monkeypatch.setattr(ExplainerModule, "compute_loss", fail)
    with pytest.raises(MemoryError, match="can't allocate"):
        train(backbone, auxiliary, photos, settings())


def test_lightning_is_silent(backbone, auxiliary, photos, capfd, recwarn):
    train(backbone, auxiliary, photos, settings(max_steps=1, start="random"))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert [str(warning.message) for warning in recwarn] == []
