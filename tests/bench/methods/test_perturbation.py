import builtins

import numpy as np
import pytest
import torch
from judges import PatchRuntime, inside

from bench.measures.judge import Judge
from bench.methods.method import Method, Unavailable
from bench.methods.perturbation import PerturbationSettings, perturbation_methods, rise

pytestmark = pytest.mark.unit

SETTINGS = PerturbationSettings(rise_masks=300, samples=120, segments=16)
NAMES = ["rise", "occlusion", "lime", "kernel-shap"]


def judge_of(*, uint8=False, batch=8):
    return Judge(PatchRuntime(), batch=batch, takes_uint8=uint8)


def made(name, seed=0, judge=None, settings=SETTINGS):
    rows = perturbation_methods(judge or judge_of(), "identity", "fp32", seed, settings)
    assert [row.name for row in rows] == NAMES
    return next(row for row in rows if row.name == name)


@pytest.fixture(scope="module")
def photos():
    """4 x 4 squares of different colours, so that superpixels have borders to follow."""
    coarse = np.random.default_rng(1).random((3, 3, 4, 4)) * 0.6 + 0.4
    return coarse.repeat(16, axis=2).repeat(16, axis=3).astype(np.float32)


def peak(one):
    return np.unravel_index(one.argmax(), one.shape)


def share(one, index):
    """Of the positive evidence within the square that a class looks at."""
    positive = np.maximum(one - np.median(one), 0)
    return positive[PatchRuntime.squares[index]].sum() / positive.sum()


@pytest.mark.parametrize("uint8", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_map_peaks_where_the_classifier_looks(name, uint8, photos):
    method = made(name, judge=judge_of(uint8=uint8))
    maps = method.explain(photos[:2], np.array([1, 2]))
    assert maps.shape == (2, 64, 64)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    for index, one in zip((1, 2), maps, strict=True):
        assert inside(index, peak(one))
        assert share(one, index) > 4 * 16 * 16 / 64**2  # evenly spread it would have a quarter
        assert one[PatchRuntime.squares[index]].mean() > one[PatchRuntime.squares[3 - index]].mean()


@pytest.mark.parametrize("name", NAMES)
def test_alone_as_in_a_batch_and_in_any_order(name, photos):
    classes = np.array([1, 2, 1])
    method = made(name)
    maps = method.explain(photos, classes)
    for row in range(3):
        alone = method.explain(photos[row : row + 1], classes[row : row + 1])[0]
        np.testing.assert_allclose(alone, maps[row], rtol=1e-5, atol=1e-6)
    turned = method.explain(photos[[2, 0]], classes[[2, 0]])
    np.testing.assert_allclose(turned, maps[[2, 0]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["rise", "lime", "kernel-shap"])
def test_the_seed_counts_and_nothing_else(name, photos):
    classes = np.array([1, 2, 1])
    maps = made(name).explain(photos, classes)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    np.testing.assert_array_equal(made(name).explain(photos, classes), maps)
    other = made(name, seed=1).explain(photos, classes)
    for row in range(3):
        assert not np.allclose(other[row], maps[row], rtol=1e-3)


@pytest.mark.parametrize("name", ["lime", "kernel-shap"])
def test_each_photo_has_its_own_samples(name, photos):
    """The same class and nearly the same photo: only their samples tell the maps apart."""
    twin = photos[:1].copy()
    twin[0, 0, 0, 0] += 1 / 255
    maps = made(name).explain(np.concatenate([photos[:1], twin]), np.array([1, 1]))
    assert not np.array_equal(maps[0], maps[1])


@pytest.mark.parametrize("name", NAMES)
def test_global_random_states_are_left_alone(name, photos):
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()  # noqa: NPY002
    made(name).explain(photos[:1], np.array([1]))
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(after[1], numpy_state[1])
    assert after[2:] == numpy_state[2:]


@pytest.mark.parametrize("name", NAMES)
def test_the_judge_sees_about_as_many_images_as_the_cost_tells(name, photos):
    """One photo at a time, as a costly method runs: what fills up a batch is paid for as well."""
    judge = judge_of()
    method = made(name, judge=judge)
    method.explain(photos[:1], np.array([1]))
    assert judge.runtime.asked <= 1.05 * method.cost.forward + 2 * judge.batch
    assert judge.runtime.asked >= 0.8 * method.cost.forward


@pytest.mark.parametrize("name", NAMES)
def test_photos_stay_as_they_are(name, photos):
    before = photos.copy()
    made(name).explain(photos, np.array([1, 2, 1]))
    np.testing.assert_array_equal(photos, before)


def test_occlusion_is_the_loss_of_probability(photos):
    """By hand: each pixel gets the mean loss of the windows that hide it."""
    judge = judge_of()
    found = made("occlusion", judge=judge).explain(photos[:1], np.array([1]))[0]
    whole = judge.classify(photos[:1])[0, 1]
    total, count = np.zeros((64, 64)), np.zeros((64, 64))
    starts = [min(start, 63) for start in range(0, 60, 5)]
    for top in starts:
        for left in starts:
            hidden = photos[:1].copy()
            hidden[:, :, top : top + 10, left : left + 10] = 0
            part = slice(top, top + 10), slice(left, left + 10)
            total[part] += whole - judge.classify(hidden)[0, 1]
            count[part] += 1
    np.testing.assert_allclose(found, total / count, atol=1e-5)


def test_rise_alone_is_the_row_rise(photos):
    judge = judge_of()
    method = rise(judge, SETTINGS, 4)
    assert (method.settings.masks, method.settings.batch, method.settings.seed) == (300, 8, 4)
    index = np.array([1])
    np.testing.assert_array_equal(
        method(photos[:1], index), made("rise", seed=4).explain(photos[:1], index)
    )


def test_what_every_row_tells():
    for name in NAMES:
        row = made(name, seed=6)
        assert isinstance(row, Method)
        assert (row.runtime, row.precision, row.identity) == ("by hand", "fp32", "identity")
        assert row.classifier_cascade is None
        assert row.settings.get("seed", 6) == 6
    assert made("rise").cost.forward == 300
    assert made("lime").cost.forward == 120


@pytest.mark.parametrize(
    ("package", "missing"),
    [("captum", ["occlusion", "lime", "kernel-shap"]), ("skimage", ["lime", "kernel-shap"])],
)
def test_without_a_package_its_methods_give_the_reason(monkeypatch, package, missing):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == package:
            message = f"no {package} here"
            raise ImportError(message)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    rows = perturbation_methods(judge_of(), "identity", "fp32", 0, SETTINGS)
    assert [row.name for row in rows] == NAMES
    assert [row.name for row in rows if isinstance(row, Unavailable)] == missing
    for row in rows:
        if row.name in missing:
            assert f"no {package} here" in row.reason
            assert "pip install" in row.reason
