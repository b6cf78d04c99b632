import re

import evaluations
import pytest
from PIL import Image

from bench.evaluation.report import album as module
from bench.evaluation.report.album import Album, gallery_measure
from bench.evaluation.results import GalleryEntry

pytestmark = pytest.mark.unit


def shown(folder, left=10**6, **changes):
    fields = {
        "photo": "photo.jpg",
        "choice": "best",
        "title": "tabby cat, 93 %",
        "score": 70.66,
        "picture": "photo.png",
        "overlays": {"grad-cam": "cam.png", "gone": "cam.png"},
    }
    made = evaluations.evaluation(gallery=[GalleryEntry(**{**fields, **changes})])
    return Album(folder, left).shown(made)[0]


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "evaluation"
    place.mkdir()
    for name in ("photo.png", "cam.png"):
        Image.new("RGB", (8, 8), "red").save(place / name)
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "secret.png")
    return place


@pytest.mark.parametrize(("kind", "mime"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
def test_a_picture_is_known_by_its_content(folder, kind, mime):
    Image.new("RGB", (8, 8), "red").save(folder / "any.png", format=kind)
    assert shown(folder, picture="any.png").pictures[0].source.startswith(f"data:image/{mime};")


def test_pictures_have_the_methods_labels(folder):
    pictures = shown(folder).pictures
    assert [each.caption for each in pictures] == ["Photo", "Grad-CAM", "gone"]
    assert pictures[1].alt == "Map of Grad-CAM over the photo"


@pytest.mark.parametrize(
    ("name", "note"),
    [("../secret.png", "outside"), ("/etc/hostname", "outside"), ("link.png", "outside"),
     ("gone.png", "missing"), (".", "missing"), ("text.png", "neither PNG"),
     ("a\x00b", "cannot be read"), ("x" * 5000, "not shown"), ("big.png", "over")],
)  # fmt: skip
def test_what_is_no_picture_of_the_folder_is_a_note(folder, name, note, monkeypatch):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "text.png").write_text("<svg onload='alert(1)'/>")
    (folder / "big.png").write_bytes((folder / "photo.png").read_bytes() + bytes(500))
    monkeypatch.setattr(module, "MAX_PICTURE_BYTES", 400)
    picture = shown(folder, picture=name).pictures[0]
    assert picture.source is None
    assert re.search(f"not shown: .*{note}" if note != "not shown" else note, picture.note)


def test_what_does_not_fit_any_more_is_left_out(folder):
    size = (folder / "photo.png").stat().st_size
    first, *others = shown(folder, left=size).pictures
    assert first.source is not None
    assert {each.note for each in others} == {"not shown: the page would become too large"}


def test_a_score_says_of_which_measure_and_method(folder):
    assert shown(folder).about == "photo.jpg, Insertion of P-TAME: 70.7"
    assert shown(folder, score=None).about == "photo.jpg"
    assert shown(folder, score=float("nan")).about == "photo.jpg"
    assert gallery_measure(evaluations.evaluation(gallery_column="gone")) is None
