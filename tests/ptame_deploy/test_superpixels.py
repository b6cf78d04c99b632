import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab
from skimage.segmentation import slic
from torch.nn import functional

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.part_records import SuperpixelRecord
from ptame_deploy.superpixels import Superpixels, _averaging, fits, to_lab

pytestmark = pytest.mark.unit

SIZE = (32, 32)
RECORD = SuperpixelRecord(grid=4, kept=0.0, detail=1)


def two_halves(batch=1, edge=50):
    """Photos (B, 3, 128, 128): red on the left of a slanted edge, blue on the right."""
    images = torch.zeros(batch, 3, 128, 128)
    places = torch.arange(128)
    left = places[None, :] < edge + places[:, None] // 4
    images[:, 0] = left.float()
    images[:, 2] = (~left).float()
    return images, left


def shrunk(left):
    return functional.avg_pool2d(left[None, None].float(), 4)[0, 0]


def test_lab_is_scikit_images():
    image = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    image[0, :, 0] = 0.0
    image[0, :, 1] = 1.0
    expected = rgb2lab(image.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(to_lab(image).permute(0, 2, 3, 1).numpy(), expected, atol=0.02)


def test_a_pixels_shares_sum_up_to_one():
    image, _ = two_halves(2)
    regions = Superpixels(RECORD, SIZE).regions(image)
    assert regions.shape == (2, 32 * 32, 16)
    torch.testing.assert_close(regions.sum(2), torch.ones(2, 32 * 32))


def test_no_region_crosses_an_edge():
    """A map that is 1 on a slanted half stays 0 on the other, whatever cells the edge cuts."""
    image, left = two_halves()
    share = shrunk(left)
    pooled = Superpixels(RECORD, SIZE)(image, share[None, None])[0, 0]
    assert pooled[share == 1].min() > 0.97
    assert pooled[share == 0].max() < 0.03


def test_a_blob_across_an_edge_is_drawn_to_its_side():
    image, left = two_halves()
    share = shrunk(left)
    blob = torch.zeros(1, 1, *SIZE)
    blob[..., 12:20, 11:19] = 1  # more of it lies on the left
    pooled = Superpixels(RECORD, SIZE)(image, blob)[0, 0]
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[12:20, 11:19] = True
    assert blob[0, 0][(share == 1) & inside].sum() > blob[0, 0][(share == 0) & inside].sum()
    assert pooled[(share == 1) & inside].mean() > pooled[(share == 0) & inside].mean()


def test_regions_are_like_slics(real_photos):
    """Most pixels that SLIC puts together are together here, on a real photo."""
    size = (64, 64)
    photo = Image.open(real_photos["chelsea"]).convert("RGB").resize((256, 256))
    image = torch.from_numpy(np.asarray(photo, np.float32) / 255).permute(2, 0, 1)[None]
    regions = (
        Superpixels(SuperpixelRecord(grid=7, detail=1), size).regions(image)[0].argmax(1).numpy()
    )
    small = functional.adaptive_avg_pool2d(image, size)[0].permute(1, 2, 0).numpy()
    others = slic(small, n_segments=49, compactness=10, sigma=0, start_label=0).reshape(-1)
    generator = np.random.default_rng(0)
    one, two = generator.integers(0, regions.size, (2, 200_000))
    together = others[one] == others[two]
    assert (regions[one] == regions[two])[together].mean() > 0.5
    assert (regions[one] == regions[two])[~together].mean() < 0.03


def test_it_is_linear_and_its_matrix_symmetric():
    """What training relies on: masks are pooled in place of maps."""
    image, _ = two_halves()
    superpixels = Superpixels(SuperpixelRecord(grid=4, detail=1), SIZE)
    one, two = torch.rand(2, 1, 1, *SIZE, generator=torch.Generator().manual_seed(1)).double()
    regions = superpixels.regions(image)
    left = (superpixels.pool(regions, one) * two).sum()
    right = (superpixels.pool(regions, two) * one).sum()
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-4)
    both = superpixels.pool(regions, 2 * one - 3 * two)
    apart = 2 * superpixels.pool(regions, one) - 3 * superpixels.pool(regions, two)
    torch.testing.assert_close(both, apart, rtol=1e-4, atol=1e-4)


def test_photos_of_a_batch_have_regions_of_their_own():
    image, _ = two_halves()
    other = image.flip(3)
    maps = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    superpixels = Superpixels(RECORD, SIZE)
    together = superpixels(torch.cat([image, other]), maps)
    assert together.shape == (2, 3, *SIZE)
    torch.testing.assert_close(together[1:], superpixels(other, maps[1:]), rtol=1e-4, atol=1e-5)
    assert (together[1:] - superpixels(image, maps[1:])).abs().max() > 0.1


def test_detail_makes_maps_finer_than_the_taps():
    """A border that the taps cannot draw is drawn to a pixel of the finer map."""
    image, _ = two_halves()
    superpixels = Superpixels(SuperpixelRecord(grid=4, kept=0.0, detail=4), SIZE)
    assert superpixels.size == (128, 128)
    blurred = functional.avg_pool2d(image[:, :1], 4)
    blurred = functional.avg_pool2d(blurred, 9, stride=1, padding=4, count_include_pad=False)
    pooled = superpixels(image, blurred)[0, 0]
    enlarged = functional.interpolate(blurred, size=(128, 128), mode="bilinear")[0, 0]
    sharp = [functional.mse_loss(found, image[0, 0]) for found in (pooled, enlarged)]
    assert sharp[0] < sharp[1] / 2
    steps = (pooled[:, 1:] - pooled[:, :-1]).abs()
    assert steps.max() > 0.5  # from one pixel to the next


@pytest.mark.parametrize("detail", [1, 2, 3])
def test_detail_asks_the_same_of_a_flat_map(detail):
    superpixels = Superpixels(SuperpixelRecord(grid=4, kept=0.5, detail=detail), SIZE)
    image = torch.rand(1, 3, 100, 90, generator=torch.Generator().manual_seed(0))
    pooled = superpixels(image, torch.full((1, 2, *SIZE), 3.0))
    assert pooled.shape == (1, 2, 32 * detail, 32 * detail)
    torch.testing.assert_close(pooled, torch.full_like(pooled, 4.5), rtol=1e-4, atol=1e-4)


def test_a_share_of_the_map_is_kept():
    image, _ = two_halves()
    maps = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    none, some = (
        Superpixels(SuperpixelRecord(grid=4, kept=kept, detail=1), SIZE)(image, maps)
        for kept in (0.0, 0.3)
    )
    torch.testing.assert_close(some - none, 0.3 * maps, rtol=1e-4, atol=1e-5)


def test_photos_of_other_sizes_and_flat_ones_are_taken():
    superpixels = Superpixels(RECORD, (20, 28))
    maps = torch.rand(1, 1, 20, 28)
    for image in (torch.rand(1, 3, 97, 33), torch.zeros(1, 3, 80, 112), torch.ones(1, 3, 80, 112)):
        assert torch.isfinite(superpixels(image, maps)).all()


def test_maps_that_are_too_coarse_are_refused():
    with pytest.raises(InvalidInputError, match=r"14x15 are too coarse for 4x4 .*16 pixels"):
        Superpixels(RECORD, (14, 15))


def soft_slic(image, record, tap_size):
    """The method's equations with NumPy and loops; sizes that the taps' pixels divide evenly."""
    height, width = (side * record.detail for side in tap_size)
    pixels = image.shape[1] // height
    small = image.reshape(3, height, pixels, width, pixels).mean((2, 4))
    colour = rgb2lab(small.transpose(1, 2, 0))
    colour = (colour - colour.mean((0, 1))) / record.compactness
    rows, columns = (
        ((np.arange(side) + 0.5) / side - 0.5) * record.grid for side in (height, width)
    )
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    fine = np.concatenate([colour, places], axis=2) * (2 / record.softness) ** 0.5
    detail = record.detail
    coarse = fine.reshape(tap_size[0], detail, tap_size[1], detail, 5).mean((1, 3))
    centres = np.stack(
        [
            cell.mean((0, 1))
            for band in np.split(coarse, record.grid, axis=0)
            for cell in np.split(band, record.grid, axis=1)
        ]
    )

    def shares(points):
        distances = ((points[:, None] - centres) ** 2).sum(2)
        weights = np.exp(-distances / 2)
        return weights / weights.sum(1, keepdims=True)

    for _ in range(record.iterations - 1):
        belonging = shares(coarse.reshape(-1, 5))
        centres = belonging.T @ coarse.reshape(-1, 5) / belonging.sum(0)[:, None]
    return shares(fine.reshape(-1, 5))


@pytest.mark.parametrize(
    ("detail", "iterations", "softness", "scale"),
    [(1, 1, 0.5, 4), (1, 4, 0.3, 4), (1, 2, 0.3, 8), (2, 3, 2, 4), (4, 2, 1, 4), (8, 2, 0.3, 8)],
)
def test_regions_are_the_methods(real_photos, detail, iterations, softness, scale):
    """Soft k-means in Lab and place from the grid's cells, on a photo that is no square."""
    size = (12, 18)
    record = SuperpixelRecord(
        grid=3, compactness=20, softness=softness, iterations=iterations, detail=detail
    )
    photo = Image.open(real_photos["chelsea"]).convert("RGB").resize((18 * scale, 12 * scale))
    image = np.asarray(photo, np.float64).transpose(2, 0, 1) / 255
    found = Superpixels(record, size).regions(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(found, soft_slic(image, record, size), atol=2e-3)


def test_what_a_region_averages(real_photos):
    """Each pixel gets its regions' means by its shares, and the part that is kept of its own."""
    record = SuperpixelRecord(grid=3, kept=0.25, detail=1)
    superpixels = Superpixels(record, (12, 18))
    generator = torch.Generator().manual_seed(0)
    regions = superpixels.regions(torch.rand(1, 3, 48, 72, generator=generator))
    maps = torch.rand(1, 2, 12, 18, generator=generator)
    shares = regions[0].double().numpy()
    flat = maps[0].flatten(1).double().numpy()
    means = (flat @ shares) / shares.sum(0)
    expected = means @ shares.T + 0.25 * flat
    found = superpixels.pool(regions, maps)[0].flatten(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(("cells", "side"), [(4, 10), (3, 7)])
def test_cells_that_cut_pixels_share_them(cells, side):
    """Of ten pixels, four cells have two and a half each."""
    wide = side / cells
    expected = [
        [max(0, min(x + 1, wide * (cell + 1)) - max(x, wide * cell)) / wide for x in range(side)]
        for cell in range(cells)
    ]
    np.testing.assert_allclose(_averaging(cells, side, torch.empty(0)).numpy(), expected, atol=1e-6)


def test_maps_are_enlarged_bilinearly():
    superpixels = Superpixels(SuperpixelRecord(grid=4, detail=3), (16, 20))
    maps = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(maps, size=(48, 60), mode="bilinear", align_corners=False)
    torch.testing.assert_close(superpixels.enlarged(maps), expected)
    assert Superpixels(RECORD, SIZE).enlarged(maps) is maps
    assert not superpixels.state_dict()  # nothing of it is a weight


def test_maps_that_are_just_fine_enough_are_taken():
    assert fits(RECORD, (16, 99))
    assert not fits(RECORD, (99, 15))
