import re
from html.parser import HTMLParser
from itertools import pairwise

import evaluations
import pytest
from PIL import Image

from bench.evaluation.report import page as module
from bench.evaluation.report.page import page
from bench.evaluation.report.wording import summary
from bench.evaluation.results import GalleryEntry
from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.unit

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Document(HTMLParser):
    """Checks that tags are balanced, and collects what the tests ask about."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.data, self.tables = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr" and self.tables:
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.data.append(data)
        if self.open and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.data))

    def all(self, *names):
        return [attributes for tag, attributes in self.tags if tag in names]


def entry(picture="photo.png", **changes):
    fields = {"photo": "photo.jpg", "choice": "best", "title": "tabby cat, 93 %", "score": 0.5,
              "picture": picture, "overlays": {"grad-cam": "cam.png"}}  # fmt: skip
    return GalleryEntry(**{**fields, **changes})


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "evaluation"
    place.mkdir()
    for name in ("photo.png", "cam.png"):
        Image.new("RGB", (8, 8), "red").save(place / name)
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "secret.png")
    return place


def many(folder):
    made = [evaluations.evaluation(gallery=[entry()]), evaluations.hostile(),
            evaluations.single(), evaluations.only_skipped()]  # fmt: skip
    return page(made, [folder] * len(made))


def test_the_page_is_sound_html(folder):
    document = Document(many(folder))
    assert document.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in document.all("img"))
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [a[key] for _, a in document.tags for key in a if key.startswith("aria-labelledby")]
    assert named
    assert set(named) <= set(ids)
    links = [a["href"] for a in document.all("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    levels = [int(tag[1]) for tag, _ in document.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert len(document.all("caption")) == len(document.all("table"))
    assert all(head.get("scope") in ("col", "row") for head in document.all("th"))


def test_nothing_is_loaded_and_nothing_runs(folder):
    document = Document(many(folder))
    for tag, attributes in document.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form"), tag
        assert not any(key.startswith("on") for key in attributes)
        for key in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/")), (tag, value)
    styles = re.search(r"<style>(.*?)</style>", many(folder), re.DOTALL)[1]
    assert "url(" not in styles
    assert "@import" not in styles


def test_hostile_names_stay_text(folder):
    text = page([evaluations.hostile()], [folder])
    assert "<script" not in text
    assert not {"\x00", "\u202e"} & set(text)
    document = Document(text)
    assert "<script>alert(1)</script>" in document.text
    assert "not shown" in document.text


@pytest.mark.parametrize("made", ["only_skipped", "single", "hostile", "evaluation"])
def test_no_page_shows_nonsense(folder, made):
    document = Document(page([getattr(evaluations, made)()], [folder]))
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", document.text)
    assert all(len(table) > 1 for table in document.tables)
    assert all(len({len(row) for row in table}) == 1 for table in document.tables)


def test_the_tables_numbers_are_the_records(folder):
    found = evaluations.evaluation()
    rows = Document(page([found], [folder])).tables[0]
    head, gradcam = rows[0], next(row for row in rows if row[0] == "Grad-CAM")
    assert head[1].startswith("Insertion")
    value = found.method("grad-cam").values["insertion"]
    assert gradcam[1].split() == [f"{value.mean:.1f}", f"[{value.low:.1f},", f"{value.high:.1f}]"]
    assert "wins" in gradcam[2]


def test_only_the_reference_stands_out(folder):
    text = page([evaluations.evaluation()], [folder])
    faithfulness = text.split("<tbody>")[1].split("</tbody>")[0]
    heads = re.findall(r'<tr class="[\w-]+ own">\s*<th scope="row">(.*?)</th>', faithfulness)
    assert heads == ["P-TAME"]


def test_no_winner_on_what_contrast_moves(folder):
    found = evaluations.hostile()  # its verdict names one there
    document = Document(page([found], [folder]))
    assert not document.all("strong")
    assert not any("wins" in cell for table in document.tables for row in table for cell in row)
    assert not any("wins" in text for text in summary(found))


def test_a_section_each_with_contents(folder):
    document = Document(many(folder))
    assert len(document.all("section")) == 4
    assert {"#e1", "#e2", "#e3", "#e4"} <= {a["href"] for a in document.all("a")}


def test_gallery_pictures_are_inside_the_page(folder):
    document = Document(page([evaluations.evaluation(gallery=[entry()])], [folder]))
    images = document.all("img")
    assert [image["src"][:22] for image in images] == ["data:image/png;base64,"] * 2
    assert images[1]["alt"] == "Map of Grad-CAM over the photo"
    assert "Best for P-TAME by Insertion tabby cat, 93 %" in document.text
    assert "photo.jpg, Insertion of P-TAME: 0.5" in document.text


def test_the_gallery_groups_photos_by_how_they_were_chosen(folder):
    made = [entry(), entry(choice="worst"), entry(choice="random"), entry(choice="random")]
    text = Document(page([evaluations.evaluation(gallery=made)], [folder])).text
    for heading in ("Best for P-TAME by Insertion", "Worst for P-TAME by", "Drawn at random"):
        assert text.count(heading) == 1


def test_a_record_without_the_gallerys_measure_claims_none(folder):
    made = evaluations.evaluation(gallery=[entry()], gallery_column=None)
    text = Document(page([made], [folder])).text
    assert "Best for P-TAME tabby cat" in text
    assert "Insertion of P-TAME" not in text


def test_both_cascades_and_the_limit_stand_on_the_page(folder):
    text = Document(page([evaluations.evaluation()], [folder])).text
    assert "8 of 8 layers random" in text
    assert "6 of 6 layers random" in text
    assert "The explainer's own layers" in text
    assert "does not notice when the classifier changes" in text


def test_pictures_stop_before_the_page_becomes_too_large(folder, monkeypatch):
    size = (folder / "photo.png").stat().st_size
    monkeypatch.setattr(module, "MAX_PAGE_PICTURE_BYTES", 3 * size)
    made = evaluations.evaluation(gallery=[entry()])
    document = Document(page([made, made], [folder, folder]))
    assert len(document.all("img")) == 3
    assert document.text.count("the page would become too large") == 1


def test_a_thousand_photos_leave_the_page_small(folder):
    skipped = [f"photo-{i}.jpg: {'x' * 200}" for i in range(1000)]
    text = page([evaluations.evaluation(skipped=skipped, photos=1000)], [folder])
    assert len(text) < 300_000
    assert "1,000 photos could not be read" in text
    assert "and 950 more" in text


@pytest.mark.parametrize("count", [0, 2])
def test_a_folder_for_each_evaluation(folder, count):
    with pytest.raises(InvalidInputError, match="one folder for each"):
        page([evaluations.evaluation()][: 1 if count else 0], [folder] * count)


def test_pictures_of_many_evaluations_stay_under_fifteen_megabytes(tmp_path):
    (tmp_path / "big.jpg").write_bytes(b"\xff\xd8\xff" + bytes(3 * 2**20))
    entry = GalleryEntry(
        photo="a.jpg", choice="best", title="cat", score=1.0, picture="big.jpg",
        overlays={"p-tame": "big.jpg"},
    )  # fmt: skip
    found = [evaluations.evaluation(gallery=[entry])] * 4
    text = page(found, [tmp_path] * 4)
    assert text.count("data:image/jpeg") == 3
    assert "not shown: the page would become too large" in text
    assert len(text.encode()) < 15_000_000
