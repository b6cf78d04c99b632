import math

import pytest
import torch

from ptame_deploy.errors import CheckFailedError
from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.weights import state_sha256
from trainer.data import Batch
from trainer.loss_weights import LossWeights
from trainer.module import ExplainerModule, OptimiserSettings

pytestmark = pytest.mark.unit
AREA_ALONE = LossWeights(0, 1, 0, area_power=0.3, border_weight=0)
CROSS_ENTROPY_ALONE = LossWeights(1, 0, 0, area_power=0.3, border_weight=0)
ALL_TERMS = LossWeights(1, 1, 1e-3, area_power=0.3, border_weight=0.3)


def train_on(module: ExplainerModule, images: torch.Tensor, steps: int) -> list[dict[str, float]]:
    """Take steps as Lightning does; returns the loss terms of each."""
    configured = module.configure_optimizers()
    optimiser = configured["optimizer"]
    schedule = configured["lr_scheduler"]["scheduler"]
    history = []
    module.train()
    for _ in range(steps):
        terms = module.compute_loss(images)
        optimiser.zero_grad()
        terms.total.backward()
        optimiser.step()
        schedule.step()
        history.append(terms.as_floats())
    return history


def test_masks_are_those_of_the_batchs_classes_in_the_reference_form(make_module, squares):
    module = make_module().eval()
    images = squares(5)
    target, taps = module.observe(images)
    masks = module.masks(taps, target)
    reference = module.explainer.all_class_maps(module.auxiliary(images)).sigmoid()
    assert masks.shape == (5, 5, *module.auxiliary.map_size)
    assert torch.allclose(masks, reference[:, target], atol=1e-5)
    assert (masks.amax(dim=(2, 3)) - masks.amin(dim=(2, 3))).min() > 1e-3  # none is flat
    assert not torch.allclose(masks[:, 0], masks[:, 1], atol=1e-3)


def test_each_image_is_masked_with_its_own_class(make_module, monkeypatch, squares):
    module = make_module()
    seen = []
    monkeypatch.setattr(
        "trainer.masking.apply_mask", lambda image, mask: seen.append(mask) or image * mask.mean()
    )
    images = squares(4)
    module.compute_loss(images)
    target, taps = module.observe(images)
    masks = module.masks(taps, target)
    assert seen[0].shape == (4, 1, *module.auxiliary.map_size)
    for number in range(4):
        assert torch.allclose(seen[0][number, 0], masks[number, number])


def test_the_target_is_the_classifiers_own_answer(make_module, squares):
    module = make_module()
    assert module.observe(squares(6))[0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("start", ["random", "activation-map"])
def test_the_gradient_reaches_every_trained_parameter(make_module, auxiliary, start, squares):
    # The activation map starts with zero fusion rows at the finer taps and with BatchNorm gains
    # of 0. So the first gradient reaches fusion rows, the second those gains, and only the third
    # the finer convolutions.
    torch.manual_seed(0)
    explainer = ExplainerNet(auxiliary.channels, 6)
    if start == "activation-map":
        explainer.initialise_activation_map(torch.randn(6, auxiliary.channels[-1]) / 100)
    module = make_module(ALL_TERMS, explainer, steps=6)
    before = {name: value.detach().clone() for name, value in explainer.named_parameters()}
    strongest = dict.fromkeys(before, 0.0)
    configured = module.configure_optimizers()
    for _ in range(6):
        module.compute_loss(squares(6)).total.backward()
        for name, parameter in explainer.named_parameters():
            assert parameter.grad is not None, name
            strongest[name] = max(strongest[name], parameter.grad.abs().max().item())
        configured["optimizer"].step()
        configured["optimizer"].zero_grad()
    moved = {n: not torch.equal(p, before[n]) for n, p in explainer.named_parameters()}
    # BatchNorm takes away what a convolution's bias adds: its gradient is 0 but for rounding.
    biases = {name for name in before if name.endswith("conv.bias")}
    assert len(biases) == 3
    for name in before.keys() - biases:
        assert strongest[name] > 1e-7, name
        assert moved[name], name
    for name in biases:
        weight = strongest[name.replace("bias", "weight")]
        assert strongest[name] < max(1e-3 * weight, 1e-7), name


def test_classes_that_no_photo_shows_keep_their_fusion_rows(make_module, squares):
    module = make_module()
    before = module.explainer.fusion.weight.detach().clone()
    train_on(module, squares(3), 4)  # classes 0, 1, 2
    moved = (module.explainer.fusion.weight != before).any(dim=1)
    assert moved.tolist() == [True, True, True, False, False, False]


def test_nothing_frozen_moves_even_where_it_is_told_to_train(make_module, squares):
    module = make_module()
    classifier, auxiliary = state_sha256(module.classifier), state_sha256(module.auxiliary)
    statistics = module.explainer.branches[0].norm.running_mean.clone()
    module.train()
    module.classifier.train()
    for part in module.auxiliary.modules():
        part.training = True
    history = train_on(module, squares(6), 3)
    assert state_sha256(module.classifier) == classifier
    assert state_sha256(module.auxiliary) == auxiliary
    frozen = [*module.classifier.parameters(), *module.auxiliary.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in frozen)
    assert not any(part.training for part in module.classifier.modules())
    assert not any(part.training for part in module.auxiliary.modules())
    # Its own BatchNorm does train, and so does the loss.
    assert all(branch.norm.training for branch in module.explainer.branches)
    assert not torch.equal(module.explainer.branches[0].norm.running_mean, statistics)
    assert history[0]["loss"] != history[-1]["loss"]


def test_frozen_dropout_does_not_change_the_answer(make_module, squares):
    module = make_module()
    module.classifier.train()
    first, second = (module.compute_loss(squares(6)).as_floats() for _ in range(2))
    assert first == second


def mask_size_and_cross_entropy(
    module: ExplainerModule, images: torch.Tensor
) -> tuple[float, float]:
    with torch.no_grad():
        target, taps = module.observe(images)
        masks = module.masks(taps, target)
        return masks.mean().item(), module.compute_loss(images).cross_entropy.item()


def test_the_area_term_shrinks_the_mask_and_cross_entropy_keeps_the_class(make_module, squares):
    images = squares(12)
    shrinking = make_module(AREA_ALONE)
    size, _ = mask_size_and_cross_entropy(shrinking, images)
    train_on(shrinking, images, 20)
    small, lost = mask_size_and_cross_entropy(shrinking, images)
    assert small < 0.5 * size
    # The squares are hidden with the rest: the classifier guesses among its 6 classes.
    assert lost > 0.8 * math.log(6)
    # From there the cross-entropy term brings the class back, which it cannot do with small masks.
    keeping = make_module(CROSS_ENTROPY_ALONE, shrinking.explainer)
    train_on(keeping, images, 40)
    large, kept = mask_size_and_cross_entropy(keeping, images)
    assert kept < 0.3 * lost
    assert large > small


def test_the_variation_term_smooths_the_mask(make_module, squares):
    module = make_module(LossWeights(0, 0, 1, area_power=0.3, border_weight=0))
    history = train_on(module, squares(6), 20)
    assert history[-1]["variation"] < 0.5 * history[0]["variation"]


def test_a_loss_that_is_not_finite_stops_the_training(make_module, squares):
    module = make_module()
    with torch.no_grad():
        module.explainer.fusion.weight.fill_(torch.nan)
    with pytest.raises(CheckFailedError, match="not finite"):
        module.training_step(Batch(squares(2), []))


def test_a_batch_of_too_few_images_is_left_out(make_module, make_auxiliary, backbone, squares):
    module = make_module()
    assert module.min_batch == 1
    assert module.training_step(Batch(squares(0), ["bad.png"])) is None
    tiny = make_auxiliary(16)
    explainer = ExplainerNet(tiny.channels, 6)
    narrow = ExplainerModule(backbone, tiny, explainer, module.weights, module.optimiser)
    assert narrow.min_batch == 2
    assert narrow.training_step(Batch(squares(1), [])) is None


def test_the_optimiser_is_the_papers(make_module):
    module = make_module(learning_rate=1e-3, steps=10)
    configured = module.configure_optimizers()
    optimiser, cycle = configured["optimizer"], configured["lr_scheduler"]
    trained = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert trained == {id(p) for p in module.explainer.parameters()}
    assert type(optimiser).__name__ == "AdamW"
    assert optimiser.defaults["amsgrad"]
    assert cycle["interval"] == "step"
    rates = []
    for _ in range(10):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cycle["scheduler"].step()
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
    assert rates[0] < 1e-4
    assert 1e-6 < rates[-1] < 1e-4  # falling, but no step is run with a rate of nothing
    single = make_module(learning_rate=1e-3, steps=1).configure_optimizers()
    assert single["optimizer"].param_groups[0]["lr"] > 1e-5


def test_a_step_without_a_usable_batch_moves_nothing(make_module, squares):
    """AdamW decays, and follows its momentum, where gradients are 0."""
    module = make_module()
    module.optimiser = OptimiserSettings(1e-2, weight_decay=0.5, total_steps=9)
    optimiser = module.configure_optimizers()["optimizer"]

    def step(usable):
        module.compute_loss(squares(4)).total.backward()
        if not usable:
            for parameter in module.explainer.parameters():
                parameter.grad.zero_()
        module._usable = usable
        module.on_before_optimizer_step(optimiser)
        optimiser.step()
        optimiser.zero_grad()
        return {n: p.detach().clone() for n, p in module.explainer.named_parameters()}

    first, second = step(usable=True), step(usable=False)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    third = step(usable=True)
    assert not torch.equal(third["fusion.weight"], second["fusion.weight"])
