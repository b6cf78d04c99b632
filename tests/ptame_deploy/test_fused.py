"""The fused model in PyTorch, against its parts put together by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from ptame_deploy.explainer import ExplainerNet, FoldedExplainer
from ptame_deploy.fused import (
    MIN_RANGE,
    MIN_RELATIVE_RANGE,
    FusedModel,
    NormalisedClassifier,
    min_max_normalise,
)
from ptame_deploy.own_features import OwnFeatures
from ptame_deploy.part_records import SuperpixelRecord
from ptame_deploy.sources.load import load_backbone

pytestmark = pytest.mark.unit
MEAN, STD = (0.2, 0.4, 0.6), (0.5, 0.25, 0.2)


@pytest.fixture(scope="module")
def parts(tiny_file):
    """A classifier, its own features, and an explainer of noise."""
    preprocessing = {"input_size": (64, 64), "mean": MEAN, "std": STD}
    backbone = load_backbone(f"{tiny_file}:build", preprocessing=preprocessing)
    own = OwnFeatures(backbone)
    torch.manual_seed(0)
    explainer = ExplainerNet(own.channels, backbone.num_classes).eval()
    return backbone, own, explainer


@pytest.fixture(scope="module")
def fuse(parts):
    backbone, own, explainer = parts

    def call(superpixels=None, **options):
        folded = FoldedExplainer(explainer)
        folded.superpixels = superpixels
        return FusedModel(backbone, own, folded, **options)

    return call


def images(count=2, seed=0):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def by_hand(parts, image):
    """Logits, and raw maps (B, classes, h, w) of all classes."""
    backbone, own, explainer = parts
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    logits = backbone.module((image - mean) / std)
    classifier = NormalisedClassifier(backbone)
    return logits, explainer.all_class_maps(own.observe(classifier, image)[1])


def stretched(maps):
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low)


def of_classes(maps, index):
    return torch.stack([one[chosen] for one, chosen in zip(maps, index, strict=True)])


@torch.no_grad()
def test_it_explains_the_best_classes(parts, fuse):
    image = images(3)
    logits, maps = by_hand(parts, image)
    model = fuse(top_k=3)
    found = model(image)
    best = logits.argsort(dim=1, descending=True)[:, :3]
    torch.testing.assert_close(found[0], logits)
    assert torch.equal(found[1], best)
    torch.testing.assert_close(found[2], stretched(of_classes(maps, best)), atol=1e-4, rtol=0)
    assert fuse()(image)[1].shape == (3, 1)
    assert model.native_size == parts[1].map_size == found[2].shape[2:]
    assert not model.training


@torch.no_grad()
def test_it_explains_named_and_given_classes(parts, fuse):
    image = images(2)
    maps = by_hand(parts, image)[1]
    named = fuse(targets=(7, 2))(image)
    assert named[1].tolist() == [[7, 2], [7, 2]]
    torch.testing.assert_close(named[2], stretched(maps[:, [7, 2]]), atol=1e-4, rtol=0)
    asked = torch.tensor([[1], [9]])
    given = fuse(targets=(7, 2))(image, asked)  # what the caller gives goes before
    assert torch.equal(given[1], asked)
    torch.testing.assert_close(given[2], stretched(of_classes(maps, asked)), atol=1e-4, rtol=0)
    assert "targets" not in fuse(targets=(7,)).state_dict()


@torch.no_grad()
def test_bytes_are_the_same_photo(parts, fuse):
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    image = pixels.permute(0, 3, 1, 2).float() / 255
    for one, other in zip(fuse(uint8_input=True)(pixels), fuse()(image), strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_maps_may_have_the_inputs_size(fuse):
    image = images(2)
    native, large = fuse(top_k=2)(image)[2], fuse(top_k=2, map_size="input")(image)[2]
    expected = functional.interpolate(native, size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(large, expected)
    assert native.shape != large.shape


@torch.no_grad()
@pytest.mark.parametrize(("contrast", "rivals"), [("best", [1, 0, 0]), ("given", [1, 2, 0])])
def test_classes_are_held_against_others(parts, fuse, contrast, rivals):
    """The best one against the second, all else against the best; or each against the next."""
    image = images(3)
    image[0] *= 0.1
    logits, maps = by_hand(parts, image)
    best = logits.argsort(dim=1, descending=True)[:, :3]
    assert best[0, 0] < best[0, 1]
    assert best[1, 0] > best[1, 1]
    expected = stretched(of_classes(maps, best) - of_classes(maps, best[:, rivals]))
    found = fuse(top_k=3, contrast=contrast)(image)[2]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@torch.no_grad()
def test_superpixels_act_before_maps_are_stretched(parts, fuse):
    record = SuperpixelRecord(grid=2, kept=0.1, detail=2)
    image = images(2)
    model = fuse(superpixels=record)
    logits, maps = by_hand(parts, image)
    raw = of_classes(maps, logits.argmax(dim=1, keepdim=True))
    expected = stretched(model.superpixels(image, raw))
    torch.testing.assert_close(model(image)[2], expected, atol=1e-3, rtol=0)
    height, width = parts[1].map_size
    assert model.native_size == (2 * height, 2 * width) == model(image)[2].shape[2:]


def test_probabilities_are_the_heads(parts):
    backbone = parts[0]
    logits = torch.tensor([[0.0, 1.0, -2.0]], dtype=torch.float16)
    softmax = NormalisedClassifier(backbone).probabilities(logits)
    torch.testing.assert_close(softmax, logits.float().softmax(1))
    each = NormalisedClassifier(dataclasses.replace(backbone, head="sigmoid"))
    torch.testing.assert_close(each.probabilities(logits), logits.float().sigmoid())
    assert softmax.dtype == torch.float32


@pytest.mark.parametrize("level", [0.0, 3.0, -700.0])
def test_how_flat_a_map_is_flat(level):
    """A range under the smallest one is not stretched to 1, but to its share of it."""
    smallest = MIN_RANGE + abs(level) * MIN_RELATIVE_RANGE
    steps = torch.linspace(0, 1, 6, dtype=torch.float64).reshape(1, 1, 2, 3)
    wide = min_max_normalise(level + 4 * smallest * steps)
    np.testing.assert_allclose(wide, steps, atol=0.05 if level else 1e-6)
    narrow = min_max_normalise(level + smallest / 4 * steps)
    np.testing.assert_allclose(narrow, steps / 4, atol=0.05 if level else 1e-6)
    assert wide.dtype == torch.float32
