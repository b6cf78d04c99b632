from xml.etree import ElementTree as ET

import evaluations
import pytest

from bench.evaluation.report.curve_plots import curve_plots

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter(f"{SVG}text")]


def test_curves_differ_in_more_than_colour():
    svg, _ = curve_plots(evaluations.evaluation(), "p")
    looks = [(line.get("stroke"), line.get("stroke-dasharray"), line.get("stroke-width"))
             for line in ET.fromstring(svg).iter(f"{SVG}polyline")]  # fmt: skip
    assert len(looks) == len(set(looks)) == 13
    assert "P-TAME 80.0" in texts(svg)


def test_a_curve_of_another_length_is_left_out():
    found = evaluations.evaluation()
    row = found.methods[0].model_copy(update={"curves": {"insertion": [0.1, 0.2]}})
    svg, _ = curve_plots(found.model_copy(update={"methods": [row, *found.methods[1:]]}), "p")
    assert not any(text.startswith("P-TAME 80") for text in texts(svg))
