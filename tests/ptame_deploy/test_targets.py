"""Maps of classes that were named at export, whatever the classifier answers."""

import json

import numpy as np
import pytest

from ptame_deploy import Explainer
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration

NAMES = [f"Ding {number}" for number in range(10)]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    path = tmp_path_factory.mktemp("targets") / "names.txt"
    path.write_text("\n".join(NAMES))
    return path


@pytest.fixture(scope="module")
def targeted(tmp_path_factory, export_own, names):
    directory = tmp_path_factory.mktemp("targets") / "model"
    chosen = ["--target", "Ding 7", "--target", "2", "--target", "7"]
    assert export_own(directory, *chosen, "--class-names", str(names)) == 0
    return directory


@pytest.fixture(scope="module")
def asked(tmp_path_factory, export_own):
    directory = tmp_path_factory.mktemp("targets") / "asked"
    assert export_own(directory, "--classes", "input") == 0
    return directory


def test_every_photo_is_explained_for_the_same_classes(targeted, asked, real_photos):
    photos = [real_photos[name] for name in ("chelsea", "coffee", "astronaut")]
    found = Explainer.load(targeted)(photos)
    assert found.class_index.tolist() == [[7, 2]] * 3
    assert found.label(0) == "Ding 7"
    expected = Explainer.load(asked)(photos, [7, 2])
    np.testing.assert_allclose(found.saliency, expected.saliency, atol=1e-4)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-5)


def test_it_says_so(targeted, real_photos, tmp_path, capsys):
    assert run(["inspect", str(targeted)]) == 0
    assert "Ding 7, Ding 2, whatever the answer" in capsys.readouterr().out
    photo = str(real_photos["chelsea"])
    assert run(["explain", str(targeted), photo, "--class", "1", "-o", str(tmp_path)]) == 2
    assert "explains Ding 7, Ding 2, whatever the answer" in capsys.readouterr().err


def test_a_named_class_is_held_against_the_best_other_one(tmp_path, export_own, real_photos):
    photo = real_photos["chelsea"]
    assert export_own(tmp_path / "best", "--contrast", "--top-k", "2") == 0
    first, second = Explainer.load(tmp_path / "best")(photo).class_index[0].tolist()
    chosen = ["--target", str(second), "--target", str(first)]
    assert export_own(tmp_path / "named", "--contrast", *chosen) == 0
    found = Explainer.load(tmp_path / "named")(photo)
    assert found.class_index.tolist() == [[second, first]]
    assert found.against.tolist() == [[first, second]]


def test_it_is_lowered_like_any_other(targeted, make_photos, tmp_path):
    lowered, photos = tmp_path / "fp16", tmp_path / "photos"
    photos.mkdir()
    make_photos(photos, 8)
    assert run(["quantize", str(targeted), str(photos), "--precision", "fp16",
                "--allow-drift", "-o", str(lowered)]) == 0  # fmt: skip
    found = Explainer.load(lowered)(min(photos.iterdir()))
    assert found.class_index.tolist() == [[7, 2]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "Dinge 7"], "Did you mean Ding 7"),
        (["--target", "10"], "there are 0 to 9"),
        (["--target", "1", "--top-k", "2"], "leave out --top-k and --classes"),
        (["--target", "1", "--classes", "input"], "leave out --top-k and --classes"),
    ],
)
def test_bad_targets_are_2(tmp_path, export_tiny, names, capsys, options, message):
    assert export_tiny(tmp_path / "m", *options, "--class-names", str(names)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("targets", [[7], [7, 10], [-1, 2]])
def test_json_that_contradicts_itself_is_refused(targeted, targets):
    record = json.loads((targeted / "model.json").read_text())
    with pytest.raises(ValueError, match="do not fit top_k 2"):
        GraphManifest.model_validate(record | {"targets": targets})
