import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ptame_deploy import Explainer
from ptame_deploy.errors import (
    ArtifactError,
    CheckFailedError,
    InvalidInputError,
    MissingRequirementError,
)
from ptame_deploy.photos import open_photo
from ptame_deploy.preprocessing import to_float

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def explainer(tiny_artifact):
    return Explainer.load(tiny_artifact, batch_size=2)


@pytest.fixture(scope="module")
def chooser(tiny_classes_artifact):
    return Explainer.load(tiny_classes_artifact)


def test_three_lines(tiny_artifact, photo_folder):
    explanation = Explainer.load(tiny_artifact)(sorted(photo_folder.iterdir()))
    assert explanation.class_index.shape == explanation.probability.shape == (3, 2)
    assert explanation.saliency.shape == (3, 2, 16, 16)
    assert explanation.logits.shape == (3, 10)
    assert (explanation.probability[:, 0] >= explanation.probability[:, 1]).all()
    exponent = np.exp(explanation.logits.astype(np.float64))
    expected = (exponent / exponent.sum(1, keepdims=True)).max(1)
    np.testing.assert_allclose(explanation.probability[:, 0], expected, rtol=1e-5)
    assert explanation.label(0) == f"class {explanation.class_index[0, 0]}"


def test_batches_do_not_mix_and_keep_their_order(explainer, photo_folder):
    paths = sorted(photo_folder.iterdir()) * 2  # 6 photos in batches of 2
    together = explainer(paths)
    assert len(together) == 6
    for i, path in enumerate(paths):
        alone = explainer(path)
        np.testing.assert_array_equal(alone.class_index[0], together.class_index[i])
        np.testing.assert_allclose(alone.saliency[0], together.saliency[i], atol=1e-4)
    assert np.abs(together.saliency[0] - together.saliency[1]).max() > 0.05


def test_every_kind_of_photo_gives_the_same(explainer, photo_folder):
    path = photo_folder / "a.png"
    pixels = np.asarray(open_photo(path))
    expected = explainer(path)
    for photo in (str(path), Image.open(path), pixels, [pixels], pixels[None]):
        np.testing.assert_array_equal(explainer(photo).logits, expected.logits)


@pytest.mark.parametrize("kind", ["exif", "alpha", "sixteen bits", "palette"])
def test_an_opened_image_is_treated_as_its_file(explainer, photo_folder, tmp_path, kind):
    image, options = Image.open(photo_folder / "c.png").convert("RGB"), {}
    if kind == "exif":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    elif kind == "alpha":
        image.putalpha(image.convert("L"))
    elif kind == "palette":
        image, options["transparency"] = image.quantize(8), 0
    else:
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200)
    image.save(tmp_path / "x.png", **options)
    with Image.open(tmp_path / "x.png") as opened:
        from_image = explainer(opened)
    np.testing.assert_array_equal(from_image.logits, explainer(tmp_path / "x.png").logits)


def test_it_runs_what_the_graph_answers(explainer, photo_folder, tiny_artifact):
    import onnxruntime

    prepared = explainer.prepare(photo_folder / "a.png")
    assert prepared.shape == (64, 64, 3)
    session = onnxruntime.InferenceSession(str(tiny_artifact / "model.onnx"))
    logits, index, saliency = session.run(None, {"image": to_float(prepared[None])})
    explanation = explainer(photo_folder / "a.png")
    np.testing.assert_array_equal(explanation.logits, logits)
    np.testing.assert_array_equal(explanation.class_index, index)
    np.testing.assert_array_equal(explanation.saliency, saliency)


def test_chosen_classes(chooser, photo_folder):
    paths = sorted(photo_folder.iterdir())
    same = chooser(paths, class_index=[3, 7])
    assert same.class_index.tolist() == [[3, 7]] * 3
    own = chooser(paths, class_index=[[3], [7], [0]])
    np.testing.assert_allclose(own.saliency[0, 0], same.saliency[0, 0], atol=1e-5)
    np.testing.assert_allclose(own.saliency[1, 0], same.saliency[1, 1], atol=1e-5)
    assert np.abs(same.saliency[:, 0] - same.saliency[:, 1]).max() > 0.05
    softmax = np.exp(same.logits) / np.exp(same.logits).sum(1, keepdims=True)
    np.testing.assert_allclose(same.probability, softmax[:, [3, 7]], rtol=1e-4)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "say which classes"),
        ([10], "Class 10 does not exist"),
        ([-1], "Class -1 does not exist"),
        ([[1], [2]], "for 2 photos, there are 3"),
        ([], "must be integers"),
        ([0.5], "must be integers"),
        (3, "must be integers"),
    ],
)
def test_classes_that_do_not_fit(chooser, photo_folder, classes, message):
    with pytest.raises(InvalidInputError, match=message):
        chooser(sorted(photo_folder.iterdir()), class_index=classes)


def test_classes_where_the_graph_takes_none(explainer, photo_folder):
    with pytest.raises(InvalidInputError, match="--classes input"):
        explainer(photo_folder / "a.png", class_index=[1])


@pytest.mark.parametrize(
    "images",
    [
        [],
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 4, 3), np.uint8),
        [3],
        "no such file.jpg",
    ],
)
def test_images_that_are_none(explainer, images):
    with pytest.raises(InvalidInputError):
        explainer(images)


def test_runtime_checks_its_inputs(explainer):
    run = explainer.runtime.run
    good = np.zeros((1, 3, 64, 64), np.float32)
    assert set(run({"image": good})) == {"logits", "class_index", "saliency"}
    for inputs in (
        {},
        {"image": good, "more": good},
        {"image": good.astype(np.float64)},
        {"image": good[0]},
        {"image": good[:0]},
        {"image": np.zeros((1, 3, 65, 64), np.float32)},
    ):
        with pytest.raises(InvalidInputError):
            run(inputs)


def test_bad_batch_size_and_provider(tiny_artifact):
    with pytest.raises(InvalidInputError, match="batch size"):
        Explainer.load(tiny_artifact, batch_size=0)
    with pytest.raises(MissingRequirementError, match="has no TensorrtExecutionProvider"):
        Explainer.load(tiny_artifact, providers=["TensorrtExecutionProvider"])


def test_a_graph_that_matches_its_hash_but_is_no_graph(tiny_artifact, tmp_path):
    import json

    from ptame_deploy.storage import sha256_of_file

    shutil.copytree(tiny_artifact, tmp_path / "m")
    (tmp_path / "m" / "model.onnx").write_bytes(b"no graph")
    manifest = json.loads((tmp_path / "m" / "model.json").read_text())
    sha256 = sha256_of_file(tmp_path / "m" / "model.onnx")
    manifest["files"] = {"model.onnx": {"bytes": 8, "sha256": sha256}}
    (tmp_path / "m" / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="cannot be loaded by ONNX Runtime"):
        Explainer.load(tmp_path / "m")


def test_two_distributions_of_onnxruntime_are_refused(monkeypatch):
    from importlib import metadata

    from ptame_deploy import onnx_session

    found = {"onnxruntime", "onnxruntime-gpu"}

    def distribution(name):
        if name not in found:
            raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(onnx_session.metadata, "distribution", distribution)
    onnx_session.check_onnxruntime.cache_clear()
    try:
        with pytest.raises(MissingRequirementError, match="overwrite each other's files"):
            onnx_session.check_onnxruntime()
        found.clear()
        with pytest.raises(MissingRequirementError, match="not installed"):
            onnx_session.check_onnxruntime()
        found.add("onnxruntime-gpu")
        assert onnx_session.check_onnxruntime() == "onnxruntime-gpu"
    finally:
        onnx_session.check_onnxruntime.cache_clear()


WITHOUT = "torch torchvision timm onnx onnxscript lightning safetensors huggingface_hub"


def test_explaining_needs_no_torch(tiny_artifact, photo_folder, tmp_path):
    """As on a production machine: the packages that export needs cannot be imported."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({WITHOUT!r}.split()))\n"
        "from ptame_deploy.cli import run\n"
        "import ptame_deploy\n"
        "code = run(sys.argv[1:])\n"
        f"ptame_deploy.Explainer.load(sys.argv[2])({str(photo_folder / 'a.png')!r})\n"
        "sys.exit(code)\n"
    )
    arguments = ["explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a.png").is_file()


def test_answers_that_are_no_numbers_are_refused(tiny_artifact, photo_folder):
    class Broken:
        description = "toy"

        def run(self, inputs):
            answers = runtime.run(inputs)
            answers["logits"][1, 3] = np.nan
            return answers

    explainer = Explainer.load(tiny_artifact)
    runtime, explainer.runtime = explainer.runtime, Broken()
    with pytest.raises(CheckFailedError, match="1 of 3 photos with logits that are NaN"):
        explainer(sorted(photo_folder.iterdir()))
