import numpy as np
import pytest
from PIL import Image

from ptame_deploy.backbones import preprocessing_of
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.preprocessing import Preprocessing, to_float
from ptame_deploy.vision import import_torchvision

pytestmark = pytest.mark.unit


def noise_photo(width, height):
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(500, 333), (333, 500), (224, 224), (301, 299), (60, 900)])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (292, 260), (64, 64)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equals_torchvisions_transforms_to_the_bit(size, resize, crop, interpolation):
    import_torchvision()
    from torchvision import transforms

    photo = noise_photo(*size)
    reference = transforms.Compose(
        [
            transforms.Resize(resize, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(crop),
        ]
    )
    ours = Preprocessing(input_size=(crop, crop), resize=resize, interpolation=interpolation)
    np.testing.assert_array_equal(ours.apply(photo), np.asarray(reference(photo)))


def test_crop_larger_than_the_resized_photo_is_padded_black():
    ours = Preprocessing(input_size=(64, 64), resize=32)
    pixels = ours.apply(Image.new("RGB", (100, 100), "white"))
    assert pixels.shape == (64, 64, 3)
    assert pixels[0].max() == 0
    assert pixels[32, 32].min() == 255


def test_squash_ignores_the_shape():
    ours = Preprocessing(input_size=(50, 50), resize=50, squash=True)
    left_half_white = Image.new("RGB", (400, 100), "black")
    left_half_white.paste("white", (0, 0, 200, 100))
    pixels = ours.apply(left_half_white)
    assert pixels[:, :20].min() == 255
    assert pixels[:, 30:].max() == 0
    assert ours.crop_box(400, 100) == (0, 0, 400, 100)


def test_a_photo_of_one_pixels_width_does_not_fill_the_memory():
    with pytest.raises(InvalidInputError, match="1x5000000 is too long and narrow"):
        Preprocessing().apply(Image.new("RGB", (1, 5_000_000)))


def test_crop_box_is_where_the_crop_comes_from():
    ours = Preprocessing(input_size=(100, 100), resize=100)
    left, top, right, bottom = ours.crop_box(800, 400)  # resized to 200 x 100
    assert (left, top, right, bottom) == (200, 0, 600, 400)


def test_to_float_layout_and_range():
    images = np.zeros((2, 3, 4, 3), dtype=np.uint8)
    images[1, 2, 3, 0] = 255
    images[0, 0, 0, 2] = 51
    got = to_float(images)
    assert got.shape == (2, 3, 3, 4)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert got[1, 0, 2, 3] == 1
    assert got[0, 2, 0, 0] == np.float32(0.2)
    assert got.sum() == np.float32(1.2)


def test_what_is_wrong_is_said_in_our_own_words():
    with pytest.raises(InvalidInputError) as raised:
        preprocessing_of({"input_size": (64, 64), "resize": 72, "std": (0, 0, 0)})
    said = str(raised.value)
    assert said.startswith("Preprocessing is not usable: std must be positive")
    assert "Value error" not in said
    assert "{" not in said


def test_values_that_cannot_be_are_named():
    with pytest.raises(InvalidInputError, match=r"resize: .* \(got -5\)\.$"):
        preprocessing_of({"input_size": (64, 64), "resize": -5})


def test_what_imagenets_classifiers_are_used_to():
    """torchvision's presets: 256 then 224, the mean and standard deviation of ImageNet."""
    import_torchvision()
    from torchvision.transforms._presets import ImageClassification

    published, ours = ImageClassification(crop_size=224), Preprocessing()
    assert (ours.input_size, ours.resize) == ((224, 224), 256)
    assert [ours.resize] == published.resize_size
    assert list(ours.mean) == published.mean
    assert list(ours.std) == published.std
    assert Preprocessing.usual((224, 224)) == ours
    wide = Preprocessing.usual((192, 384))  # 7/8 of the shorter side is seen
    assert (wide.input_size, wide.resize) == ((192, 384), 219)
    assert Preprocessing.usual((221, 221)).resize == 253  # 252.6


def test_another_input_size_sees_as_much_of_the_photo():
    ours = Preprocessing(input_size=(224, 448), resize=256, mean=(0.1, 0.2, 0.3))
    larger = ours.at((336, 672))
    assert (larger.input_size, larger.resize) == ((336, 672), 384)
    assert larger.mean == ours.mean
    assert ours.at((112, 500)).resize == 128
    assert ours.not_normalised() == Preprocessing(
        input_size=(224, 448), resize=256, mean=(0, 0, 0), std=(1, 1, 1)
    )


def test_crop_box_of_a_photo_that_does_not_divide():
    ours = Preprocessing(input_size=(89, 99), resize=128)
    assert ours.resized_size(400, 300) == (170, 128)
    left, top, right, bottom = ours.crop_box(400, 300)
    across, down = 400 / 170, 300 / 128
    assert (left, right) == (36 * across, 135 * across)  # (170 - 99) / 2, halves to even
    assert (top, bottom) == (20 * down, 109 * down)
    assert ours.resized_size(300, 400) == (128, 170)
    assert ours.resized_size(77, 77) == (128, 128)


def test_the_longest_photo_is_just_taken():
    ours = Preprocessing(input_size=(1, 1), resize=100)
    assert ours.resized_size(1, 10_000) == (100, 1_000_000)  # a hundred million pixels
    with pytest.raises(InvalidInputError, match="1x10001 is too long and narrow"):
        ours.resized_size(1, 10_001)


@pytest.mark.parametrize("std", [(0, 1, 1), (1, -0.5, 1)])
def test_a_standard_deviation_is_positive(std):
    with pytest.raises(ValueError, match="std must be positive"):
        Preprocessing(std=std)


def test_it_says_how_photos_are_resized():
    assert "shorter side to 256 (bilinear), centre crop 224x224" in str(Preprocessing())
    assert "both sides to 256" in str(Preprocessing(squash=True))


def test_sizes_end_somewhere():
    assert Preprocessing(resize=16_384).resize == 16_384
    with pytest.raises(ValueError, match="16384"):
        Preprocessing(resize=16_385)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Preprocessing(resize=0)
    with pytest.raises(ValueError, match="finite"):
        Preprocessing(mean=(0, 0, float("nan")))
    with pytest.raises(ValueError, match="frozen"):
        Preprocessing().resize = 3
