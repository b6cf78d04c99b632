import os

import numpy as np
import pytest
from toy_evaluations import Brightness, bench_of, method_of

from bench.evaluation.collect import CHUNK, as_saliency, checked, collect, read_maps
from bench.evaluation.store import StoredMaps
from bench.methods.method import MethodFailedError
from ptame_deploy.errors import CheckFailedError

pytestmark = pytest.mark.unit

COUNT = 11  # one full chunk and a rest
COLUMNS = {"ad100_matched", "ic100_matched", "ad50_matched", "ic50_matched", "ad15_matched",
           "ic15_matched", "insertion"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), COUNT)


@pytest.fixture
def toy(folder, tmp_path):
    return bench_of(folder, tmp_path / "work")


def parts(bench):
    return {path: path.stat().st_mtime_ns for path in bench.store.directory.rglob("*.*")}


def test_every_photo_gets_its_own_values_in_order(toy):
    method = method_of(Brightness())
    found = collect(toy.bench, method, toy.photos)
    assert set(found.values) == COLUMNS
    assert (found.photos, found.other_class) == (COUNT, 0)
    assert found.curves["insertion"].shape == (COUNT, 5)
    for place in (0, 4, CHUNK, COUNT - 1):  # alone, without store and chunks
        photo = toy.photos[place : place + 1]
        maps = method.explain(toy.bench.images(photo), np.array([photo[0].class_index]))
        for (reading,) in read_maps(toy.bench, toy.bench.measures, photo, maps).values():
            for name, value in reading.values.items():
                assert found.values[name][place] == pytest.approx(value, abs=1e-5)
            if reading.curve is not None:
                np.testing.assert_allclose(
                    found.curves["insertion"][place], reading.curve, atol=1e-6
                )
    assert len(np.unique(found.values["insertion"])) == COUNT


def test_a_better_map_has_better_values(toy):
    """The classifier looks at known squares; a map of just those must beat its opposite."""
    from judges import PatchRuntime

    def squares(images, index):
        maps = np.zeros((len(images), 64, 64), np.float32)
        for one, label in zip(maps, index, strict=True):
            one[PatchRuntime.squares.get(int(label), (slice(0), slice(0)))] = 1
        return maps

    photos = [photo for photo in toy.photos if photo.class_index in PatchRuntime.squares]
    assert len(photos) >= 3
    good = collect(toy.bench, method_of(squares, "good"), photos).values
    bad = collect(toy.bench, method_of(lambda i, c: 1 - squares(i, c), "bad"), photos).values
    assert good["insertion"].mean() > bad["insertion"].mean()
    assert good["ad15_matched"].mean() < bad["ad15_matched"].mean()


def test_what_is_done_is_not_done_again(toy):
    brightness = Brightness()
    method = method_of(brightness)
    first = collect(toy.bench, method, toy.photos)
    assert brightness.calls == [8, 3]
    asked, before = toy.runtime.asked, parts(toy.bench)
    second = collect(toy.bench, method, toy.photos)
    assert brightness.calls == [8, 3]
    assert toy.runtime.asked == asked
    assert parts(toy.bench) == before
    for name in COLUMNS:
        np.testing.assert_array_equal(first.values[name], second.values[name])
    np.testing.assert_array_equal(first.curves["insertion"], second.curves["insertion"])


def test_a_new_measure_asks_only_for_itself(folder, tmp_path):
    brightness = Brightness()
    method = method_of(brightness)
    one = bench_of(folder, tmp_path, ("insertion",))
    first = collect(one.bench, method, one.photos).values
    both = bench_of(folder, tmp_path, ("insertion", "drop-matched"))
    found = collect(both.bench, method, both.photos).values
    assert brightness.calls == [8, 3]
    np.testing.assert_array_equal(found["insertion"], first["insertion"])
    assert both.runtime.asked == 2 * 3 * 4 + 9 + 3  # three copies each, chunk by chunk, in fours
    fresh = bench_of(folder, tmp_path / "x", ("drop-matched",))
    alone = collect(fresh.bench, method, fresh.photos).values
    np.testing.assert_array_equal(found["ad50_matched"], alone["ad50_matched"])


@pytest.mark.parametrize(
    "changes",
    [{"settings": {"x": 1}}, {"identity": "other"}, {"precision": "fp16"}],
)
def test_other_settings_networks_or_precision_are_made_anew(toy, changes):
    brightness = Brightness()
    collect(toy.bench, method_of(brightness), toy.photos)
    collect(toy.bench, method_of(brightness, **changes), toy.photos)
    assert brightness.calls == [8, 3, 8, 3]


def test_a_removed_or_broken_part_alone_is_made_again(toy):
    brightness = Brightness()
    method = method_of(brightness)
    first = collect(toy.bench, method, toy.photos).values
    before = parts(toy.bench)
    (values,) = [path for path in before if "insertion" in str(path)][:1]
    values.write_text("[")
    os.utime(values, ns=(0, 0))
    second = collect(toy.bench, method, toy.photos).values
    after = parts(toy.bench)
    assert brightness.calls == [8, 3]
    assert [path for path in before if before[path] != after[path]] == [values]
    np.testing.assert_array_equal(first["insertion"], second["insertion"])


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"costly_passes": 100}, COUNT),  # as many passes as allowed are not costly
        ({"costly_passes": 99}, COUNT),
        ({"costly_passes": 99, "costly_limit": 4}, 4),
        ({"costly_passes": 99, "costly_budget": 399}, 3),
        ({"costly_passes": 99, "costly_budget": 5}, 1),
        ({"costly_passes": 99, "costly_limit": 2, "costly_budget": 500}, 2),
    ],
)
def test_a_costly_method_runs_on_the_first_photos_one_by_one(folder, tmp_path, limits, count):
    toy = bench_of(folder, tmp_path, ("insertion",), **limits)
    brightness = Brightness()
    found = collect(toy.bench, method_of(brightness, passes=100), toy.photos)
    assert found.photos == count
    assert len(found.curves["insertion"]) == count
    measured = ~np.isnan(found.values["insertion"])
    np.testing.assert_array_equal(measured, np.arange(COUNT) < count)
    costly = limits["costly_passes"] < 100
    assert brightness.calls == ([1] * count if costly else [8, 3])


def test_a_costly_methods_values_are_those_of_a_cheap_one(folder, tmp_path):
    method = method_of(Brightness(), passes=100)
    few = bench_of(folder, tmp_path / "a", costly_limit=3)
    every = bench_of(folder, tmp_path / "b", costly_passes=1000)
    one = collect(few.bench, method, few.photos).values
    other = collect(every.bench, method, every.photos).values
    for name in COLUMNS:
        np.testing.assert_allclose(one[name][:3], other[name][:3], atol=1e-5)


def test_a_method_that_chooses_its_class_says_on_how_many(toy):
    def own(_images, asked):
        return np.where(np.arange(len(asked)) == 0, asked + 1, asked)

    method = method_of(Brightness(), own_classes=own)
    assert collect(toy.bench, method, toy.photos).other_class == 2  # the first of each chunk
    assert collect(toy.bench, method, toy.photos).other_class == 2  # and from the store


def test_progress_counts_photos(toy):
    told = []
    collect(toy.bench, method_of(Brightness()), toy.photos, advance=told.append)
    assert told == [8, 3]


def test_maps_of_any_size_and_range_become_saliency():
    one = np.array([[-5.0, 0.0], [0.0, 15.0]], np.float32)
    found = as_saliency(one, (64, 32))
    assert found.shape == (64, 32)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, 1)
    assert found[0, 0] == 0
    assert found[-1, -1] == 1
    np.testing.assert_array_equal(as_saliency(3 * one + 7, (64, 32)).argmax(), found.argmax())
    flat = as_saliency(np.full((4, 4), 3.0, np.float32), (8, 8))
    np.testing.assert_array_equal(flat, np.zeros((8, 8)))


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.zeros((2, 4, 4)), "2, 4, 4"),
        (np.zeros((3, 1, 4, 4)), "not one map"),
        (np.zeros((3, 16)), "not one map"),
        (np.full((3, 4, 4), np.nan), "NaN or infinity"),
        (np.full((3, 4, 4), np.inf), "NaN or infinity"),
    ],
)
def test_maps_that_are_none_are_refused(toy, maps, message):
    with pytest.raises(CheckFailedError, match=f"Toy gives .*{message}"):
        checked(maps.astype(np.float32), 3, "Toy")
    with pytest.raises(MethodFailedError, match=message):
        collect(toy.bench, method_of(lambda *_: maps.astype(np.float32)), toy.photos[:3])
    assert not (toy.bench.store.directory / "maps").exists()


def test_an_exponent_keeps_the_ranking(toy):
    """What is read of ranks alone cannot move, however the maps are bent."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(4, 8, 8)).astype(np.float32)
    found = [
        read_maps(toy.bench, toy.bench.measures, toy.photos[:4], maps, exponent)
        for exponent in (0.35, 1.0, 3.0)
    ]
    for measure in toy.bench.measures:
        readings = [[dict(r.values) for r in one[measure]] for one in found]
        assert readings[0] == readings[1] == readings[2]


def test_an_exponent_moves_the_published_form(folder, tmp_path):
    toy = bench_of(folder, tmp_path, ("drop-published",))
    maps = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    found = [
        read_maps(toy.bench, toy.bench.measures, toy.photos[:4], maps, exponent)
        for exponent in (0.35, 1.0, 3.0)
    ]
    (measure,) = toy.bench.measures
    drops = [np.mean([r.values["ad100_published"] for r in one[measure]]) for one in found]
    assert drops[0] < drops[1] < drops[2]


@pytest.mark.parametrize("text", ["[]", "{}", '[{"values": {}, "curve": null}]'])
def test_stored_readings_that_are_not_of_every_photo_are_made_again(toy, text):
    method = method_of(Brightness())
    before = collect(toy.bench, method, toy.photos)
    broken = min((toy.bench.store.directory / "values" / "insertion").rglob("*.json"))
    broken.write_text(text)
    after = collect(toy.bench, method, toy.photos)
    for name, values in before.values.items():
        np.testing.assert_allclose(after.values[name], values, rtol=1e-6)
    assert after.curves["insertion"].shape == (COUNT, 5)


def test_stored_maps_that_are_not_of_every_photo_are_made_again(toy):
    explain = Brightness()
    method = method_of(explain)
    kept = toy.bench.made_maps(method, toy.photos[:3])
    fewer = StoredMaps(kept.maps[:2], kept.classes[:2])
    key = toy.bench.chunk_key(method, toy.photos[:3])
    toy.bench.store.keep_maps(method.name, key, fewer)
    np.testing.assert_array_equal(toy.bench.made_maps(method, toy.photos[:3]).maps, kept.maps)
    assert explain.calls == [3, 3]
