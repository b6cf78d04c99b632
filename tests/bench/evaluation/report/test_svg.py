from xml.etree import ElementTree as ET

import pytest

from bench.evaluation.report.svg import Axis, Named, place_labels

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [(Axis(1, 1000, 0, 1, log=True), [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]),
     (Axis(0.5, 20000, 0, 1, log=True), [1, 10, 100, 1000, 10000]),
     (Axis(-0.1, 0.5, 0, 1), [-0.1, 0, 0.1, 0.2, 0.3, 0.4, 0.5])],
)  # fmt: skip
def test_ticks_are_round(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


def test_names_of_crowded_points_keep_apart_and_inside():
    points = [Named(100 + 20 * i, 100, 60, 140, f"a long name {i}", {}) for i in range(6)]
    lines, names = place_labels(points, [], (0, 0, 400, 300))
    boxes = []
    for name in names:
        text = ET.fromstring(name)
        x, y, width = float(text.get("x")), float(text.get("y")), 7.3 * len(text.text)
        x -= width * {"end": 1, "middle": 0.5}.get(text.get("text-anchor"), 0)
        boxes.append((x, y - 12, x + width, y + 4))
        assert x >= 0
        assert y <= 300
    assert lines
    for line in map(ET.fromstring, lines):  # straight on from the point's own interval
        assert line.get("x1") == line.get("x2")
        assert float(line.get("x1")) in [point.x for point in points]
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
