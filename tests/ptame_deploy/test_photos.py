import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ptame_deploy import photos
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import (
    UnreadablePhotoError,
    count_pixels,
    find_photos,
    open_photo,
    printable,
)

pytestmark = pytest.mark.unit


def gradient(width=40, height=20):
    x = np.linspace(0, 255, width)[None, :] * np.ones((height, 1))
    y = np.linspace(0, 255, height)[:, None] * np.ones((1, width))
    return np.stack([x, y, 255 - x], axis=2).round().astype(np.uint8)


def opened(image, path, **options):
    image.save(path, **options)
    photo = open_photo(path)
    assert photo.mode == "RGB"
    return np.asarray(photo)


def test_plain_rgb(tmp_path):
    np.testing.assert_array_equal(
        opened(Image.fromarray(gradient()), tmp_path / "a.png"), gradient()
    )


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees
    got = opened(Image.fromarray(gradient()), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(got, np.rot90(gradient(), -1))


def test_greyscale(tmp_path):
    grey = gradient()[:, :, 0]
    got = opened(Image.fromarray(grey), tmp_path / "a.png")
    np.testing.assert_array_equal(got, np.repeat(grey[:, :, None], 3, axis=2))


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    grey = gradient()[:, :, 0].astype(np.uint16) * 257
    for name in ("a.png", "a.tif"):
        got = opened(Image.fromarray(grey), tmp_path / name)
        np.testing.assert_array_equal(got[:, :, 1], gradient()[:, :, 0])


def test_tall_images_are_scaled_as_small_ones(tmp_path):
    grey = np.arange(700 * 3, dtype=np.uint16).reshape(700, 3) * 31
    got = opened(Image.fromarray(grey), tmp_path / "a.png")
    np.testing.assert_array_equal(got[:, :, 0], np.round(grey / 257.0).astype(np.uint8))


def test_pixels_are_counted_before_they_are_decoded(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(gradient()).save(path)
    assert count_pixels(path.read_bytes()[:60]) == 40 * 20
    assert count_pixels(b"no photo") == 0


def test_float_images_have_a_defined_scale(tmp_path):
    grey = gradient()[:, :, 0].astype(np.float32)
    for scale in (1 / 255, 1.0):
        got = opened(Image.fromarray(grey * np.float32(scale)), tmp_path / "a.tif")
        assert np.abs(got[:, :, 0].astype(int) - gradient()[:, :, 0]).max() <= 1
    Image.fromarray(grey - 300).save(tmp_path / "b.tif")
    with pytest.raises(UnreadablePhotoError, match="no defined brightness"):
        open_photo(tmp_path / "b.tif")


def test_alpha_is_laid_on_white(tmp_path):
    rgba = np.dstack([gradient(), np.zeros((20, 40), np.uint8)])
    rgba[:, :20, 3] = 255
    got = opened(Image.fromarray(rgba), tmp_path / "a.png")
    np.testing.assert_array_equal(got[:, :20], gradient()[:, :20])
    assert got[:, 20:].min() == 255


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), 1)
    got = opened(image, tmp_path / "a.png", transparency=0)
    assert got[0, 0].tolist() == [0, 255, 0]
    assert got[3, 3].tolist() == [255, 255, 255]


def test_cmyk(tmp_path):
    cmyk = Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # all cyan ink
    got = opened(cmyk, tmp_path / "a.jpg", quality=100)
    assert got[4, 4, 0] < 10
    assert got[4, 4, 1:].min() > 240


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    for name in ("a.gif", "a.webp", "a.png"):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, lossless=True)
        got = np.asarray(open_photo(path))
        assert got[4, 4].tolist() == [255, 0, 0], name


def test_one_bit(tmp_path):
    image = Image.new("1", (4, 4), 1)
    image.putpixel((1, 1), 0)
    got = opened(image, tmp_path / "a.png")
    assert got[1, 1].tolist() == [0, 0, 0]
    assert got[0, 0].tolist() == [255, 255, 255]


def test_text_is_not_an_image(tmp_path):
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(UnreadablePhotoError, match=r"a\.jpg: not an image"):
        open_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_truncated_files(tmp_path, name):
    rng = np.random.default_rng(0)
    path = tmp_path / name
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadablePhotoError, match=name):
        open_photo(path)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bombs_are_refused_before_decoding(tmp_path, side):
    """A PNG that claims a huge size; decoding it would take gigabytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    with pytest.raises(UnreadablePhotoError, match="over the limit"):
        open_photo(tmp_path / "bomb.png")


def test_pipes_are_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadablePhotoError, match="not a regular file"):
        open_photo(tmp_path / "pipe.jpg")


def test_broken_exif_is_no_reason_to_refuse(tmp_path, monkeypatch):
    Image.fromarray(gradient()).save(tmp_path / "a.png")

    def broken(image):
        message = "bad offset"
        raise struct.error(message)

    monkeypatch.setattr(photos.ImageOps, "exif_transpose", broken)
    assert open_photo(tmp_path / "a.png").size == (40, 20)


def test_finding(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.PNG", "a.jpg", "notes.txt", "sub/c.webp"):
        (tmp_path / name).write_bytes(b"")
    found = find_photos([tmp_path, tmp_path / "a.jpg", tmp_path / "notes.txt"])
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["a.jpg", "b.PNG", "sub/c.webp", "notes.txt"]  # asked for by name: tried


def test_nothing_to_find(tmp_path):
    with pytest.raises(InvalidInputError, match="No photo found"):
        find_photos([tmp_path])
    with pytest.raises(InvalidInputError, match="does not exist"):
        find_photos([tmp_path / "nothing"])


def test_names_of_any_bytes_can_be_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    assert printable(tmp_path / name).endswith("caf\\xe9.png")
    assert printable("café") == "café"


def test_a_photo_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(UnreadablePhotoError, match=r"none\.png: does not exist$"):
        open_photo(tmp_path / "none.png")
