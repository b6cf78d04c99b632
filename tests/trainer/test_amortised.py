import numpy as np
import pytest
import torch
from torch.nn import functional

from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.part_records import SuperpixelRecord
from ptame_deploy.random_masks import stream_masks
from ptame_deploy.superpixels import Superpixels
from trainer.amortised import (
    PENALTIES,
    FittedTerms,
    Moments,
    agreement,
    cross_fit,
    make_sample,
    ridge,
    total,
)
from trainer.mask_projector import MaskProjector

pytestmark = pytest.mark.unit

CHANNELS, CLASSES = [3, 4, 7], 6
SIZES = [(16, 12), (8, 6), (4, 3)]
IMAGE = (50, 37)


def started(seed=0):
    """An explainer with frozen branches that reads its deepest and its finest tap."""
    torch.manual_seed(seed)
    net = ExplainerNet(CHANNELS, CLASSES)
    net.initialise_activation_map(torch.randn(CLASSES, CHANNELS[-1]))
    with torch.no_grad():
        net.fusion.weight[:, :3] = torch.randn(CLASSES, 3)
    return net.eval()


def taps(seed):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(1, c, *size, generator=generator)
        for c, size in zip(CHANNELS, SIZES, strict=True)
    ]


def some_masks(count=12, seed=0):
    stream = stream_masks(count, *IMAGE, cells=5, keep=0.5, batch=count, seed=seed)
    return next(stream).copy()


def flat(features):
    return {number: tap[0].flatten(1).numpy() for number, tap in enumerate(features)}


@pytest.mark.parametrize("sizes", [SIZES, [(16, 12), (8, 6), (8, 6), (3, 5)], [(7, 7)]])
def test_projected_masks_give_the_sum_over_the_enlarged_map(sizes):
    """The definition: enlarge the map tap by tap and to the image, multiply, take the mean."""
    masks = some_masks()
    project = MaskProjector(sizes, IMAGE, range(len(sizes)))
    projected = project.to_taps(project.to_map(masks))
    for tap, size in enumerate(sizes):
        small = torch.rand(1, 1, *size)
        enlarged = small
        for finer in (*reversed(sizes[:tap]), IMAGE):
            enlarged = functional.interpolate(
                enlarged, size=finer, mode="bilinear", align_corners=False
            )
        expected = (enlarged[0, 0].numpy() * masks).mean(axis=(1, 2))
        np.testing.assert_allclose(projected[tap] @ small.numpy().reshape(-1), expected, rtol=1e-4)


@pytest.mark.parametrize("rows", ["start", "all"])
def test_coefficients_are_the_map_that_they_stand_for(rows):
    """Columns times coefficients is the masked sum of the map of the fused weights."""
    net, masks, features = started(), some_masks(), taps(1)
    terms = FittedTerms(net, rows)
    assert terms.gained == [0, 2]
    assert terms.rows == ([0, 2] if rows == "start" else list(range(len(CHANNELS))))
    assert len(terms.start) == 2 + sum(CHANNELS[tap] for tap in terms.rows)
    generator = np.random.default_rng(0)
    for coefficients in (terms.start, generator.normal(size=len(terms.start))):
        project = MaskProjector(SIZES, IMAGE, terms.read)
        projected = project.to_taps(project.to_map(masks))
        columns = terms.columns(terms.seen(flat(features), projected), class_index=4)
        fitted = started()
        terms.shared(coefficients).apply_to(fitted)
        with torch.no_grad():
            saliency = fitted.class_maps(features, torch.tensor([[4]]))
        enlarged = functional.interpolate(saliency, size=IMAGE, mode="bilinear")[0, 0].numpy()
        expected = (enlarged * masks).mean(axis=(1, 2))
        np.testing.assert_allclose(columns @ coefficients, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("detail", [1, 2])
def test_pooled_masks_stand_for_pooled_maps(detail):
    """Superpixels act between the two steps: on the mask what they would do to the map."""
    net, masks, features = started(), some_masks(), taps(1)
    superpixels = Superpixels(SuperpixelRecord(grid=3, detail=detail), SIZES[0])
    image = torch.rand(1, 3, *IMAGE, generator=torch.Generator().manual_seed(2))
    terms = FittedTerms(net)
    project = MaskProjector(SIZES, IMAGE, terms.read, superpixels.size)
    with torch.no_grad():
        regions, small = superpixels.regions(image), torch.from_numpy(project.to_map(masks))
        pooled = superpixels.pool(regions, small[None])[0].numpy()
        saliency = superpixels(image, net.class_maps(features, torch.tensor([[4]])))
    columns = terms.columns(terms.seen(flat(features), project.to_taps(pooled)), class_index=4)
    enlarged = functional.interpolate(saliency, size=IMAGE, mode="bilinear")[0, 0].numpy()
    expected = (enlarged * masks).mean(axis=(1, 2))
    np.testing.assert_allclose(columns @ terms.start, expected, rtol=1e-3, atol=1e-5)


def test_the_starts_own_coefficients_change_nothing():
    terms = FittedTerms(started())
    net = started()
    terms.shared(terms.start).apply_to(net)
    assert torch.equal(net.fusion.weight, started().fusion.weight)


def samples(count, true, *, noise=0.0, seed=0, width=8):
    """Photos whose scores are linear in the columns, but for noise, level and area."""
    generator = np.random.default_rng(seed)
    start = np.zeros(width)
    start[0] = 1
    made = []
    for _ in range(count):
        columns = generator.normal(size=(12, width)).astype(np.float32)
        shown = generator.random(12).astype(np.float32)
        scores = columns @ true + noise * generator.normal(size=12) + 30 - 9 * shown
        scores = scores.astype(np.float32)
        made.append(make_sample(columns, scores, shown, start))
    return made, start


def folds_of(made, width=8, count=4):
    folds = [Moments(width) for _ in range(count)]
    for number, sample in enumerate(made):
        folds[number % count].add([sample])
    return folds


def test_level_and_shown_area_have_no_part():
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(12, 4)).astype(np.float32)
    shown = generator.random(12).astype(np.float32)
    scores = generator.normal(size=12).astype(np.float32)
    start = np.array([1.0, 0, 0, 0])
    one = make_sample(columns, scores, shown, start)
    moved = columns + shown[:, None] + 3
    other = make_sample(moved, 5 * scores - 2 * shown + 7, shown, start)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    np.testing.assert_allclose(one.columns, other.columns, atol=1e-4)
    assert np.linalg.norm(one.scores) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(one.columns @ start) == pytest.approx(1, abs=1e-5)


def test_a_photo_that_says_nothing_is_left_out():
    generator = np.random.default_rng(0)
    columns, shown = generator.normal(size=(12, 4)), generator.random(12)
    start = np.array([1.0, 0, 0, 0])
    assert make_sample(columns, np.full(12, 3.0), shown, start) is None
    assert make_sample(columns, generator.normal(size=12), shown, np.zeros(4)) is None


def test_a_fit_finds_what_is_there():
    true = np.array([1, 0.5, -0.5, 0, 0, 0, 0, 0.2])
    made, start = samples(200, true, noise=0.1)
    found = cross_fit(folds_of(made), start)
    assert np.corrcoef(found.coefficients, true)[0, 1] > 0.99
    assert found.penalty == min(PENALTIES)
    fresh, _ = samples(50, true, noise=0.1, seed=9)
    before = np.mean([agreement(sample, start) for sample in fresh])
    after = np.mean([agreement(sample, found.coefficients) for sample in fresh])
    assert after > before + 0.1
    assert after > 0.95


def test_noise_alone_stays_at_the_start():
    """What cannot be learned is not: the penalty on leaving the start wins."""
    true = np.array([0.3, 0, 0, 0, 0, 0, 0, 0])
    made, start = samples(12, true, noise=3.0)
    found = cross_fit(folds_of(made), start)
    assert found.penalty >= 10
    direction = found.coefficients / np.linalg.norm(found.coefficients)
    assert abs(direction[0]) > 0.95


def test_left_out_fits_did_not_see_the_fold():
    made, start = samples(40, np.array([1, 0.5, 0, 0, 0, 0, 0, 0]), noise=0.5)
    found = cross_fit(folds_of(made), start)
    others = [sample for number, sample in enumerate(made) if number % 4 != 2]
    rest = Moments(8)
    rest.add(others)
    expected = ridge(rest, start, [found.penalty])[0]
    np.testing.assert_allclose(found.left_out[2], expected, rtol=1e-3, atol=1e-4)


def test_ridge_is_the_minimum_of_what_it_says():
    made, start = samples(30, np.array([1, 0.5, 0, 0, 0, 0, 0, 0]), noise=0.5)
    sums = total(folds_of(made))
    scale = np.trace(sums.gram) / 8
    prior = start * (sums.cross @ start) / (start @ sums.gram @ start)

    def objective(coefficients):
        return sums.error(coefficients) + 3 * scale * np.sum((coefficients - prior) ** 2)

    best = ridge(sums, start, [3])[0]
    slope = sums.gram @ best - sums.cross + 3 * scale * (best - prior)
    assert np.abs(slope).max() < 1e-4 * np.abs(sums.cross).max()
    generator = np.random.default_rng(0)
    for _ in range(20):
        step = generator.normal(size=8) * 1e-2
        assert objective(best + step) > objective(best)


def test_the_error_is_the_sum_of_squares():
    made, start = samples(10, np.ones(8), noise=0.5)
    sums = total(folds_of(made))
    expected = sum(np.sum((one.columns @ start - one.scores) ** 2) for one in made)
    assert sums.error(start) == pytest.approx(expected, rel=1e-4)
    assert sums.photos == 10
    first = folds_of(made)[0]
    rest = sums.without(first)
    assert rest.photos == 7
    assert rest.error(start) == pytest.approx(sums.error(start) - first.error(start), rel=1e-3)
