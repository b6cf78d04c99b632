import re
from hashlib import sha256

import numpy as np
import pytest

from bench.measures.judge import as_uint8
from bench.methods.given_maps import GivenMaps, given_method
from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.unit

CLASSES = np.array([0, 0, 0])


def hashes(images):
    return [sha256(one.tobytes()).hexdigest() for one in as_uint8(images)]


@pytest.fixture
def names(batch_of_3):
    files = ("cats/1.jpg", "cats/2.jpg", "dog.png")
    return dict(zip(hashes(batch_of_3), files, strict=True))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cats").mkdir()
    np.save(tmp_path / "cats/1.npy", np.full((4, 5), 1, np.float64))
    np.save(tmp_path / "cats/2.jpg.npy", np.full((4, 5), 2, np.uint8))
    np.save(tmp_path / "dog.npy", np.stack([np.full((4, 5), 3.0), np.full((4, 5), 9.0)]))
    return tmp_path


def method(folder, names):
    return given_method(GivenMaps("Tool", folder), names, (64, 80))


def test_each_photo_gets_its_own_map(folder, names, batch_of_3):
    maps = method(folder, names).explain(batch_of_3, CLASSES)
    assert maps.shape == (3, 4, 5)
    assert maps.dtype == np.float32
    assert [one.mean() for one in maps] == [1, 2, 3]
    backwards = method(folder, names).explain(batch_of_3[::-1], CLASSES)
    assert [one.mean() for one in backwards] == [3, 2, 1]


def test_photos_of_one_stem_need_their_whole_names(folder, names, batch_of_3):
    first, second, third = names
    twins = {first: "cats/1.jpg", second: "cats/1.png", third: "dog.png"}
    with pytest.raises(InvalidInputError, match=r"2 of 3 photos .*(\s.*)*cats/1\.jpg\.npy"):
        method(folder, twins)
    for ending, value in (("jpg", 5), ("png", 6)):
        np.save(folder / f"cats/1.{ending}.npy", np.full((4, 5), value))
    maps = method(folder, twins).explain(batch_of_3, CLASSES)
    assert [one.mean() for one in maps] == [5, 6, 3]


def test_maps_may_be_one_cell_off_and_flat_ones_are_told(folder, names, batch_of_3):
    for path in folder.rglob("*.npy"):
        np.save(path, np.arange(42.0).reshape(6, 7))
    assert method(folder, names).explain(batch_of_3, CLASSES).shape == (3, 6, 7)
    assert len(method(folder, names).cautions) == 1
    np.save(folder / "dog.npy", np.ones((6, 7)))
    assert method(folder, names).cautions[1] == "1 of 3 maps are the same everywhere"


def test_its_identity_is_its_maps(folder, names):
    before = method(folder, names).identity
    assert method(folder, names).identity == before
    np.save(folder / "cats/1.npy", np.full((4, 5), 1.5))
    assert method(folder, names).identity != before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.zeros((8, 10)), "several sizes"),
        (np.zeros((4, 9)), "another shape than the 64 x 80 pixels"),
        (np.zeros((64, 80, 3)), "another shape than the 64 x 80 pixels"),
        (np.zeros((64, 80, 1)), "another shape than the 64 x 80 pixels"),
        (np.zeros(4), "(4,), not a map"),
        (np.zeros((0, 4, 5)), "(0, 4, 5), not a map"),
        (np.zeros((4, 0)), "(4, 0), not a map"),
        (np.zeros((1, 5000)), "(1, 5000), not a map"),
        (np.full((4, 5), np.nan), "NaN, infinite or over float32"),
        (np.full((4, 5), 1e300), "NaN, infinite or over float32"),
        (np.zeros((4, 5), complex), "holds complex128"),
        (np.full((4, 5), "a"), "holds <U1"),
    ],
)
def test_what_is_no_map_is_refused(folder, names, content, says):
    np.save(folder / "dog.npy", content)
    with pytest.raises(InvalidInputError, match=re.escape(says)):
        method(folder, names)


def test_objects_and_other_files_are_refused(folder, names):
    np.save(folder / "dog.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InvalidInputError, match=r"dog\.npy is no whole array"):
        method(folder, names)
    (folder / "dog.npy").write_bytes(b"no array")
    with pytest.raises(InvalidInputError, match=r"dog\.npy is no whole array"):
        method(folder, names)
    (folder / "dog.npy").unlink()
    with pytest.raises(InvalidInputError, match=r"1 of 3 photos have no map[\s\S]*dog\.npy"):
        method(folder, names)


def test_a_header_that_promises_more_than_there_is_is_refused(folder, names):
    path = folder / "dog.npy"
    np.save(path, np.zeros((4, 5)))
    path.write_bytes(path.read_bytes().replace(b"(4, 5)", b"(9, 9)"))
    with pytest.raises(InvalidInputError, match="is no whole array"):
        method(folder, names)
