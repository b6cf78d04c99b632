import pytest
import torch
from torch.nn import functional

from ptame_deploy.errors import InvalidInputError
from trainer.data import Batch
from trainer.start import choose_start, collect, make_start, ridge_fit

pytestmark = pytest.mark.unit


def test_a_fit_finds_a_linear_classifier():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 12, generator=generator, dtype=torch.float64) + 3
    true = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    weights, fit = ridge_fit(features, features @ true.T + 7)
    centred = true - true.mean(dim=0)  # softmax does not see what all classes share
    assert torch.allclose(weights, centred, atol=0.05)
    assert fit.photos == 60
    assert fit.r2 > 0.999


def test_the_leave_one_out_share_is_that_of_fits_without_each_photo():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(15, 4, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(4, 3, generator=generator, dtype=torch.float64)
    y += torch.randn(15, 3, generator=generator, dtype=torch.float64)
    y -= y.mean(dim=1, keepdim=True)
    _, fit = ridge_fit(x, y)
    penalty = fit.penalty * (x - x.mean(0)).square().sum() / 4
    error = chance = 0.0
    for left_out in range(15):
        rest = torch.arange(15) != left_out
        mean_x, mean_y = x[rest].mean(0), y[rest].mean(0)
        a = x[rest] - mean_x
        eye = torch.eye(4, dtype=torch.float64)
        weights = torch.linalg.solve(a.T @ a + penalty * eye, a.T @ (y[rest] - mean_y))
        predicted = mean_y + (x[left_out] - mean_x) @ weights
        error += (y[left_out] - predicted).square().sum().item()
        chance += (y[left_out] - mean_y).square().sum().item()
    # Exact for the fit with means of the rest held fixed; here within a few percent.
    assert fit.r2 == pytest.approx(1 - error / chance, abs=0.03)


def test_a_fit_to_noise_predicts_nothing():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 100, generator=generator, dtype=torch.float64)
    logits = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    _, fit = ridge_fit(features, logits)
    assert abs(fit.r2) < 0.1


def test_a_classifier_of_one_answer_cannot_be_fitted():
    features = torch.rand(4, 3, dtype=torch.float64)
    with pytest.raises(InvalidInputError, match="same logits for every photo"):
        ridge_fit(features, torch.ones(4, 5, dtype=torch.float64))
    with pytest.raises(InvalidInputError, match="not finite"):
        ridge_fit(features, torch.full((4, 5), torch.nan, dtype=torch.float64))


def test_the_fitted_maps_sum_up_to_the_prediction(backbone, auxiliary, squares):
    batches = [Batch(squares(10), []), Batch(squares(6, seed=1), ["bad.png: no photo"])]
    started = make_start("fit", backbone, auxiliary, batches)
    features, logits, _ = collect(backbone, auxiliary, batches)
    weights, fit = ridge_fit(features, logits)
    assert started.start == "fit"
    assert started.fit == fit
    assert started.skipped == ["bad.png: no photo"]
    assert weights.abs().max() > 1e-4
    taps = auxiliary(squares(3, seed=2))
    maps = started.explainer.all_class_maps(taps)
    expected = torch.einsum("kc,bchw->bkhw", weights.float(), taps[-1].relu())
    prediction = taps[-1].relu().mean(dim=(2, 3)) @ weights.T.float()
    assert torch.allclose(expected.mean(dim=(2, 3)), prediction, atol=1e-5)
    for finer in reversed(taps[:-1]):
        expected = functional.interpolate(expected, size=finer.shape[2:], mode="bilinear")
    assert torch.allclose(maps, expected, atol=1e-5)


def test_starts_follow_choice_and_classes(backbone, auxiliary):
    assert choose_start("auto", backbone, auxiliary) == "fit"
    assert choose_start("random", backbone, auxiliary) == "random"
    with pytest.raises(InvalidInputError, match="--start fit"):
        choose_start("activation-map", backbone, auxiliary)


def test_a_random_start_follows_the_seed_and_reads_no_photo(backbone, auxiliary):
    def fusion(seed):
        return make_start("random", backbone, auxiliary, [], seed=seed).explainer.fusion.weight

    assert torch.equal(fusion(0), fusion(0))
    assert not torch.equal(fusion(0), fusion(1))


def test_a_fit_needs_photos(backbone, auxiliary):
    empty = Batch(torch.empty(0, 3, 64, 64), ["a.png: not an image"])
    with pytest.raises(InvalidInputError, match=r"0 could be read[\s\S]*a\.png"):
        make_start("fit", backbone, auxiliary, [empty])
