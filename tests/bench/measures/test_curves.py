import numpy as np
import pytest

from bench.measures.curves import Deletion, Insertion, area, blur, most_salient_first
from bench.measures.measure import MeasureSettings
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.faithfulness import ranks

pytestmark = pytest.mark.unit

GREY = 0.25, 0.5, 0.75


def photo(height=16, width=20, seed=0):
    return np.random.default_rng(seed).random((3, height, width)).astype(np.float32)


def copies(measure, image, saliency):
    return [one.copy() for one in measure.variants(image, saliency)]


def reading(measure, judge, image, saliency):
    after = np.array([judge(one) for one in measure.variants(image, saliency)], np.float32)
    return measure.read(judge(image), after)


def test_deletion_by_hand():
    image = np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 12
    saliency = np.array([[0.1, 0.4], [0.3, 0.2]], np.float32)
    first, last = copies(Deletion(MeasureSettings(steps=2, mean=GREY)), image, saliency)
    for channel, grey in enumerate(GREY):
        whole = image[channel]
        assert first[channel].tolist() == [[whole[0, 0], grey], [grey, whole[1, 1]]]
        assert last[channel].tolist() == [[grey, grey], [grey, grey]]


def test_insertion_by_hand():
    image = np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 12
    saliency = np.array([[0.1, 0.4], [0.3, 0.2]], np.float32)
    first, last = copies(Insertion(MeasureSettings(steps=2)), image, saliency)
    blurred = blur(image)
    np.testing.assert_array_equal(first, blurred)
    np.testing.assert_array_equal(last[:, [0, 1], [1, 0]], image[:, [0, 1], [1, 0]])
    np.testing.assert_array_equal(last[:, [0, 1], [0, 1]], blurred[:, [0, 1], [0, 1]])


@pytest.mark.parametrize(("steps", "changed"), [(1, [4]), (3, [1, 3, 4]), (4, [1, 2, 3, 4])])
def test_number_of_changed_pixels(steps, changed):
    image = np.ones((3, 2, 2), np.float32)
    saliency = np.array([[0.1, 0.4], [0.3, 0.2]], np.float32)
    found = copies(Deletion(MeasureSettings(steps=steps)), image, saliency)
    assert [int((one[0] != 1).sum()) for one in found] == changed


def test_ties_are_broken_as_by_ranks():
    flat = np.zeros((2, 3), np.float32)
    assert most_salient_first(flat).tolist() == [5, 4, 3, 2, 1, 0]
    tied = np.random.default_rng(0).integers(0, 4, (9, 7)).astype(np.float32)
    by_rank = np.argsort(-ranks(tied[None])[0], axis=None)
    np.testing.assert_array_equal(most_salient_first(tied), by_rank)
    values = tied.reshape(-1)[most_salient_first(tied)]
    assert (np.diff(values) <= 0).all()


def test_deletion_and_insertion_take_the_same_pixels():
    image, settings = photo(), MeasureSettings(steps=7, mean=(2.0, 2.0, 2.0))
    saliency = np.random.default_rng(1).integers(0, 5, (16, 20)).astype(np.float32)
    deleted = [one[0] == 2 for one in copies(Deletion(settings), image, saliency)]
    inserted = [one[0] == image[0] for one in copies(Insertion(settings), image, saliency)]
    assert not inserted[0].any()
    for gone, back in zip(deleted[:-1], inserted[1:], strict=True):
        np.testing.assert_array_equal(gone, back)


@pytest.mark.parametrize("kind", [Deletion, Insertion])
def test_the_photo_is_left_alone(kind):
    image = photo()
    before = image.copy()
    assert len(copies(kind(MeasureSettings(steps=5)), image, image[0])) == 5
    np.testing.assert_array_equal(image, before)


def test_where_the_whole_photo_lies_on_the_curve():
    settings = MeasureSettings(steps=2)
    after = np.array([0.5, 0.0], np.float32)
    deletion = Deletion(settings).read(1.0, after)
    assert deletion.curve.tolist() == [1.0, 0.5, 0.0]
    assert deletion.values == {"deletion": 50.0}
    insertion = Insertion(settings).read(1.0, after)
    assert insertion.curve.tolist() == [0.5, 0.0, 1.0]
    assert insertion.values == {"insertion": 37.5}
    assert Deletion(settings).fractions.tolist() == [0.0, 0.5, 1.0]


def test_area_is_the_trapezoid_rule():
    curve = np.random.default_rng(0).random(21).astype(np.float32)
    by_hand = sum((curve[i] + curve[i + 1]) / 2 / 20 for i in range(20))
    assert area(curve) == pytest.approx(100 * by_hand, rel=1e-6)
    authors = (curve.sum() - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1)
    assert area(curve) == pytest.approx(100 * authors, rel=1e-6)


@pytest.mark.parametrize("kind", [Deletion, Insertion])
@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_constant_probability(kind, probability):
    measure = kind(MeasureSettings(steps=9))
    found = reading(measure, lambda _: probability, photo(), photo()[0])
    assert found.values[measure.name] == pytest.approx(100 * probability)
    assert len(found.curve) == len(measure.fractions) == 10


def test_perfect_map_beats_its_inverse():
    image = np.ones((3, 32, 32), np.float32)
    image[:, ::2, ::2] = 0  # so that blurring changes it
    saliency = np.zeros((32, 32), np.float32)
    saliency[8:16, 4:20] = 1

    def judge(one):  # 1 where the square is as in the photo, less as it changes
        return float(1 - np.abs(one - image)[:, 8:16, 4:20].mean())

    for kind, sign in ((Deletion, -1), (Insertion, 1)):
        measure = kind(MeasureSettings())
        right = reading(measure, judge, image, saliency).values[measure.name]
        wrong = reading(measure, judge, image, 1 - saliency).values[measure.name]
        assert sign * (right - wrong) > 5
        assert measure.columns[0].better == ("higher" if sign == 1 else "lower")


@pytest.mark.parametrize("kind", [Deletion, Insertion])
def test_only_the_order_of_pixels_counts(kind):
    image = photo()
    level = np.random.default_rng(2).integers(0, 30, (16, 20))
    plain = copies(kind(MeasureSettings()), image, (level / 29).astype(np.float32))
    bent = copies(kind(MeasureSettings()), image, np.exp(level / 10).astype(np.float32) - 7)
    np.testing.assert_array_equal(plain, bent)
    assert not kind(MeasureSettings()).columns[0].contrast_moves


def test_blur_is_a_gaussian_of_eleven_taps():
    ndimage = pytest.importorskip("scipy.ndimage")
    image = photo(24, 30)
    taps = np.exp(-(np.arange(-5, 6) ** 2) / 50)
    expected = image.astype(np.float64)
    for axis in (1, 2):
        expected = ndimage.convolve1d(expected, taps / taps.sum(), axis, mode="nearest")
    np.testing.assert_allclose(blur(image), expected, atol=1e-6)


def test_settings_are_written_down():
    settings = MeasureSettings(steps=3, mean=GREY)
    assert Deletion(settings).settings == {"steps": 3, "mean": "0.25,0.5,0.75"}
    assert Insertion(settings).settings == {"steps": 3, "blur_sigma": 5.0, "blur_taps": 11}


@pytest.mark.parametrize("kind", [Deletion, Insertion])
def test_what_cannot_be_measured(kind):
    with pytest.raises(InvalidInputError, match="at least 1 step, got 0"):
        kind(MeasureSettings(steps=0))
    measure, image = kind(MeasureSettings()), photo()
    with pytest.raises(InvalidInputError, match="resize the map"):
        next(measure.variants(image, image[0].T))
    for other in (image[0], image[None], image[:, 1:], np.pad(image, ((0, 0), (1, 0), (0, 0)))):
        with pytest.raises(InvalidInputError, match="resize the map"):
            next(measure.variants(other, image[0]))
    for shape in ((320,), (1, 16, 20)):
        with pytest.raises(InvalidInputError, match="must be"):
            most_salient_first(np.zeros(shape, np.float32))
    broken = image[0].copy()
    broken[3, 4] = np.nan
    with pytest.raises(InvalidInputError, match="NaN in 1 of 320"):
        next(measure.variants(image, broken))


def test_map_without_pixels():
    with pytest.raises(InvalidInputError, match="at least one pixel"):
        most_salient_first(np.zeros((0, 4), np.float32))
