import re
from xml.etree import ElementTree as ET

import evaluations
import pytest

from bench.evaluation.report.comparison import marked
from bench.evaluation.report.curve_plots import curve_plots
from bench.evaluation.report.plots import forest_plot, plotted_column, rise_plot, speed_plot

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"


def pictures(evaluation):
    found = [each(evaluation, "p") for each in (speed_plot, rise_plot, forest_plot)]
    return [each for each in [*found, *curve_plots(evaluation, "p")] if each]


def texts(svg):
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter(f"{SVG}text")]


def without(evaluation, *names):
    kept = [measure for measure in evaluation.measures if measure.name not in names]
    return evaluation.model_copy(update={"measures": kept})


@pytest.mark.parametrize("made", ["only_skipped", "single", "hostile", "evaluation"])
def test_pictures_are_accessible_xml_without_nonsense(made):
    found = pictures(getattr(evaluations, made)())
    assert len(found) == {"only_skipped": 0, "single": 0, "hostile": 5, "evaluation": 5}[made]
    ids = []
    for svg in found:
        root = ET.fromstring(svg)
        assert root.tag == f"{SVG}svg"
        assert root.get("role") == "img"
        title, description = root[0], root[1]
        assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
        assert title.text
        assert description.text
        assert root.get("aria-labelledby") == title.get("id")
        assert root.get("aria-describedby") == description.get("id")
        ids += [each.get("id") for each in root.iter() if each.get("id")]
        for each in root.iter():
            for key, value in each.attrib.items():
                assert not re.search(r"\b(nan|inf)\b", value), (key, value)
        assert "<script" not in svg
    assert len(ids) == len(set(ids)) == 2 * len(found)


def test_everything_lies_inside_the_picture():
    for svg in pictures(evaluations.evaluation()):
        root = ET.fromstring(svg)
        _, _, width, height = map(float, root.get("viewBox").split())
        for each in root.iter():
            for key in ("x", "x1", "x2", "cx", "y", "y1", "y2", "cy"):
                limit = width if "x" in key else height
                assert 0 <= float(each.get(key, 0)) <= limit, ET.tostring(each)


def test_the_column_is_insertion_then_road_then_matched_drop_but_never_a_moved_one():
    found = evaluations.evaluation()
    assert plotted_column(found).name == "insertion"
    found = without(found, "insertion")
    assert plotted_column(found).name == "road"
    found = without(found, "road")
    assert plotted_column(found).name == "ad100_matched"
    moved = [measure for measure in found.measures if measure.contrast_moves]
    only = found.model_copy(update={"measures": moved})
    assert plotted_column(only) is None
    assert speed_plot(only, "p") is None


def test_speed_labels_every_method_once_and_they_do_not_overlap():
    found = evaluations.evaluation()
    svg = speed_plot(found, "p")
    labels = [marked(m, found) for m in found.methods if m.status == "measured"]
    for label in labels:
        assert texts(svg).count(label) == 1, label
    boxes = []
    for each in ET.fromstring(svg).iter(f"{SVG}text"):
        if each.text in labels:
            x, y, width = float(each.get("x")), float(each.get("y")), 6.5 * len(each.text)
            x -= width * {"end": 1, "middle": 0.5}.get(each.get("text-anchor"), 0)
            boxes.append((x, y - 11, x + width, y))
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_near_floor_is_a_dashed_line_and_a_far_one_is_told():
    svg = speed_plot(evaluations.evaluation(), "p")
    assert svg.count('stroke-dasharray="5 4"') == 1
    assert "↓ 20.0" in texts(svg)


def test_points_lie_by_time_and_value():
    found = evaluations.evaluation()
    root = ET.fromstring(speed_plot(found, "p"))
    circles = root.iter(f"{SVG}circle")
    int8, fp32, _ = sorted((float(c.get("cx")), float(c.get("cy"))) for c in circles)
    assert int8[0] < fp32[0]  # faster
    assert int8[1] > fp32[1]  # less faithful, so lower


def test_one_method_at_one_value_has_an_axis():
    found = evaluations.evaluation()
    row = found.methods[0]
    flat = {"insertion": evaluations.interval(0.0, 0.0)}
    alone = found.model_copy(update={"methods": [row.model_copy(update={"values": flat})]})
    assert "P-TAME" in texts(speed_plot(alone, "p"))


def test_rise_shows_the_reference_on_the_curves_photos():
    svg = rise_plot(evaluations.evaluation(), "p")
    assert "P-TAME" in texts(svg)
    assert "P-TAME on the same photos: 79.0 [77.0, 81.0]" in svg
    assert "50 photos" in svg


@pytest.mark.parametrize(("column", "sign"), [("insertion", 1), ("ad100_matched", 1)])
def test_the_forest_is_turned_so_that_right_is_better_for_p_tame(column, sign):
    found = evaluations.evaluation()
    drop = ["insertion", "road"] if column == "ad100_matched" else []
    found = without(found, *drop)
    assert plotted_column(found).name == column
    svg = forest_plot(found, "p")
    # The better rival is on the other side than the worse one, whatever the column's direction.
    assert re.search(r"against RISE: worse, −", svg)
    assert re.search(r"against Integrated Gradients: better, \+", svg)
    assert re.search(r"against P-TAME INT8, cpu form: undecided", svg)


def test_marks_of_methods_on_fewer_photos_are_hollow():
    found = evaluations.evaluation()
    root = ET.fromstring(speed_plot(found, "p"))
    hollow = [each for each in root.iter(f"{SVG}polygon") if "paper" in each.get("fill")]
    partial = [m for m in found.methods if m.status == "measured" and m.photos < found.photos]
    assert len(hollow) == len(partial) == 3


def test_the_forest_ends_with_the_same_method_in_other_forms():
    labels = [text for text in texts(forest_plot(evaluations.evaluation(), "p"))
              if text in {m.label for m in evaluations.evaluation().methods}]  # fmt: skip
    assert set(labels[-2:]) == {"P-TAME in PyTorch", "P-TAME INT8, cpu form"}
