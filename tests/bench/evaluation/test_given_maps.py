"""`ptame evaluate --maps`: maps that another tool made stand in the same tables."""

import json
import shutil

import numpy as np
import pytest

from bench.evaluation.results import Evaluation
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration

QUICK = ("--methods", "gaussian", "--measures", "drop-matched,insertion", "--steps", "4",
         "--sanity-photos", "1", "--threads", "1")  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), 4)


@pytest.fixture(scope="module")
def maps(tiny_artifact, photos, tmp_path_factory):
    """The graph's own maps, as `ptame explain` writes them."""
    folder = tmp_path_factory.mktemp("explained") / "maps"
    words = ["explain", str(tiny_artifact), str(photos), "--save-maps", "-o", str(folder)]
    assert run(words) == 0
    return folder


def evaluate(model, photos, output, *options):
    words = ["evaluate", "--model", str(model), "--images", str(photos), "-o", str(output)]
    return run([*words, *QUICK, *options])


@pytest.fixture(scope="module")
def done(tiny_artifact, photos, maps, tmp_path_factory):
    flipped = tmp_path_factory.mktemp("flipped")
    for path in maps.glob("*.npy"):
        np.save(flipped / f"{path.stem}.png.npy", -np.load(path)[0].astype(np.float64))
    output = tmp_path_factory.mktemp("evaluation") / "out"
    given = ("--maps", f"Same maps={maps}", "--maps", f"Turned={flipped}")
    assert evaluate(tiny_artifact, photos, output, *given) == 0
    return output


@pytest.fixture(scope="module")
def evaluation(done):
    return Evaluation.model_validate_json((done / "results.json").read_text())


def test_the_same_maps_get_the_same_values(evaluation):
    same, own = evaluation.method("given-same-maps"), evaluation.method("p-tame")
    assert same.values.keys() == own.values.keys()
    for name, value in same.values.items():
        assert value.mean == pytest.approx(own.values[name].mean, abs=1e-3)
    assert all(one.mean == pytest.approx(0, abs=1e-3) for one in same.against_reference.values())


def test_turned_maps_are_judged_as_what_they_are(evaluation):
    turned, own = evaluation.method("given-turned"), evaluation.method("p-tame")
    assert turned.values["insertion"].mean != pytest.approx(own.values["insertion"].mean, abs=1e-3)
    assert turned.photos == 4


def test_nothing_is_claimed_that_was_not_measured_here(done, evaluation):
    given = evaluation.method("given-same-maps")
    assert given.time is None
    assert given.cost is None
    assert set(given.sanity.reasons.values()) == {"maps that were made elsewhere"}
    assert "taken to be of the class" in given.cautions[0]
    text = (done / "report.html").read_text()
    assert "Same maps" in text
    assert "maps that were made elsewhere" in text
    line = next(row for row in (done / "table.md").read_text().splitlines() if "Same maps" in row)
    assert "made elsewhere" not in line
    assert all("given-turned" in entry.overlays for entry in evaluation.gallery)


def test_other_maps_are_not_taken_from_the_store(done, tiny_artifact, photos, maps, tmp_path):
    output, changed = tmp_path / "out", tmp_path / "changed"
    shutil.copytree(done, output)
    changed.mkdir()
    for path in maps.glob("*.npy"):
        np.save(changed / path.name, np.load(path)[0].T)
    given = ("--resume", "--maps", f"Same maps={changed}")
    assert evaluate(tiny_artifact, photos, output, *given) == 0
    found = json.loads((output / "results.json").read_text())["methods"]
    same = next(method for method in found if method["name"] == "given-same-maps")
    before = json.loads((done / "results.json").read_text())["methods"]
    old = next(method for method in before if method["name"] == "given-same-maps")
    assert same["values"]["insertion"]["mean"] != old["values"]["insertion"]["mean"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("no folder", "give LABEL=FOLDER"),
        ("=maps", "give LABEL=FOLDER"),
        ("***=maps", "with a letter from A to Z"),
        ("A=none", "none is no folder"),
    ],
)
def test_what_is_no_folder_of_maps_is_refused(tiny_artifact, photos, tmp_path, capsys, given, says):
    assert evaluate(tiny_artifact, photos, tmp_path / "out", "--maps", given) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_label_twice_is_refused(tiny_artifact, photos, maps, tmp_path, capsys):
    given = ("--maps", f"One tool={maps}", "--maps", f"one  tool={maps}")
    assert evaluate(tiny_artifact, photos, tmp_path / "out", *given) == 2
    assert "do not differ in letters" in capsys.readouterr().err


def test_a_label_of_another_method_is_refused(tiny_artifact, photos, maps, tmp_path, capsys):
    given = ("--maps", f"P-tame, untrained start={maps}")
    assert evaluate(tiny_artifact, photos, tmp_path / "out", *given) == 2
    assert "choose another label" in capsys.readouterr().err
