import numpy as np
import pytest

from bench.evaluation.store import Store, StoredMaps, fingerprint
from bench.measures.measure import Reading

pytestmark = pytest.mark.unit

MAPS = StoredMaps(
    np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32), np.array([3, 7])
)
READINGS = [
    Reading({"a": 1 / 3, "b": 100.0}, np.array([0.1, 1 / 3, 0.9], np.float32)),
    Reading({"a": -1e-9, "b": 0.0}),
]


def same(value):
    return value


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "work")


def only_file(store):
    (path,) = [path for path in store.directory.rglob("*") if path.is_file()]
    return path


def test_nothing_is_there_and_nothing_is_made(store):
    assert store.maps("rise", "k") is None
    assert store.readings("rise", "road", "k") is None
    assert store.numbers("time", "rise", "k", same) is None
    assert not store.directory.exists()


def test_maps_come_back_bit_by_bit(store):
    store.keep_maps("rise", "k", MAPS)
    found = store.maps("rise", "k")
    np.testing.assert_array_equal(found.maps, MAPS.maps)
    np.testing.assert_array_equal(found.classes, MAPS.classes)
    assert found.maps.dtype == np.float32
    assert found.classes.dtype == np.int64


def test_readings_come_back_to_the_last_digit(store):
    store.keep_readings("rise", "road", "k", READINGS)
    found = store.readings("rise", "road", "k")
    assert [dict(one.values) for one in found] == [dict(one.values) for one in READINGS]
    np.testing.assert_array_equal(found[0].curve, READINGS[0].curve)
    assert found[0].curve.dtype == np.float32
    assert found[1].curve is None


def test_numbers_come_back(store):
    value = {"a": [1, 0.1, None], "b": {"c": "ü"}}
    store.keep_numbers("time", "rise", "k", value)
    assert store.numbers("time", "rise", "k", same) == value


def test_another_key_method_measure_or_kind_misses(store):
    store.keep_maps("rise", "k", MAPS)
    store.keep_readings("rise", "road", "k", READINGS)
    store.keep_numbers("time", "rise", "k", 1)
    assert store.maps("rise", "l") is None
    assert store.maps("lime", "k") is None
    assert store.readings("rise", "insertion", "k") is None
    assert store.readings("rise", "road", "l") is None
    assert store.numbers("sanity", "rise", "k", same) is None
    assert store.numbers("time", "rise", "l", same) is None


def test_the_last_one_kept_counts_and_no_rest_is_left(store):
    store.keep_numbers("time", "rise", "k", 1)
    store.keep_numbers("time", "rise", "k", 2)
    assert store.numbers("time", "rise", "k", same) == 2
    assert only_file(store).name == "k.json"


@pytest.mark.parametrize("length", [0, 1, 30, 150, -40, -1])
def test_maps_cut_off_are_made_again(store, length):
    store.keep_maps("rise", "k", MAPS)
    path = only_file(store)
    path.write_bytes(path.read_bytes()[:length])
    assert store.maps("rise", "k") is None
    store.keep_maps("rise", "k", MAPS)
    np.testing.assert_array_equal(store.maps("rise", "k").maps, MAPS.maps)


def test_maps_with_a_bit_turned_are_made_again(store):
    store.keep_maps("rise", "k", MAPS)
    path = only_file(store)
    content = bytearray(path.read_bytes())
    place = content.index(MAPS.maps.tobytes()[:16])
    content[place] ^= 1
    path.write_bytes(content)
    assert store.maps("rise", "k") is None


@pytest.mark.parametrize(
    "text", ["", "[", "{}", "[1]", '[{"values": {}}]', '["a"]', "null", '"a"', "\udcff"]
)
def test_broken_readings_are_made_again(store, text):
    store.keep_readings("rise", "road", "k", READINGS)
    only_file(store).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert not store.readings("rise", "road", "k")


def test_broken_numbers_are_made_again(store):
    store.keep_numbers("time", "rise", "k", 1)
    only_file(store).write_bytes(b"\xff{")
    assert store.numbers("time", "rise", "k", same) is None


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError])
def test_numbers_that_cannot_be_what_is_asked_for_are_made_again(store, error):
    def refuse(_):
        raise error

    store.keep_numbers("time", "rise", "k", {})
    assert store.numbers("time", "rise", "k", refuse) is None
    assert store.numbers("time", "rise", "k", len) == 0


def test_a_fingerprint_stands_for_everything_given():
    one = fingerprint("a", {"x": 1, "y": 2}, [1.0, (2, 3)])
    assert one == fingerprint("a", {"y": 2, "x": 1}, [1.0, [2, 3]])
    assert len(one) == 16
    others = [
        fingerprint("a", {"x": 1, "y": 3}, [1.0, (2, 3)]),
        fingerprint("a", {"x": 1}, [1.0, (2, 3)]),
        fingerprint("b", {"x": 1, "y": 2}, [1.0, (2, 3)]),
        fingerprint("a", {"x": 1, "y": 2}, [1.0, (3, 2)]),
        fingerprint("a", {"x": 1, "y": 2}),
        fingerprint(["a", {"x": 1, "y": 2}, [1.0, (2, 3)]]),
    ]
    assert len({one, *others}) == 7
