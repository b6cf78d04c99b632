import json

import numpy as np
import pytest
from PIL import Image

from bench.measures import boxes as module
from bench.measures.boxes import Box, boxes_of, read_boxes, to_input
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.preprocessing import Preprocessing

pytestmark = pytest.mark.unit


def coco():
    return {
        "images": [
            {"id": 7, "file_name": "val/cat.jpg", "width": 50, "height": 40},
            {"id": 9, "file_name": "empty.jpg"},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [1, 2.5, 10, 20]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 40]},
        ],
    }


def voc(*objects, filename="<filename>dog.jpg</filename>"):
    return f"<annotation><folder>x</folder>{filename}{''.join(objects)}</annotation>"


def entry(xmin=3, ymin=4, xmax=12, ymax=8, name="dog"):
    return (
        f"<object><name>{name}</name><bndbox><xmax>{xmax}</xmax><xmin>{xmin}</xmin>"
        f"<ymin>{ymin}</ymin><ymax>{ymax}</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
    )


@pytest.fixture
def written(tmp_path):
    def write(content, name="boxes.json"):
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_coco(written):
    assert read_boxes(written(coco())) == {
        "cat.jpg": [Box("dog", 1, 2.5, 11, 22.5), Box("cat", 0, 0, 50, 40)],
        "empty.jpg": [],
    }


def test_voc_counts_from_one_and_includes_the_last_pixel(written):
    # Pixels 3 to 12 from 1 are 2 to 11 from 0: ten columns.
    found = read_boxes(written(voc(entry(), entry(1, 1, 1, 1, "cat")), "a.xml"))
    assert found == {"dog.jpg": [Box("dog", 2, 3, 12, 8), Box("cat", 0, 0, 1, 1)]}


def test_voc_folder(written, tmp_path):
    written(voc(entry(), filename=""), "one.xml")
    written(voc(filename="<filename>two.png</filename>"), "b.XML")
    written("not an annotation", "readme.txt")
    assert read_boxes(tmp_path) == {"one": [Box("dog", 2, 3, 12, 8)], "two.png": []}


def test_voc_first_pixel_zero_is_the_edge(written):
    found = read_boxes(written(voc(entry(0, 0, 9, 9)), "a.xml"))
    assert found == {"dog.jpg": [Box("dog", 0, 0, 9, 9)]}


def test_names_with_and_without_ending():
    known = {"a.jpg": [Box("x", 0, 0, 1, 1)], "b": []}
    assert boxes_of(known, "folder/a.jpg") == known["a.jpg"]
    assert boxes_of(known, "b.JPEG") == []
    assert boxes_of(known, "c.jpg") is None


def test_voc_in_another_encoding(tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(voc(entry(name="öchse")).encode("utf-16"))
    assert read_boxes(path)["dog.jpg"][0].label == "öchse"


def changed(change):
    content = coco()
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "one JSON object"),
        ({"images": []}, "no list of categories"),
        (changed(lambda c: c["images"].append(3)), r"images\[2\] must be an object"),
        (changed(lambda c: c["images"][1].pop("file_name")), r"images\[1\] has no file_name"),
        (changed(lambda c: c["images"][1].update(file_name=" ")), "needs a text as file_name"),
        (changed(lambda c: c["images"][1].update(file_name="..")), None),
        (changed(lambda c: c["images"][1].update(file_name="/")), "no usable file name"),
        (changed(lambda c: c["images"][1].update(id=7)), r"images\[1\] repeats"),
        (changed(lambda c: c["images"][1].update(file_name="cat.jpg")), r"images\[1\] repeats"),
        (changed(lambda c: c["images"][1].update(id="7")), "whole number as id"),
        (changed(lambda c: c["images"][1].update(id=True)), "whole number as id"),
        (changed(lambda c: c["annotations"][1].pop("bbox")), r"annotations\[1\] has no bbox"),
        (changed(lambda c: c["annotations"][1].update(image_id=8)), "image 8, which"),
        (changed(lambda c: c["annotations"][1].update(category_id=2)), "category 2, which"),
        (changed(lambda c: c["annotations"][1].update(bbox=[1, 2, 3])), "four numbers"),
        (changed(lambda c: c["annotations"][1].update(bbox=[1, 2, 3, None])), "not all numbers"),
        (changed(lambda c: c["annotations"][1].update(bbox=[1, 2, 3, True])), "not all numbers"),
        (changed(lambda c: c["annotations"][1].update(bbox=[1, 2, 3, 10**400])), "not all numbers"),
        (changed(lambda c: c["annotations"][1].update(bbox=[1, 2, 3, np.nan])), "not all numbers"),
        (changed(lambda c: c["annotations"][1].update(bbox=[1, 2, 0, 3])), "empty box: 0 wide"),
        (changed(lambda c: c["annotations"][1].update(bbox=[1, 2, 3, -4])), "-4 high"),
        (changed(lambda c: c["annotations"][1].update(bbox=[-1, 2, 3, 4])), "outside the photo"),
        (changed(lambda c: c["annotations"][1].update(bbox=[1, -2, 3, 4])), "outside the photo"),
    ],
)
def test_broken_coco(written, content, said):
    path = written(content)
    if said is None:
        assert ".." in read_boxes(path)  # a name like another; it is never opened
        return
    with pytest.raises(InvalidInputError, match=said) as error:
        read_boxes(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<annotation>", "not valid XML"),
        ("", "not valid XML"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not valid XML"),
        ("<html/>", "root is <html>"),
        (voc(entry(name="")), "object 1 has no name"),
        (voc(entry(), "<object><name>x</name></object>"), "object 2 has no bndbox with xmin"),
        (voc(entry(xmin="left")), "not all numbers: 'left'"),
        (voc(entry(xmax="inf")), "not all numbers"),
        (voc(entry(xmin=14)), "empty box: -1 wide"),
        (voc(entry(ymin=9)), "empty box: 10 wide, 0 high"),
        (voc(entry(xmin=-2)), "starts outside the photo"),
    ],
)
def test_broken_voc(written, content, said):
    path = written(content, "a.xml")
    with pytest.raises(InvalidInputError, match=said) as error:
        read_boxes(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "definition",
    [
        '[<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]',
        '[<!ENTITY b SYSTEM "file:///etc/hostname">]',
        'SYSTEM "https://example.org/a.dtd"',
    ],
)
def test_xml_with_a_doctype_is_refused(tmp_path, definition, encoding):
    path = tmp_path / "a.xml"
    reference = "&b;" if "ENTITY" in definition else "x"
    name = f"<filename>{reference}</filename>"
    path.write_bytes(f"<!DOCTYPE annotation {definition}>{voc(filename=name)}".encode(encoding))
    with pytest.raises(InvalidInputError, match="DOCTYPE"):
        read_boxes(path)


def test_huge_files(written, monkeypatch):
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 100)
    monkeypatch.setattr(module, "MAX_XML_BYTES", 100)
    for path in (written(coco()), written(voc(entry()), "a.xml")):
        with pytest.raises(InvalidInputError, match="more than"):
            read_boxes(path)


def test_files_that_are_not_there(tmp_path, written):
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        read_boxes(tmp_path / "a.json")
    with pytest.raises(InvalidInputError, match=r"no \.xml files"):
        read_boxes(tmp_path)
    with pytest.raises(InvalidInputError, match="neither a COCO"):
        read_boxes(written("1,2", "boxes.csv"))


def test_two_files_for_one_photo(written, tmp_path):
    written(voc(entry()), "a.xml")
    written(voc(entry()), "b.xml")
    with pytest.raises(InvalidInputError, match=r"b\.xml is for the photo dog\.jpg, and so is"):
        read_boxes(tmp_path)


def test_box_in_the_crop_by_hand():
    # 200 x 100 becomes 80 x 40, of which the middle 20 x 20 is left: 75..125 by 25..75.
    prepared = Preprocessing(input_size=(20, 20), resize=40)
    inside = to_input(Box("x", 80, 30, 100, 60), (200, 100), prepared)
    assert inside == pytest.approx((2, 2, 10, 14))
    clipped = to_input(Box("x", 0, 50, 100, 300), (200, 100), prepared)
    assert clipped == pytest.approx((0, 10, 10, 20))
    assert to_input(Box("x", 0, 0, 75, 100), (200, 100), prepared) is None
    assert to_input(Box("x", 0, 80, 200, 100), (200, 100), prepared) is None


def test_box_stays_in_the_photo_where_the_crop_does_not():
    prepared = Preprocessing(input_size=(60, 60), resize=40)  # 10 black pixels on each side
    found = to_input(Box("x", 0, 0, 500, 100), (100, 100), prepared)
    assert found == pytest.approx((10, 10, 50, 50))
    assert to_input(Box("x", -9, -9, 50, 50), (100, 100), prepared) == pytest.approx(
        (10, 10, 30, 30)
    )
    assert to_input(Box("x", 101, 0, 105, 10), (100, 100), prepared) is None


@pytest.mark.parametrize("size", [(300, 200), (200, 331)])
@pytest.mark.parametrize("squash", [True, False])
def test_box_lies_where_the_pixels_go(size, squash):
    prepared = Preprocessing(
        input_size=(96, 120), resize=140, squash=squash, interpolation="bilinear"
    )
    width, height = size
    photo = np.zeros((height, width, 3), np.uint8)
    photo[70:130, 80:140] = 255
    seen = prepared.apply(Image.fromarray(photo))[..., 0] > 127
    left, top, right, bottom = to_input(Box("x", 80, 70, 140, 130), size, prepared)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert (left, right) == pytest.approx((columns[0], columns[-1] + 1), abs=1)
    assert (top, bottom) == pytest.approx((rows[0], rows[-1] + 1), abs=1)
