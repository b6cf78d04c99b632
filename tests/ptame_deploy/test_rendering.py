import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from ptame_deploy.colormaps import COLOR_MAPS, color_table
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.rendering import Panel, crop_seen, overlay, render

pytestmark = pytest.mark.unit


def test_colour_maps_match_the_originals():
    for name in COLOR_MAPS:
        original = mpl.colormaps[name](np.arange(256))[:, :3] * 255
        difference = np.abs(color_table(name) - original).max()
        assert difference < 4, name


@pytest.mark.parametrize("name", ["inferno", "viridis"])
def test_perceptual_maps_grow_lighter(name):
    luminance = color_table(name) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -1).all()
    assert luminance[-1] > luminance[0] + 150


def test_overlay_draws_rgb_where_the_map_is():
    seen = Image.new("RGB", (80, 80), "black")
    saliency = np.zeros((8, 8), np.float32)
    saliency[:, 4:] = 1
    drawn = np.asarray(overlay(seen, saliency, colormap="inferno", opacity=1.0))
    np.testing.assert_array_equal(drawn[40, 5], color_table("inferno")[0])
    np.testing.assert_array_equal(drawn[40, 75], color_table("inferno")[255])
    assert drawn[40, 75, 0] > drawn[40, 75, 2]  # inferno ends yellow: not BGR for RGB


def test_weak_maps_stay_weak():
    seen = Image.new("RGB", (80, 80), "black")
    drawn = np.asarray(overlay(seen, np.full((8, 8), 0.1, np.float32), opacity=1.0))
    np.testing.assert_array_equal(drawn[0, 0], color_table("inferno")[26])


def test_crop_shows_what_the_classifier_saw():
    photo = Image.new("RGB", (300, 100), "red")
    photo.paste("blue", (100, 0, 200, 100))
    seen = crop_seen(photo, Preprocessing(input_size=(50, 50), resize=50), height=120)
    assert seen.size == (120, 120)
    colours = {colour for _, colour in seen.getcolors(maxcolors=100_000)}
    assert (0, 0, 255) in colours
    assert (255, 0, 0) not in colours


def test_picture_has_a_panel_a_class_and_room_for_cautions():
    seen = Image.new("RGB", (100, 100), "grey")
    panels = [
        Panel(f"a rather long class name {i}  12.3%", np.eye(8, dtype=np.float32)) for i in range(3)
    ]
    one, three = render(seen, panels[:1]), render(seen, panels)
    assert three.width - one.width == 2 * (100 + 14)
    assert render(seen, panels, cautions=["weights are RANDOM"]).height > three.height
    assert three.mode == "RGB"


def test_long_names_keep_their_probability():
    from PIL import ImageDraw

    from ptame_deploy.rendering import _shortened

    draw = ImageDraw.Draw(Image.new("RGB", (10, 10)))
    text = _shortened(draw, "a very long class name that cannot fit  99.9%", 150)
    assert text.endswith("…  99.9%")
    assert text.startswith("a very")


def test_odd_titles_are_drawn():
    """Foreign class names: over the panel's width, on several lines, with half characters."""
    seen = Image.new("RGB", (120, 120))
    for name in ("x" * 100_000, "two\nlines", "half \ud800", "\x00", "", "猫"):
        picture = render(seen, [Panel(f"{name}  50.0%", np.zeros((4, 4), np.float32))])
        assert picture.width < 400


def test_a_title_is_cut_to_its_panel_and_keeps_the_probability():
    seen = Image.new("RGB", (120, 120), "white")
    flat = np.zeros((4, 4), np.float32)
    long, longer = (render(seen, [Panel("w" * n + "  50.0%", flat)]) for n in (40, 400))
    assert list(long.getdata()) == list(longer.getdata())
    other = render(seen, [Panel("w" * 40 + "  51.0%", flat)])
    assert list(long.getdata()) != list(other.getdata())


def test_what_was_seen_of_a_tiny_photo_is_exact():
    """A photo of 4 x 2 pixels cropped to its middle: half a pixel must not be rounded away."""
    photo = Image.new("RGB", (4, 2))
    photo.putdata([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)] * 2)
    seen = crop_seen(photo, Preprocessing(input_size=(224, 224), resize=224), height=200)
    assert seen.size == (200, 200)
    assert seen.getpixel((30, 100))[0] > 200
    assert seen.getpixel((170, 100))[1] > 200
    inner = crop_seen(photo, Preprocessing(input_size=(112, 112), resize=224), height=200)
    assert inner.getpixel((20, 100))[0] > inner.getpixel((20, 100))[1]
    assert inner.getpixel((180, 100))[1] > inner.getpixel((180, 100))[0]


def test_a_crop_far_over_the_border_stays_small():
    seen = crop_seen(Image.new("RGB", (50, 40), "white"), Preprocessing(
        input_size=(16_000, 16_000), resize=1), height=100)  # fmt: skip
    assert seen.size == (100, 100)
    assert seen.getpixel((50, 50)) == (255, 255, 255)
    assert seen.getpixel((0, 0)) == (0, 0, 0)
