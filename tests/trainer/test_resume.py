import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.photos import find_photos
from ptame_deploy.weights import state_sha256
from trainer.checkpoints import read_checkpoint
from trainer.hardware import Hardware
from trainer.loss_weights import LOSSES
from trainer.paper import train
from trainer.paper_settings import PaperSettings, Place

pytestmark = pytest.mark.integration
STEPS = 8


class Stopped(Exception):  # noqa: N818 - stands for a crash at any place
    pass


def settings(**given):
    defaults = {
        "loss": LOSSES["resnet50"], "batch_size": 3, "accumulate": 2, "max_steps": STEPS,
        "epochs": 9, "learning_rate": 1e-2, "validation": 4, "validate_every": 3, "start": "random",
    }  # fmt: skip
    return PaperSettings(**{**defaults, **given})


@pytest.fixture
def photos(square_photos):
    return find_photos([square_photos])


def crash_at(step):
    def on_step(report):
        if report.step == step:
            raise Stopped

    return on_step


def outcome(result):
    record = {k: v for k, v in result.record.items() if k not in ("seconds", "resumed")}
    return state_sha256(result.explainer), record, result.gain


@pytest.mark.parametrize("crashes", [(1,), (2,), (5,), (STEPS,), (3, 4, 5, 7)])
def test_a_crash_changes_nothing(backbone, auxiliary, photos, tmp_path, crashes):
    whole = outcome(train(backbone, auxiliary, photos, settings()))
    for number, step in enumerate(crashes):
        place = Place(tmp_path, resume=(tmp_path / "last.ckpt").exists(), seconds=0)
        assert place.resume == (number > 0)
        with pytest.raises(Stopped):
            train(backbone, auxiliary, photos, settings(), place=place, on_step=crash_at(step))
    place = Place(tmp_path, resume=(tmp_path / "last.ckpt").exists(), seconds=0)
    again = outcome(train(backbone, auxiliary, photos, settings(), place=place))
    assert again == whole


def test_a_finished_training_is_only_read(backbone, auxiliary, photos, tmp_path):
    steps = []
    first = train(backbone, auxiliary, photos, settings(), place=Place(tmp_path))
    again = train(
        backbone, auxiliary, photos, settings(), place=Place(tmp_path, resume=True),
        on_step=steps.append,
    )  # fmt: skip
    assert steps == []
    assert outcome(again) == outcome(first)
    assert first.own_answers.photos == first.other_classes.photos == 4  # the photos left out
    assert (again.own_answers, again.other_classes) == (first.own_answers, first.other_classes)
    assert first.record["own_answers"] == first.own_answers.model_dump()


def test_an_early_stop_survives_a_crash(backbone, auxiliary, photos, tmp_path):
    given = {"patience": 1, "validate_every": 1, "learning_rate": 1.0}
    whole = train(backbone, auxiliary, photos, settings(**given))
    assert whole.record["stopped_early"]
    assert whole.record["steps"] < STEPS
    drops = [look["measures"][0]["average_drop"] for look in whole.record["validation"]]
    best = min(range(len(drops)), key=drops.__getitem__)
    assert whole.record["weights_of_step"] == whole.record["validation"][best]["step"]
    place = Place(tmp_path, seconds=0)
    train(backbone, auxiliary, photos, settings(**given), place=place)
    again = train(
        backbone, auxiliary, photos, settings(**given), place=Place(tmp_path, resume=True)
    )
    assert outcome(again) == outcome(whole)


DRIVER = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import torch
    torch.set_num_threads(1)
    import conftest
    from ptame_deploy.photos import find_photos
    from ptame_deploy.weights import record_weights, state_sha256
    from ptame_deploy.backbones import Backbone
    from ptame_deploy.preprocessing import Preprocessing
    from test_resume import settings
    from trainer.paper import train
    from trainer.paper_settings import Place

    torch.manual_seed(0)
    module = conftest.SquareClassifier().eval()
    half = (0.5, 0.5, 0.5)
    prepared = Preprocessing(input_size=(64, 64), resize=72, mean=half, std=half)
    backbone = Backbone("squares", module, prepared, 6, None, record_weights(module, "test"))
    folder, resume, killed = Path({folder!r}), {resume}, {killed}

    def on_step(report):
        if report.step == killed:
            os.kill(os.getpid(), signal.SIGKILL)

    place = Place(folder, resume=resume, seconds=0)
    auxiliary = conftest.make_auxiliary.__wrapped__()(64)
    photos = find_photos([Path({photos!r})])
    result = train(backbone, auxiliary, photos, settings(), place=place, on_step=on_step)
    print(state_sha256(result.explainer))
"""


def test_sigkill_and_resume_give_the_weights_of_an_uninterrupted_run(square_photos, tmp_path):
    def driven(folder, *, resume, killed):
        code = textwrap.dedent(DRIVER).format(
            tests=str(Path(__file__).parent), folder=str(tmp_path / folder), resume=resume,
            killed=killed, photos=str(square_photos),
        )  # fmt: skip
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
        )

    whole = driven("whole", resume=False, killed=None)
    assert whole.returncode == 0, whole.stderr
    for resume, killed in ((False, 3), (True, 6)):
        assert driven("killed", resume=resume, killed=killed).returncode == -signal.SIGKILL
    again = driven("killed", resume=True, killed=None)
    assert again.stdout == whole.stdout
    assert len(whole.stdout.strip()) == 64


def test_another_training_is_not_gone_on_with(backbone, auxiliary, photos, tmp_path):
    place = Place(tmp_path, seconds=0)
    with pytest.raises(Stopped):
        train(backbone, auxiliary, photos, settings(), place=place, on_step=crash_at(3))
    resumed = Place(tmp_path, resume=True)
    with pytest.raises(InvalidInputError, match="batch_size was 3, now it is 4"):
        train(backbone, auxiliary, photos, settings(batch_size=4), place=resumed)
    with pytest.raises(InvalidInputError, match="the list of photos was"):
        train(backbone, auxiliary, photos[:-1], settings(), place=resumed)
    # What it runs on may be another.
    train(backbone, auxiliary, photos, settings(workers=1), place=resumed)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip"])
def test_a_broken_checkpoint_is_said_as_such(tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"last\.ckpt is no checkpoint"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_a_checkpoint_runs_no_code_and_holds_no_frozen_network(
    backbone, auxiliary, photos, tmp_path
):
    with pytest.raises(Stopped):
        train(
            backbone, auxiliary, photos, settings(), place=Place(tmp_path, seconds=0),
            on_step=crash_at(4),
        )  # fmt: skip
    found = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(name.startswith("explainer.") for name in found["state_dict"])
    torch.save({"ptame": print}, tmp_path / "evil.ckpt")
    with pytest.raises(ArtifactError, match=r"evil\.ckpt"):
        read_checkpoint(tmp_path / "evil.ckpt")


def test_without_a_checkpoint_there_is_nothing_to_resume(backbone, auxiliary, photos, tmp_path):
    with pytest.raises(InvalidInputError, match="no training to go on with"):
        train(backbone, auxiliary, photos, settings(), place=Place(tmp_path, resume=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_the_machine_lacks_is_refused():
    with pytest.raises(InvalidInputError, match="--precision fp16 needs a GPU"):
        Hardware("fp16")
    with pytest.raises(InvalidInputError, match=r"--devices must be 1 to 64 \(processes\), got 0"):
        Hardware(devices=0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_last_batch_of_bad_photos_is_judged_all_the_same(
    backbone, auxiliary, photos, tmp_path, accumulate, monkeypatch
):
    """Without shuffling, the broken photos make up the last batch."""
    broken = [tmp_path / f"z{number}.png" for number in range(3)]
    for path in broken:
        path.write_text("no photo")
    monkeypatch.setattr("trainer.paper.split_photos", lambda every, _: (every[4:], every[:4]))
    from trainer.data import BatchKeys

    monkeypatch.setattr(BatchKeys, "_epoch", in_order)
    given = {"accumulate": accumulate, "epochs": 1, "max_steps": None, "validate_every": 1}
    result = train(backbone, auxiliary, [*photos[:10], *broken], settings(**given))
    assert result.record["steps"] == (2 if accumulate == 1 else 1)
    assert result.gain is not None
    assert result.record["validation"][-1]["step"] == result.record["steps"]
    assert result.record["skipped_photos"] == 3


def in_order(self, _epoch):
    from trainer.data import Key

    keys = [Key(number, number) for number in range(self.photos)]
    return [keys[start : start + 3] for start in range(0, self.photos, 3)]
