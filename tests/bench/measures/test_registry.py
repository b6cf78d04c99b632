import numpy as np
import pytest

from bench.measures.measure import MeasureSettings
from bench.measures.registry import all_measures, choose
from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.unit

NAMES = ["drop-published", "drop-matched", "insertion", "deletion", "road"]


def test_every_measure_is_there_under_its_name():
    found = all_measures(MeasureSettings())
    assert list(found) == NAMES
    assert [measure.name for measure in found.values()] == NAMES


def test_settings_reach_the_measures():
    found = all_measures(MeasureSettings(steps=7, road_percentages=(30,), seed=5, mean=(0, 1, 0)))
    assert found["insertion"].settings["steps"] == 7
    assert found["deletion"].settings == {"steps": 7, "mean": "0,1,0"}
    assert found["road"].settings["removed_percent"] == "30"
    assert found["road"].settings["seed"] == 5


def test_columns_are_unique_and_filled():
    image = np.random.default_rng(0).random((3, 12, 12)).astype(np.float32)
    names = []
    for measure in all_measures(MeasureSettings(steps=3)).values():
        after = np.full(len(list(measure.variants(image, image[0]))), 0.4, np.float32)
        reading = measure.read(0.5, after)
        assert set(reading.values) == {column.name for column in measure.columns}
        for column in measure.columns:
            assert column.low <= reading.values[column.name] <= column.high
        assert (reading.curve is None) == (measure.fractions is None)
        if measure.fractions is not None:
            assert reading.curve.shape == measure.fractions.shape
        names += [column.name for column in measure.columns]
    assert len(names) == len(set(names)) == 17


def test_choosing():
    settings = MeasureSettings()
    assert [one.name for one in choose(None, settings)] == NAMES
    found = choose(["road", "deletion", "road"], settings)
    assert [one.name for one in found] == ["deletion", "road"]


def test_unknown_names():
    with pytest.raises(InvalidInputError) as error:
        choose(["road", "delition"], MeasureSettings())
    assert "'delition'. Did you mean deletion?" in str(error.value)
    assert all(name in str(error.value) for name in NAMES)
    with pytest.raises(InvalidInputError, match=r"no measure 'xyz'\. Choose from"):
        choose(["xyz"], MeasureSettings())
    with pytest.raises(InvalidInputError, match="No measure is named"):
        choose([], MeasureSettings())
