"""A classifier that strangers trained and exported, from its file to explained photos.

PaddleOCR's text direction classifier (Apache-2.0), exported by paddle2onnx: opset 11, images of
48 x 192, sides that the graph leaves open, softmax inside.
"""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw, ImageFont

from ptame_deploy import Explainer
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("PTAME_FOREIGN_MODELS", ROOT / ".foreign-models"))
NAME = "ch_ppocr_mobile_v2.0_cls_infer.onnx"
# As PaddleOCR prepares its lines of text.
PREPARED = ["--input-size", "48x192", "--resize", "48", "--mean", "0.5,0.5,0.5",
            "--std", "0.5,0.5,0.5"]  # fmt: skip
WORDS = ("EXPLAIN", "NETWORKS", "WINDOWS", "SATURDAY", "PHOTOGRAPH", "LANGUAGE", "MACHINES",
         "HARBOUR", "ELEPHANT", "MOUNTAIN", "KITCHEN", "QUESTION")  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    found = sorted(FOLDER.rglob(NAME))
    if not found:
        pytest.skip("make foreign-models brings it")
    return found[0]


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Lines of text, every other one upside down; returns the folder."""
    folder = tmp_path_factory.mktemp("lines")
    font = ImageFont.load_default(36)
    for number in range(2 * len(WORDS)):
        picture = Image.new("RGB", (192, 48), "white")
        place, text = (4 + number % 5, 2), WORDS[number // 2][:7]
        ImageDraw.Draw(picture).text(place, text, fill="black", font=font)
        picture = picture.rotate(180) if number % 2 else picture
        picture.save(folder / f"{number:02}-{'turned' if number % 2 else 'upright'}.png")
    return folder


def test_from_their_file_to_explained_photos(theirs, lines, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps(["upright", "turned"]))
    own = ["--backbone", str(theirs), *PREPARED, "--class-names", str(tmp_path / "names.json")]
    own += ["--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random"]
    explainer, model = tmp_path / "explainer", tmp_path / "m"
    train = ["train", str(lines), *own, "--auxiliary-size", "64", "--masks", "6"]
    assert run([*train, "--allow-no-gain", "-o", str(explainer)]) == 0
    export = ["export", *own[:-4], "--auxiliary-weights", "random", "--top-k", "2"]
    assert run([*export, "--explainer", str(explainer), "-o", str(model)]) == 0
    assert run(["explain", str(model), str(lines), "-o", str(tmp_path / "explained")]) == 0
    manifest = json.loads((model / "model.json").read_text())
    assert manifest["preprocessing"]["input_size"] == [48, 192]
    assert manifest["explainer"]["start"] == "fit"
    rows = json.loads((tmp_path / "explained" / "results.json").read_text())["results"]
    best = [row for row in rows if row["rank"] == 0]
    right = [row["class_name"] in row["overlay"] for row in best]
    assert np.mean(right) > 0.8
    assert all(row["probability"] > 0.5 for row in best)


def test_its_answers_are_its_own(theirs, lines, tmp_path):
    options = ["--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random"]
    command = ["export", "--backbone", str(theirs), *PREPARED, *options, "--auxiliary-size", "64"]
    assert run([*command, "--top-k", "2", "-o", str(tmp_path / "m")]) == 0
    photo = sorted(lines.iterdir())[1]
    found = Explainer.load(tmp_path / "m")(photo)
    pixels = np.asarray(Image.open(photo), np.float32).transpose(2, 0, 1)[None] / 255
    session = onnxruntime.InferenceSession(str(theirs))
    (expected,) = session.run(None, {session.get_inputs()[0].name: (pixels - 0.5) / 0.5})
    ordered = np.take_along_axis(expected, found.class_index, axis=1)
    np.testing.assert_allclose(found.probability, ordered, atol=1e-5)
