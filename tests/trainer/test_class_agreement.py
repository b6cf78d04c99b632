"""Maps of the answer and of the class next to it: do they show what the classifier goes by?"""

import json

import numpy as np
import pytest
import torch

from ptame_deploy.cautions import explains
from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.own_features import OwnFeatures
from trainer.amortised import CrossFit
from trainer.class_agreement import PHOTOS, ClassAgreement, judge_classes
from trainer.fitting import Fitting
from trainer.loss_weights import LOSSES
from trainer.module import ExplainerModule, OptimiserSettings
from trainer.perturbation import MaskSettings
from trainer.teacher import open_teacher

pytestmark = pytest.mark.unit


@pytest.fixture
def images(squares):
    """Photos (16, 64, 64, 3) of two squares of different colours: the larger one is the answer."""
    found = []
    rng = np.random.default_rng(2)
    for number, image in enumerate(squares(16, seed=5)):
        pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        pixels[:] = pixels.min()
        colours = np.eye(3, dtype=np.uint8) * 255
        for side, colour, right in ((28, number % 3, 0), (18, (number + 1) % 3, 32)):
            top, left = rng.integers(0, 64 - side), right + rng.integers(0, 32 - side + 1)
            pixels[top : top + side, left : left + side] = colours[colour]
        found.append(pixels)
    return np.stack(found)


@pytest.fixture
def judge(backbone, images):
    """Judge the classifier's own colour channels, weighed by a fusion (classes, classes)."""

    def call(fusion, images=images, batch=7):
        own = OwnFeatures(backbone)
        explainer = ExplainerNet(own.channels, backbone.num_classes)
        explainer.initialise_activation_map(fusion)
        weights, optimiser = LOSSES["vgg16"].weights, OptimiserSettings(1e-3, 0.0, 1)
        module = ExplainerModule(backbone, own, explainer, weights, optimiser)
        return judge_classes(module, explainer, images, batch)

    return call


def test_maps_are_told_from_noise(judge, images):
    good = judge(torch.eye(6))
    wrong = judge(-torch.eye(6))
    others = judge(torch.roll(torch.eye(6), 1, 0))  # each class has its neighbour's map
    by_one = judge(torch.eye(6), batch=64)
    for which in ("own", "others"):
        right = getattr(good, which)
        assert right.photos == len(images)
        assert right.mean > 0.6
        assert explains(right)
        assert getattr(by_one, which).mean == pytest.approx(right.mean, abs=1e-5)
        assert getattr(wrong, which).mean == pytest.approx(-right.mean, abs=0.3)
        assert not explains(getattr(wrong, which))
        assert getattr(others, which).mean < right.mean / 2
    assert good.own.mean != pytest.approx(good.others.mean, abs=1e-6)


def test_so_many_photos_are_enough(judge, images):
    many = judge(torch.eye(6), np.concatenate([images] * 5))
    assert many.own.photos == many.others.photos == PHOTOS


def test_photos_whose_scores_do_not_depend_on_the_place_do_not_count(judge, images):
    black = np.zeros_like(images[:4])
    some = judge(torch.eye(6), np.concatenate([images, black]))
    assert some.own.photos == some.others.photos == len(images)
    assert judge(torch.eye(6), black) == ClassAgreement(None, None)


def test_it_survives_a_checkpoint(judge, images):
    for found in (judge(torch.eye(6)), ClassAgreement(judge(torch.eye(6)).own, None)):
        assert ClassAgreement.from_record(json.loads(json.dumps(found.record()))) == found


def test_the_recipe_for_few_photos_measures_the_same(backbone, judge, images):
    """By its own sums; of a fit that is the start, they are the maps' own agreement."""
    own = OwnFeatures(backbone)
    explainer = ExplainerNet(own.channels, 6)
    explainer.initialise_activation_map(torch.eye(6))
    with open_teacher(backbone) as teacher:
        masks = MaskSettings(count=16)
        fitting = Fitting(backbone, own, explainer, teacher, masks, "start", cache=None)
        for image in images:
            fitting.add(image)
    start = fitting.terms.start
    fit = CrossFit(start, 1.0, [start] * 5)
    judged = judge(torch.eye(6))
    for found, expected in (
        (fitting.judge(fit).trained, judged.own),
        (fitting.judge_others(fit), judged.others),
    ):
        assert found.photos == len(images)
        assert found.mean == pytest.approx(expected.mean, abs=0.02)
