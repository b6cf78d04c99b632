import os
from pathlib import Path

import numpy as np
import pytest
from judges import PatchRuntime
from PIL import Image

from bench.evaluation.photos import choose_photos, judge_photos, load_images, photo_names
from bench.measures.judge import Judge
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.preprocessing import Preprocessing

pytestmark = pytest.mark.unit

PREPROCESSING = Preprocessing(input_size=(64, 64), resize=72)


@pytest.fixture
def folder(tmp_path, make_photos):
    (tmp_path / "photos").mkdir()
    return make_photos(tmp_path / "photos", 5)


@pytest.fixture
def workspace(tmp_path):
    return tmp_path / "work"


def listed(folder):
    paths = sorted(folder.iterdir())
    return list(zip(paths, photo_names(paths, [folder]), strict=True))


def judged(chosen, workspace, runtime=None, **changes):
    given = {"preprocessing": PREPROCESSING, "judge_identity": "one", "batch": 2, **changes}
    judge = Judge(runtime or PatchRuntime(), batch=given["batch"])
    identity = given["judge_identity"]
    return judge_photos(chosen, given["preprocessing"], judge, identity, workspace)


PATHS = [Path(f"{number}.png") for number in range(40)]
NAMES = [path.name for path in PATHS]


def test_the_order_is_drawn_by_the_seed():
    order = choose_photos(PATHS, NAMES, None, 0)
    assert order == choose_photos(PATHS, NAMES, None, 0)
    assert sorted(order) == sorted(zip(PATHS, NAMES, strict=True))
    assert order != list(zip(PATHS, NAMES, strict=True))
    assert order != choose_photos(PATHS, NAMES, None, 1)


@pytest.mark.parametrize("limit", [1, 7, 40, 99])
def test_a_limit_takes_the_first_of_the_same_order(limit):
    assert choose_photos(PATHS, NAMES, limit, 3) == choose_photos(PATHS, NAMES, None, 3)[:limit]


def test_names_are_paths_below_what_was_given():
    roots = [Path("a"), Path("b.png")]
    (found,) = photo_names([Path("b.png")], roots)
    assert found == "b.png"


def test_names_are_unique_whatever_is_given(tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    for root in (first, second):
        (root / "sub").mkdir(parents=True)
    odd = tmp_path / "a.png (2)"
    paths = [first / "a.png", second / "a.png", odd, first / "sub" / "a.png", second / "b.png"]
    names = photo_names(paths, [first, second, odd])
    assert names[0] == "a.png"
    assert names[3] == "sub/a.png"
    assert names[4] == "b.png"
    assert len(set(names)) == len(names)


def test_names_can_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff\n.png")
    (name,) = photo_names([path], [tmp_path])
    name.encode("utf-8")


def test_the_judges_best_classes_are_noted(folder, workspace):
    chosen = listed(folder)
    found = judged(chosen, workspace)
    assert [photo.name for photo in found.photos] == [name for _, name in chosen]
    assert found.skipped == []
    images = load_images(found.photos, PREPROCESSING)
    assert images.shape == (5, 3, 64, 64)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    probability = Judge(PatchRuntime()).classify(images)
    for row, photo in zip(probability, found.photos, strict=True):
        assert (photo.class_index, photo.second_index) == tuple(np.argsort(-row)[:2])
        assert photo.probability == pytest.approx(row.max(), rel=1e-6)
        assert (photo.width, photo.height) == (90, 80)
    assert len({photo.sha256 for photo in found.photos}) == 5


def test_photos_hashes_in_order_make_the_sets_hash(folder, workspace):
    chosen = listed(folder)
    one = judged(chosen, workspace).sha256
    assert judged(chosen, workspace / "x").sha256 == one
    assert judged(chosen[::-1], workspace).sha256 != one
    assert judged(chosen[:4], workspace).sha256 != one


def test_what_is_known_is_not_asked_again(folder, workspace):
    chosen, runtime = listed(folder), PatchRuntime()
    found = judged(chosen, workspace, runtime)
    asked = runtime.asked
    assert asked == 6  # five photos in full batches of two
    assert judged(chosen, workspace, runtime) == found
    assert runtime.asked == asked
    judged(chosen, workspace, runtime, judge_identity="another")
    assert runtime.asked == 2 * asked
    judged(chosen, workspace, runtime, preprocessing=Preprocessing(input_size=(64, 64), resize=80))
    assert runtime.asked == 3 * asked
    Image.new("RGB", (80, 80), "red").save(chosen[0][0])
    assert judged(chosen, workspace, runtime).photos[0] != found.photos[0]


def test_another_name_for_the_same_file_is_taken_over(folder, workspace):
    chosen = listed(folder)
    judged(chosen, workspace)
    renamed = [(path, f"photos/{name}") for path, name in chosen]
    found = judged(renamed, workspace)
    assert [photo.name for photo in found.photos] == [name for _, name in renamed]


def test_broken_notes_are_made_again(folder, workspace):
    chosen = listed(folder)
    found = judged(chosen, workspace)
    (notes,) = workspace.iterdir()
    notes.write_text(notes.read_text()[:40])
    assert judged(chosen, workspace) == found


def test_what_cannot_be_read_is_named_and_left_out(folder, workspace):
    (folder / "01.png").write_bytes(b"no photo")
    (folder / "03.png").write_bytes((folder / "02.png").read_bytes()[:200])
    chosen = listed(folder)
    found = judged(chosen, workspace)
    assert [photo.name for photo in found.photos] == ["00.png", "02.png", "04.png"]
    assert len(found.skipped) == 2
    assert "01.png" in found.skipped[0]
    assert "03.png" in found.skipped[1]
    assert judged(chosen, workspace) == found  # as it is remembered


def test_no_photo_at_all_is_an_error(folder, workspace):
    for path in folder.iterdir():
        path.write_bytes(b"no photo")
    with pytest.raises(InvalidInputError, match=r"None of the 5 photos can be read: .*00.png"):
        judged(listed(folder), workspace)


def test_a_photo_changed_meanwhile_ends_the_evaluation(folder, workspace):
    photos = judged(listed(folder), workspace).photos
    Image.new("RGB", (90, 80), "red").save(folder / "03.png")
    load_images(photos[:3], PREPROCESSING)
    with pytest.raises(InvalidInputError, match=r"03.png was changed"):
        load_images(photos, PREPROCESSING)


def test_one_class_cannot_be_judged(folder, workspace):
    class One:
        description = "one"

        def run(self, inputs):
            return {"logits": np.zeros((len(inputs["image"]), 1), np.float32)}

    with pytest.raises(InvalidInputError, match="one class"):
        judged(listed(folder), workspace, One())


def test_progress_counts_every_photo(folder, workspace):
    (folder / "01.png").write_bytes(b"no photo")
    told = []
    judge = Judge(PatchRuntime(), batch=2)
    judge_photos(listed(folder), PREPROCESSING, judge, "one", workspace, advance=told.append)
    assert sum(told) == 5
