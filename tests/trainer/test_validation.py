import numpy as np
import pytest
import torch

from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.faithfulness import drop_and_increase, masks
from ptame_deploy.preprocessing import to_float
from ptame_deploy.weights import state_sha256
from trainer.validation import MEASURE, Validation, compare, decisive

pytestmark = pytest.mark.unit
SQUARE = 20 * 20 / 64**2  # share of a photo


@pytest.fixture
def images(squares):
    return (squares(13, seed=4).permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)


@pytest.fixture
def validation(make_module, images):
    return Validation(make_module(), images, batch=5)


def squares_alone(images):
    """Maps that show the squares, and nothing else."""
    spread = images.max(axis=3).astype(int) - images.min(axis=3)
    return (spread > 128).astype(np.float32)


def test_a_perfect_map_keeps_the_class_and_its_opposite_loses_it(validation, images):
    good, bad = squares_alone(images), 1 - squares_alone(images)
    (right,) = validation.judge(good, published=False)
    (wrong,) = validation.judge(bad, published=False)
    assert right.matched
    assert right.drop.shape == (13,)
    assert right.drop.max() < 5
    assert wrong.drop.mean() > 50
    gain = compare([wrong], [right])
    assert gain.is_clear
    assert gain.measure == MEASURE
    assert gain.better.mean == pytest.approx(wrong.drop.mean() - right.drop.mean())
    assert not compare([right], [wrong]).is_clear
    assert not compare([right], [right]).is_clear


def test_numbers_are_those_of_the_measures_definition(validation, images):
    maps = np.random.default_rng(0).random((13, 7, 7)).astype(np.float32)
    found = validation.judge(maps, (100, 50, 15))
    classifier = validation.module.classifier
    whole = torch.from_numpy(to_float(images))

    def confidence(batch, index=None):
        with torch.no_grad():
            answers = classifier(batch).softmax(dim=1)
        index = answers.argmax(dim=1) if index is None else index
        return answers.gather(1, index[:, None])[:, 0].numpy(), index

    before, index = confidence(whole)
    assert [(one.percent, one.matched) for one in found] == [
        (percent, form) for percent in (100, 50, 15) for form in (True, False)
    ]
    for one in found:
        kept = masks(maps, (64, 64), one.percent, matched=one.matched)
        after, _ = confidence(whole * torch.from_numpy(kept)[:, None], index)
        expected = drop_and_increase(before, after)
        assert one.drop.mean() == pytest.approx(expected.average_drop, rel=1e-4)
        assert one.increase.mean() == pytest.approx(expected.increase)
    assert decisive(found) is found[2].drop


def test_an_explainer_is_judged_as_it_will_be_exported(validation, images):
    module = validation.module
    module.explainer.train()
    before = state_sha256(module.explainer)
    maps = validation.explainer_maps(module.explainer)
    assert module.explainer.training
    assert state_sha256(module.explainer) == before
    assert maps.shape == (13, *module.auxiliary.map_size)
    assert maps.min() == 0
    assert maps.max() == 1
    with torch.no_grad():
        features = module.auxiliary(torch.from_numpy(to_float(images)))
        target, _ = module.observe(torch.from_numpy(to_float(images)))
        module.explainer.eval()
        raw = module.explainer.class_maps(features, target[:, None])[:, 0].numpy()
    low, high = raw.min((1, 2), keepdims=True), raw.max((1, 2), keepdims=True)
    np.testing.assert_allclose(maps, (raw - low) / (high - low), atol=1e-5)


def test_floors_are_the_same_for_every_look(validation):
    first, again = validation.floor_maps(seed=1), validation.floor_maps(seed=1)
    assert first["gaussian"].shape == (13, 64, 64)
    assert first["random"].shape == (13, 7, 7)
    for name, maps in first.items():
        np.testing.assert_array_equal(maps, again[name])
    assert not np.array_equal(first["random"], validation.floor_maps(seed=2)["random"])


def test_what_is_judged_is_described(validation, images):
    (one,) = validation.judge(squares_alone(images), (15,), published=False)
    record = one.record()
    assert (record["percent"], record["contrast_matched"]) == (15, True)
    assert record["average_drop"]["mean"] == pytest.approx(one.drop.mean())
    assert record["average_drop"]["photos"] == 13
    # 15 % of the pixels hold the whole square, which is smaller.
    assert SQUARE < 0.15
    assert one.drop.mean() < 10


def test_a_random_explainer_gains_nothing_over_itself(validation, auxiliary):
    torch.manual_seed(3)
    net = ExplainerNet(auxiliary.channels, 6)
    judged = validation.judge_all({"one": validation.explainer_maps(net)})
    assert len(judged["one"]) == 6
    assert compare(judged["one"], judged["one"]).better.mean == 0


def test_a_handful_of_photos_shows_no_clear_gain(validation, images):
    good, bad = squares_alone(images), 1 - squares_alone(images)
    few = Validation(validation.module, images[:7], batch=5)
    assert not compare(few.judge(bad[:7]), few.judge(good[:7])).is_clear
    enough = Validation(validation.module, images[:8], batch=5)
    assert compare(enough.judge(bad[:8]), enough.judge(good[:8])).is_clear
