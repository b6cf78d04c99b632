import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab
from skimage.segmentation import slic
from torch.nn import functional

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.part_records import SuperpixelRecord
from ptame_deploy.superpixels import Superpixels, to_lab

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
    with pytest.raises(InvalidInputError, match=r"14x14 are too coarse for 4x4 .*16 pixels"):
        Superpixels(RECORD, (14, 14))
