import numpy as np
import pytest

from bench.measures.imputation import impute
from ptame_deploy.errors import CheckFailedError, InvalidInputError
from ptame_deploy.vision import import_torchvision

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def fill():
    """The published imputer, without noise."""
    pytest.importorskip("scipy")
    torch = pytest.importorskip("torch")
    import_torchvision()
    metrics = pytest.importorskip("pytorch_grad_cam.metrics.road")
    imputer = metrics.NoisyLinearImputer(noise=0.0)

    def run(image, removed):
        kept = torch.from_numpy((~removed).astype(np.float32))
        return imputer(torch.from_numpy(image), kept).numpy()

    return run


def photo(height=16, width=20, seed=0):
    """Smooth parts, sharp edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    parts = [np.sin(9 * x + 5 * y), np.sign(np.sin(20 * y)), x > 0.4]
    image = 0.5 + 0.3 * np.stack(parts) + 0.1 * rng.random((3, height, width))
    return np.clip(image, 0, 1).astype(np.float32)


def maps(height, width):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width]
    blob = np.exp(-((y - height * 0.4) ** 2 + (x - width * 0.6) ** 2) / (height * width / 8))
    noise = rng.random((height, width))
    return {"blob": blob, "noise": noise, "noisy blob": blob + 0.2 * noise}


def removed_by(saliency, percent):
    return saliency > np.percentile(saliency, 100 - percent)


@pytest.mark.parametrize("kind", ["blob", "noise", "noisy blob"])
@pytest.mark.parametrize("percent", [10, 50, 90])
def test_imputes_as_the_published_code(fill, kind, percent):
    for shape in ((64, 48), (37, 41)):
        removed = removed_by(maps(*shape)[kind], percent)
        image = photo(*shape)
        np.testing.assert_allclose(impute(image, removed), fill(image, removed), atol=1e-3)
        inverse = ~removed
        np.testing.assert_allclose(impute(image, inverse), fill(image, inverse), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 2), (1, 9), (12, 1), (2, 3), (7, 5), (40, 3)])
def test_imputes_photos_of_strange_shapes(fill, shape):
    image = photo(*shape)
    for seed in range(4):
        removed = np.random.default_rng(seed).random(shape) < 0.6
        removed[-1, -1] = False
        removed[0, 0] = True
        np.testing.assert_allclose(impute(image, removed), fill(image, removed), atol=1e-3)


def test_one_pixel_by_hand():
    image = np.random.default_rng(0).random((3, 3, 4)).astype(np.float32)

    def filled(row, column):
        removed = np.zeros((3, 4), bool)
        removed[row, column] = True
        found = impute(image, removed)
        np.testing.assert_array_equal(found[:, ~removed], image[:, ~removed])
        return found[:, row, column]

    i = image
    beside = i[:, 0, 1] + i[:, 2, 1] + i[:, 1, 0] + i[:, 1, 2]
    diagonal = i[:, 0, 0] + i[:, 0, 2] + i[:, 2, 0] + i[:, 2, 2]
    np.testing.assert_allclose(filled(1, 1), beside / 6 + diagonal / 12, atol=1e-3)
    # At the border the weights of those that exist sum to 1: 2, 2 and 1 twelfths become fifths.
    corner = (2 * i[:, 0, 1] + 2 * i[:, 1, 0] + i[:, 1, 1]) / 5
    np.testing.assert_allclose(filled(0, 0), corner, atol=1e-3)
    edge = 2 * (i[:, 2, 0] + i[:, 2, 2] + i[:, 1, 1]) + i[:, 1, 0] + i[:, 1, 2]
    np.testing.assert_allclose(filled(2, 1), edge / 8, atol=1e-3)


def test_removed_pixels_depend_on_each_other():
    line = np.array([[[0.0, 0.9, 0.9, 0.6]]], np.float32)
    found = impute(line, np.array([[False, True, True, False]]))
    np.testing.assert_allclose(found, [[[0.0, 0.2, 0.4, 0.6]]], atol=1e-3)


@pytest.mark.parametrize(("size", "percent"), [(224, 20), (224, 80), (260, 60)])
def test_a_slope_comes_back_through_large_and_small_holes(size, percent):
    # A linear photo is its neighbours' mean everywhere but at the border.
    y, x = np.mgrid[:size, :size] / (size - 1)
    image = np.stack([y, 0.7 * x + 0.3 * y, np.full_like(x, 0.4)]).astype(np.float32)
    for saliency in maps(size, size).values():
        removed = removed_by(saliency, percent)
        removed[[0, -1]] = removed[:, [0, -1]] = False
        np.testing.assert_allclose(impute(image, removed), image, atol=1e-3)


def test_a_slope_comes_back_where_few_scattered_pixels_are_missing():
    # Far fewer unknowns than points on the coarse grids: an unsafe smoother diverges here.
    y, x = np.mgrid[:224, :224] / 223
    image = np.stack([y, x, x * 0.5]).astype(np.float32)
    for share in (0.002, 0.01, 0.05):
        removed = np.random.default_rng(0).random((224, 224)) < share
        removed[[0, -1]] = removed[:, [0, -1]] = False
        np.testing.assert_allclose(impute(image, removed), image, atol=1e-3)


def test_one_pixel_left_fills_the_photo():
    image = photo(60, 50)
    removed = np.ones((60, 50), bool)
    removed[11, 37] = False
    expected = np.broadcast_to(image[:, 11, 37, None, None], image.shape)
    np.testing.assert_allclose(impute(image, removed), expected, atol=1e-3)


def test_black_stays_black():
    removed = removed_by(maps(30, 30)["blob"], 50)
    assert not impute(np.zeros((3, 30, 30), np.float32), removed).any()
    image = photo(30, 30)
    found = impute(image * np.array([1, 0, 1], np.float32)[:, None, None], removed)
    assert not found[1].any()
    np.testing.assert_allclose(found[[0, 2]], impute(image, removed)[[0, 2]], atol=1e-3)


def test_nothing_removed_is_a_copy():
    image = photo()
    found = impute(image, np.zeros((16, 20), bool))
    np.testing.assert_array_equal(found, image)
    assert found is not image


def test_what_cannot_be_imputed():
    with pytest.raises(InvalidInputError, match="All 320 pixels"):
        impute(photo(), np.ones((16, 20), bool))
    broken = photo()
    broken[0, 0, 0] = np.nan
    removed = np.zeros((16, 20), bool)
    removed[:8, 1:9] = True
    with pytest.raises(CheckFailedError, match="NaN"):
        impute(broken, removed)
