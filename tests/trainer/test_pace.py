import time

import numpy as np
import pytest
import torch

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import find_photos
from ptame_deploy.weights import state_sha256
from trainer import pace
from trainer.data import BatchKeys, PhotoBatches, load_batches
from trainer.loss_weights import LOSSES
from trainer.pace import judging_seconds, largest_paying_batch, steps_within
from trainer.paper import train
from trainer.paper_settings import PaperSettings
from trainer.validation import Validation

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")


@pytest.fixture
def costly(make_module, monkeypatch):
    """A module whose steps take what a test says, and its memory ends where a test says."""
    module = make_module()
    module.clock = clock = [0.0]
    monkeypatch.setattr("trainer.pace.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("trainer.pace.time.monotonic", lambda: clock[0])

    def make(seconds, most=10**9):
        def step(_module, images):
            if len(images) > most:
                raise torch.OutOfMemoryError
            module.explainer.branches[0].norm.running_mean.add_(1)  # as a real step does
            clock[0] += seconds(len(images))

        monkeypatch.setattr("trainer.pace._step", step)
        return module

    return make


def test_the_batch_grows_while_images_get_cheaper(costly):
    module = costly(lambda batch: 1.0 + 0.001 * batch)
    before = state_sha256(module.explainer)
    assert largest_paying_batch(module, (8, 8), 10_000, CPU) == 512
    module = costly(lambda batch: batch / min(batch, 16))
    assert largest_paying_batch(module, (8, 8), 10_000, CPU) == 16
    assert state_sha256(module.explainer) == before


def test_the_batch_stays_within_memory_and_photos(costly):
    assert largest_paying_batch(costly(lambda _: 1.0, most=40), (8, 8), 10_000, CPU) == 32
    assert largest_paying_batch(costly(lambda _: 1.0), (8, 8), 21, CPU) == 16
    with pytest.raises(InvalidInputError, match="Not even the smallest batch fits"):
        largest_paying_batch(costly(lambda _: 1.0, most=1), (8, 8), 100, CPU)


def test_other_failures_are_not_taken_for_a_lack_of_memory(costly, monkeypatch):
    module = costly(lambda _: 1.0)

    def broken(_module, _images):
        message = "shapes do not fit"
        raise RuntimeError(message)

    monkeypatch.setattr("trainer.pace._step", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        largest_paying_batch(module, (8, 8), 100, CPU)


def test_steps_are_as_many_as_fit(costly, backbone, square_photos):
    module = costly(lambda _: 2.0)
    before = state_sha256(module.explainer)
    photos = find_photos([square_photos])
    loader = load_batches(
        PhotoBatches(photos, backbone.preprocessing, augment=True),
        BatchKeys(len(photos), 2, seed=0), workers=0,
    )  # fmt: skip
    assert steps_within(module, loader, 101.0, CPU, accumulate=1) == 50
    assert steps_within(module, loader, 101.0, CPU, accumulate=4) == 12
    assert steps_within(module, loader, 0.5, CPU, accumulate=1) == 1
    few = load_batches(
        PhotoBatches(photos, backbone.preprocessing, augment=True),
        BatchKeys(len(photos), 64, seed=0, epochs=4), workers=0,
    )  # fmt: skip
    assert steps_within(module, few, 101.0, CPU) == 50  # one batch an epoch
    assert state_sha256(module.explainer) == before


@pytest.mark.integration
def test_a_time_budget_and_an_automatic_batch_train(backbone, auxiliary, square_photos):
    photos = find_photos([square_photos])
    said = []
    settings = PaperSettings(
        loss=LOSSES["resnet50"], batch_size=None, time_budget=2.0, start="random"
    )
    began = time.monotonic()
    result = train(backbone, auxiliary, photos, settings, say=said.append)
    assert time.monotonic() - began < 60
    assert result.record["steps"] == result.record["optimiser"]["total_steps"] >= 1
    assert result.record["batch_size"] in (2, 4, 8)
    assert any("are the largest that pay here" in line for line in said)
    assert any("steps fit the time" in line for line in said)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"time_budget": -1.0}, "--time-budget must be a positive number"),
        ({"accumulate": 0}, "--accumulate must be at least 1"),
        ({"validation": -1}, "--validation must be at least 0"),
        ({"validation": 0, "patience": 2}, "--patience needs photos"),
        ({"max_bad": -0.5}, "--max-bad"),
    ],
)
def test_settings_that_cannot_train_are_refused(given, says):
    with pytest.raises(InvalidInputError, match=says):
        PaperSettings(loss=LOSSES["resnet50"], **given)


def test_all_photos_left_out_leave_none_to_train_on(backbone, auxiliary, square_photos):
    photos = find_photos([square_photos])
    settings = PaperSettings(loss=LOSSES["resnet50"], validation=12)
    with pytest.raises(InvalidInputError, match="--validation 12 leaves none of the 12 photos"):
        train(backbone, auxiliary, photos, settings)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_measured_runs_in_the_precision_of_the_training(costly, monkeypatch, precision):
    module, seen = costly(lambda _: 1.0), []
    step = pace._step

    def noticed(*arguments):
        seen.append(torch.is_autocast_enabled("cpu"))
        step(*arguments)

    monkeypatch.setattr(pace, "_step", noticed)
    largest_paying_batch(module, (8, 8), 4, CPU, precision=precision)
    assert set(seen) == {precision == "bf16"}


def test_judging_is_measured_on_a_few_photos_and_counted_for_all(costly, monkeypatch):
    module = costly(lambda _: 1.0)
    validation = Validation(module, np.zeros((80, 64, 64, 3), np.uint8), batch=4)
    judge = Validation.judge

    def slow(self, *arguments, **given):
        found = judge(self, *arguments, **given)
        module.clock[0] += len(found) * len(self.images) / 8
        return found

    monkeypatch.setattr(Validation, "judge", slow)
    # A look asks for two masked copies, the end for six of four methods; 80 photos are ten times 8.
    assert judging_seconds(validation, CPU, looks=3) == pytest.approx((2 * 4 + 6 * 4) * 10)
