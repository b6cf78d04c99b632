"""What helps people to read a map: outlines, masked confidence, the gallery, notebooks."""

import csv
import html
import re

import numpy as np
import pytest
from PIL import Image

from engines.gallery import gallery_page
from engines.masked_confidence import masked_confidence
from ptame_deploy import Explainer
from ptame_deploy.cli import run
from ptame_deploy.faithfulness import masks
from ptame_deploy.heads import probabilities
from ptame_deploy.rendering import Panel, outline, render

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def explainer(tiny_artifact):
    return Explainer.load(tiny_artifact)


def test_masked_confidence_is_the_classifiers_on_the_masked_photo(explainer, real_photos):
    photos = [real_photos["chelsea"], real_photos["coffee"]]
    prepared = np.stack([explainer.prepare(photo) for photo in photos])
    explanation = explainer.explain_prepared(prepared)
    found = masked_confidence(explainer, prepared, explanation, 30)
    assert found.shape == (2, 2, 2)
    for photo, rank in ((0, 0), (1, 1)):
        (kept,) = masks(
            explanation.saliency[photo, rank][None], prepared.shape[1:3], 30, matched=True
        )
        assert kept.mean() == pytest.approx(0.3, abs=0.001)
        for side, mask in enumerate((kept, 1 - kept)):
            masked = (prepared[photo] * mask[..., None]).astype(np.uint8)
            logits = explainer.explain_prepared(masked[None]).logits
            index = explanation.class_index[photo, rank]
            expected = probabilities(logits)[0, index]
            assert found[photo, rank, side] == pytest.approx(expected, abs=1e-5)


def test_pictures_tables_and_page_have_it(tiny_artifact, real_photos, tmp_path):
    photos = [str(real_photos[name]) for name in ("chelsea", "coffee")]
    command = ["explain", str(tiny_artifact), *photos, "--keep", "20", "--page"]
    assert run([*command, "-o", str(tmp_path)]) == 0
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("kept", "hidden"))
    plain = tmp_path / "plain"
    assert run(["explain", str(tiny_artifact), *photos, "-o", str(plain)]) == 0
    with Image.open(tmp_path / "chelsea.png") as noted, Image.open(plain / "chelsea.png") as other:
        assert noted.height > other.height  # a line more, below the maps
    assert '"kept": null' in (plain / "results.json").read_text()
    page = (tmp_path / "index.html").read_text()
    assert re.findall(r'<img [^>]*src="([^"]+)"', page) == ["chelsea.png", "coffee.png"]
    assert "http" not in page.replace("http-equiv", "")
    assert not (plain / "index.html").exists()


def test_the_outline_runs_around_the_best_pixels():
    saliency = np.zeros((40, 40), np.float32)
    saliency[10:20, 10:30] = np.linspace(0.5, 1, 200).reshape(10, 20)
    picture = outline(Image.new("RGB", (40, 40), "red"), saliency, 10)  # 160 of those 200 pixels
    drawn = np.asarray(picture)
    red = (drawn == (255, 0, 0)).all(axis=2)
    assert red[:8].all()
    assert red[:, :8].all()
    assert red[14:18, 13:27].all()  # within
    assert (drawn == 0).all(axis=2).any()
    assert (drawn == 255).all(axis=2).any()


def test_notes_take_room_only_where_there_are_any():
    seen, saliency = Image.new("RGB", (60, 60)), np.zeros((4, 4), np.float32)
    plain = render(seen, [Panel("a", saliency)])
    noted = render(seen, [Panel("a", saliency, note="only these: 3 %")])
    assert noted.height > plain.height
    assert noted.width == plain.width


def test_a_notebook_shows_photos_and_maps(explainer, real_photos):
    shown = explainer([real_photos["chelsea"], np.zeros((50, 60, 3), np.uint8)])._repr_html_()
    headings = re.findall(r'alt="([^"]*)"', shown)
    assert len(headings) == shown.count("data:image/png;base64,") == 2
    assert html.unescape(headings[0]).startswith("class ")
    many = explainer([real_photos["chelsea"]] * 10)._repr_html_()
    assert many.count("<img") == 8
    assert "and 2 more photos" in many
    prepared = np.stack([explainer.prepare(real_photos["chelsea"])])
    assert explainer.explain_prepared(prepared)._repr_html_() is None  # no photos to show


def test_names_cannot_break_the_page():
    from engines.results_table import Row

    name = '"><script>alert(1)</script>'
    row = Row(name, 0, 1, name, 0.5, None, f"{name} #1.png", None)
    page = gallery_page(name, [row], [name], [name])
    assert "<script>" not in page
    assert "%22%3E%3Cscript%3Ealert%281%29%3C/script%3E%20%231.png" in page
