import math

import pytest
import torch

from ptame_deploy.errors import InvalidInputError
from trainer.loss_weights import LOSSES, Loss, LossWeights, loss_for
from trainer.losses import LossTerms, area_term, loss_terms, variation_term
from trainer.masking import apply_mask, masked_cross_entropy

pytestmark = pytest.mark.unit


def test_the_area_term_is_the_mean_of_powers():
    masks = torch.tensor([0.0, 0.25, 1.0])
    expected = (0.0005**0.5 + 0.2505**0.5 + 1.0005**0.5) / 3
    assert area_term(masks, 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_the_area_term_has_a_finite_slope_at_zero():
    masks = torch.zeros(4, requires_grad=True)
    area_term(masks, 0.3).backward()
    assert torch.isfinite(masks.grad).all()
    assert (masks.grad > 0).all()


def test_the_variation_term_by_hand():
    # 3x3: neighbours differ vertically by (3, 0, 1), (4, 2, 6), horizontally as below.
    mask = torch.tensor([[1.0, 2.0, 3.0], [4.0, 2.0, 2.0], [0.0, 0.0, 8.0]])
    vertical = 9 + 0 + 1 + 16 + 4 + 36
    horizontal = 1 + 1 + 4 + 0 + 0 + 64
    border = 1 + 4 + 9 + 16 + 4 + 0 + 0 + 64  # all but the middle, corners once
    one = variation_term(mask[None, None], 0.3).item()
    assert one == pytest.approx((vertical + horizontal + 0.3 * border) / 2)
    # A batch of 2 images with 2 maps each: four times the sum, over 2 * 2.
    batch = variation_term(mask.expand(2, 2, 3, 3), 0.3).item()
    assert batch == pytest.approx(4 * (vertical + horizontal + 0.3 * border) / 4)


def test_the_variation_term_of_a_flat_mask_is_its_border():
    masks = torch.full((1, 1, 4, 5), 0.5)
    assert variation_term(masks, 0.0).item() == 0
    assert variation_term(masks, 1.0).item() == pytest.approx(14 * 0.25 / 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2)])
def test_a_mask_without_an_inside_is_all_border(size):
    masks = torch.ones(1, 1, *size)
    assert variation_term(masks, 1.0).item() == pytest.approx(size[0] * size[1] / 2)


def test_the_loss_adds_the_weighted_terms():
    weights = LossWeights(0.5, 2.0, 0.1, area_power=1.0, border_weight=0.0)
    masks = torch.zeros(2, 2, 2, 2)
    masks[0, 0, 0, 0] = 1
    terms = loss_terms(torch.tensor(math.log(4)), masks, weights)
    assert terms.cross_entropy.item() == pytest.approx(math.log(4))
    assert terms.area.item() == pytest.approx(1 / 16 + 5e-4)
    assert terms.variation.item() == pytest.approx(2 / 4)
    expected = 0.5 * math.log(4) + 2 * (1 / 16 + 5e-4) + 0.1 * 0.5
    assert terms.as_floats()["loss"] == pytest.approx(expected)


def test_masking_blackens_the_image():
    image = torch.full((1, 3, 2, 2), 0.8)
    mask = torch.tensor([[[[0.0, 0.5], [1.0, 1.0]]]])
    masked = apply_mask(image, mask)
    assert masked[0, 1].tolist() == [[0.0, pytest.approx(0.4)], [pytest.approx(0.8)] * 2]


def test_the_mask_is_resized_bilinearly():
    image = torch.ones(1, 3, 2, 4)
    mask = torch.tensor([[[[0.0, 1.0]]]])
    # Pixel centres at 1/8, 3/8, 5/8, 7/8 of the width; the mask's at 1/4 and 3/4.
    assert apply_mask(image, mask)[0, 2, 1].tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_each_image_gets_its_own_mask():
    masks = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    masked = apply_mask(torch.ones(2, 3, 4, 4), masks)
    assert masked[0].sum() == 0
    assert masked[1].sum() == 3 * 16


def test_the_loss_weights_are_the_papers():
    assert {
        "vgg16": Loss("vgg16", LossWeights(0.07278, 0.977712, 1e-4, 0.3, 0.3), 0.13324),
        "resnet50": Loss("resnet50", LossWeights(0.161429, 0.838571, 0, 0.3, 0.3), 2.4267e-4),
        "vit_b_16": Loss("vit_b_16", LossWeights(0.131292, 0.838571, 0, 0.5, 0), 1.3309e-4),
    } == LOSSES


def test_a_backbone_with_weights_of_its_own_gets_its_own():
    assert loss_for("vit_b_16").name == "vit_b_16"
    assert loss_for("my_file.py:build").name == "resnet50"
    assert loss_for("vit_b_16", "vgg16").name == "vgg16"
    with pytest.raises(InvalidInputError, match="vgg16, resnet50, vit_b_16"):
        loss_for("vit_b_16", "vgg61")


@pytest.mark.parametrize(
    "values",
    [(-1, 1, 0, 0.3, 0), (1, math.nan, 0, 0.3, 0), (0, 0, 0, 0.3, 0), (1, 1, 0, 0, 0),
     (1, 1, 0, 0.3, -1)],
)  # fmt: skip
def test_weights_that_cannot_be_minimised_are_refused(values):
    with pytest.raises(InvalidInputError):
        LossWeights(*values)


def test_a_negative_weight_decay_is_refused():
    with pytest.raises(InvalidInputError, match="Weight decay"):
        Loss("mine", LOSSES["vgg16"].weights, weight_decay=-0.1)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_the_chunked_cross_entropy_is_the_plain_one(chunk, head):
    torch.manual_seed(0)
    classifier = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 4)
    ).requires_grad_(requires_grad=False)
    classifier.head = head
    images, target = torch.rand(5, 3, 8, 10), torch.tensor([0, 3, 1, 1, 2])
    masks = torch.rand(5, 1, 4, 4, requires_grad=True)
    logits = classifier(apply_mask(images, masks))
    plain = torch.nn.functional.cross_entropy(logits, target)
    if head == "sigmoid":  # of the class alone, as if it were right
        right = torch.nn.functional.one_hot(target, 4).bool()
        plain = -logits.sigmoid()[right].log().mean()
    (expected,) = torch.autograd.grad(3 * plain, masks)
    found = masked_cross_entropy(classifier, images, masks, target, chunk)
    (gradient,) = torch.autograd.grad(3 * found, masks)
    assert found.item() == pytest.approx(plain.item(), abs=1e-6)
    assert torch.allclose(gradient, expected, atol=1e-7)
    assert gradient.abs().max() > 1e-3


def test_roughness_is_a_mean_over_photos_however_many():
    masks = torch.rand(3, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    each = [variation_term(mask[None], 0.3) for mask in masks]
    assert torch.allclose(variation_term(masks, 0.3), torch.stack(each).mean())


def test_terms_are_scaled_one_by_one():
    terms = LossTerms(*(torch.tensor(value) for value in (1.0, 2.0, 3.0, 5.0)))
    assert list(terms.scaled(0.5).as_floats().values()) == [0.5, 1.0, 1.5, 2.5]
