import os
import signal

import pytest

from ptame_deploy.cli import run
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.photos import find_photos
from trainer import tuning
from trainer.loss_weights import LOSSES, Loss, LossWeights, loss_for, read_loss, write_loss
from trainer.paper_settings import PaperSettings
from trainer.tuning import tune

pytestmark = pytest.mark.integration


def settings(**given):
    defaults = {
        "loss": LOSSES["resnet50"], "batch_size": 4, "max_steps": 3, "epochs": 2,
        "learning_rate": 1e-2, "validation": 4, "validate_every": 1,
    }  # fmt: skip
    return PaperSettings(**{**defaults, **given})


@pytest.fixture
def photos(square_photos):
    return find_photos([square_photos])


def test_a_search_tries_the_papers_sets_first_and_keeps_the_best(
    backbone, auxiliary, photos, tmp_path
):
    seen = []
    found = tune(backbone, auxiliary, photos, settings(), tmp_path, trials=5, on_trial=seen.append)
    assert [one.loss.name for one in seen] == [*LOSSES, "tuned", "tuned"]
    assert [one.number for one in seen] == [1, 2, 3, 4, 5]
    drops = [one.drop for one in seen if one.drop is not None]
    assert found.drop == min(drops) == seen[-1].best
    assert found.trials == 5
    assert read_loss(tmp_path / "loss.json") == found.loss
    assert loss_for("vgg16", str(tmp_path / "loss.json")) == found.loss
    assert found.start > 0


def test_an_interrupted_search_goes_on_where_it_was(
    backbone, auxiliary, photos, tmp_path, monkeypatch
):
    calls = []
    real = tuning.train

    def counted(*arguments, **given):
        calls.append(arguments[3].loss)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **given)

    monkeypatch.setattr(tuning, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        tune(backbone, auxiliary, photos, settings(), tmp_path, trials=4)
    assert len(calls) == 3
    with pytest.raises(InvalidInputError, match="holds a search: add --resume"):
        tune(backbone, auxiliary, photos, settings(), tmp_path, trials=4)
    with pytest.raises(InvalidInputError, match="batch_size was 4, now it is 5"):
        tune(backbone, auxiliary, photos, settings(batch_size=5), tmp_path, trials=4, resume=True)
    found = tune(backbone, auxiliary, photos, settings(), tmp_path, trials=4, resume=True)
    assert found.trials == 4
    # The one that was killed is made again, and no finished one is.
    assert [loss.name for loss in calls] == [*LOSSES, "vit_b_16", "tuned"]
    again = tune(backbone, auxiliary, photos, settings(), tmp_path, trials=4, resume=True)
    assert again == found
    assert len(calls) == 5


def test_a_trial_that_was_ended_while_it_trained_is_made_again(
    backbone, auxiliary, photos, tmp_path, monkeypatch
):
    calls = []
    real = tuning.train

    def ended(*arguments, on_validation, **given):
        calls.append(arguments[3].loss)

        def look(report):
            on_validation(report)
            if len(calls) == 2 and report.step == 1:
                os.kill(os.getpid(), signal.SIGINT)

        return real(*arguments, on_validation=look, **given)

    monkeypatch.setattr(tuning, "train", ended)
    with pytest.raises(KeyboardInterrupt):
        tune(backbone, auxiliary, photos, settings(), tmp_path, trials=5)
    tune(backbone, auxiliary, photos, settings(), tmp_path, trials=5, resume=True)
    names = [loss.name for loss in calls]
    assert names[:2] == ["vgg16", "resnet50"]
    assert sorted(names[2:]) == ["resnet50", "tuned", "tuned", "vit_b_16"]
    tune(backbone, auxiliary, photos, settings(), tmp_path, trials=7, resume=True)
    tried = [(loss.weights, loss.weight_decay) for loss in calls if loss.name == "tuned"]
    assert len(set(tried)) == len(tried) == 4


def test_a_diverging_trial_does_not_end_the_search(backbone, auxiliary, photos, tmp_path):
    seen = []
    with pytest.raises(Exception, match="No trial came to its end"):
        tune(
            backbone, auxiliary, photos, settings(learning_rate=1e38, max_steps=6, epochs=9),
            tmp_path, trials=3, on_trial=seen.append,
        )  # fmt: skip
    assert [one.drop for one in seen] == [None] * 3
    assert [one.number for one in seen] == [1, 2, 3]


def test_a_search_needs_photos_left_out(backbone, auxiliary, photos, tmp_path):
    with pytest.raises(InvalidInputError, match="No photos are left out"):
        tune(backbone, auxiliary, photos, settings(validation=0), tmp_path, trials=3)
    with pytest.raises(InvalidInputError, match="--trials must be at least 3"):
        tune(backbone, auxiliary, photos, settings(), tmp_path, trials=2)
    with pytest.raises(InvalidInputError, match="no search to go on with"):
        tune(backbone, auxiliary, photos, settings(), tmp_path / "no", trials=3, resume=True)


def test_a_broken_search_is_said_as_such(backbone, auxiliary, photos, tmp_path):
    (tmp_path / "study.log").write_bytes(b"\x00\xffno journal\n{}\n")
    with pytest.raises(ArtifactError, match=r"study\.log is no search"):
        tune(backbone, auxiliary, photos, settings(), tmp_path, trials=3, resume=True)


@pytest.mark.unit
def test_loss_weights_are_written_and_read(tmp_path):
    path = tmp_path / "mine.json"
    loss = Loss("tuned", LossWeights(0.1, 0.9, 1e-4, 0.4, 0.2), weight_decay=1e-3)
    write_loss(path, loss)
    assert read_loss(path) == loss
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_loss(tmp_path / "none.json")


@pytest.mark.unit
@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": "x", "weights": {"a": 1}, "weight_decay": 0}', "[" * 5000]
)
def test_a_file_of_other_things_is_no_loss(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"x\.json holds no loss weights"):
        read_loss(tmp_path / "x.json")


def test_the_command_searches_and_the_trainer_takes_what_it_found(
    square_photos, tiny_file, tmp_path, capsys
):
    common = ["--backbone", f"{tiny_file}:build", "--input-size", "64", "--resize", "72"]
    common += ["--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random"]
    common += ["--auxiliary-size", "64", "--batch-size", "4", "--max-steps", "1"]
    words = ["tune", str(square_photos), *common, "--validation", "4", "--trials", "3"]
    assert run([*words, "-o", str(tmp_path / "search")]) == 0
    captured = capsys.readouterr()
    assert "Best of 3 trials" in captured.out
    assert "trial 1 (vgg16: cross-entropy 0.0728" in captured.err
    words = ["train", str(square_photos), *common, "--preset", "paper", "--allow-no-gain"]
    words += ["--loss", str(tmp_path / "search" / "loss.json"), "-o", str(tmp_path / "own")]
    assert run(words) == 0
