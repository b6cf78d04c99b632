import numpy as np
import pytest

from bench.measures.pointing import COLUMNS, pointing_energy, pointing_hit
from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.unit

BOX = 10.0, 20.0, 30.0, 40.0  # left, top, right, bottom


def peak(row, column, size=(80, 60)):
    saliency = np.zeros(size, np.float32)
    saliency[row, column] = 1
    return saliency


@pytest.mark.parametrize(
    ("row", "column", "hit"),
    [
        (20, 10, True),
        (39, 29, True),
        (40, 29, False),
        (39, 30, False),
        (19, 10, False),
        (20, 9, False),
        (10, 20, False),  # rows and columns swapped
    ],
)
def test_without_tolerance_the_pixel_is_in_the_box(row, column, hit):
    assert pointing_hit(peak(row, column), [BOX], tolerance=0) == (100.0 if hit else 0.0)


def test_tolerance_is_a_distance_from_the_box():
    assert pointing_hit(peak(54, 20), [BOX]) == 100.0  # centre 14.5 below
    assert pointing_hit(peak(55, 20), [BOX]) == 0.0  # 15.5 below
    assert pointing_hit(peak(49, 40), [BOX]) == 100.0  # 9.5 and 10.5 away: 14.2
    assert pointing_hit(peak(51, 41), [BOX]) == 0.0  # 11.5 each: 16.3
    assert pointing_hit(peak(51, 41), [BOX], tolerance=17) == 100.0


def test_tolerance_holds_left_of_a_box_and_above_it_too():
    far = (50.0, 60.0, 70.0, 75.0)
    assert pointing_hit(peak(65, 35), [far]) == 100.0  # centre 14.5 left of it
    assert pointing_hit(peak(65, 34), [far]) == 0.0  # 15.5
    assert pointing_hit(peak(45, 55), [far]) == 100.0  # 14.5 above it
    assert pointing_hit(peak(44, 55), [far]) == 0.0


def test_energy_is_no_whole_number():
    saliency = np.ones((3, 1), np.float32)
    assert pointing_energy(saliency, [(0.0, 0.0, 1.0, 1.0)]) == pytest.approx(100 / 3)


def test_as_many_values_as_are_not_finite_are_counted():
    saliency = peak(3, 4)
    saliency[0, :2] = np.nan
    with pytest.raises(InvalidInputError, match=r"\b2\b"):
        pointing_energy(saliency, [BOX])


def test_any_box_counts():
    assert pointing_hit(peak(70, 50), [BOX, (45.0, 65.0, 55.0, 75.0)], tolerance=0) == 100.0


def test_ties_and_flat_maps():
    saliency = peak(25, 15)
    saliency[75, 55] = 1
    assert pointing_hit(saliency, [BOX]) == 0.0  # the one further down counts
    assert pointing_hit(saliency, [(50.0, 70.0, 60.0, 80.0)]) == 100.0
    whole = [(0.0, 0.0, 60.0, 80.0)]
    assert pointing_hit(np.full((80, 60), 0.3, np.float32), whole) == 0.0
    assert pointing_hit(saliency, whole) == 100.0


def test_energy_by_hand():
    saliency = np.array([[1, 2, 3], [4, 5, 5]], np.float32)
    assert pointing_energy(saliency, [(0.0, 0.0, 2.0, 1.0)]) == pytest.approx(15.0)
    assert pointing_energy(saliency, [(0.0, 0.0, 1.0, 2.0)]) == pytest.approx(25.0)
    # A pixel in two boxes counts once.
    boxes = [(0.0, 0.0, 2.0, 2.0), (1.0, 1.0, 3.0, 2.0)]
    assert pointing_energy(saliency, boxes) == pytest.approx(85.0)
    # Centres decide: 0.4 to 1.6 has those of 0 and 1, 0.6 to 1.4 none.
    assert pointing_energy(saliency, [(0.4, 0.0, 1.6, 1.0)]) == pytest.approx(15.0)
    assert pointing_energy(saliency, [(0.6, 0.0, 1.4, 1.0)]) == 0.0
    assert pointing_energy(saliency, [(0.0, 0.0, 3.0, 2.0)]) == pytest.approx(100.0)


def test_energy_of_maps_without_contrast():
    box = [(0.0, 0.0, 1.0, 2.0)]
    assert pointing_energy(np.zeros((2, 4), np.float32), box) == 0.0
    assert pointing_energy(np.full((2, 4), 0.2, np.float32), box) == pytest.approx(25.0)
    negative = np.array([[1, -5], [1, 2]], np.float32)
    assert pointing_energy(negative, box) == pytest.approx(50.0)


def test_contrast_moves_the_energy_but_not_the_point():
    saliency = np.random.default_rng(0).random((80, 60)).astype(np.float32)
    bent = saliency**4
    hits = {pointing_hit(one, [BOX], tolerance) for one in (saliency, bent) for tolerance in (0,)}
    assert len(hits) == 1
    saliency[20:40, 10:30] += 0.5
    assert pointing_energy(saliency**4, [BOX]) > pointing_energy(saliency, [BOX]) + 1
    assert {one.name: one.contrast_moves for one in COLUMNS} == {
        "pointing": False,
        "pointing_energy": True,
    }
    assert all(one.better == "higher" for one in COLUMNS)


def test_what_cannot_be_measured():
    saliency = peak(0, 0)
    for measure in (pointing_hit, pointing_energy):
        with pytest.raises(InvalidInputError, match="at least one box"):
            measure(saliency, [])
        with pytest.raises(InvalidInputError, match="NaN"):
            measure(saliency * np.nan, [BOX])
    with pytest.raises(InvalidInputError, match="0 pixels or more, got -1"):
        pointing_hit(saliency, [BOX], tolerance=-1)
