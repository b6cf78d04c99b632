"""One photo looked at from all sides, and the page around that."""

import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from bench.desk import GRAD_CAM, RISE, Desk
from ptame_deploy import Explainer
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.rendering import overlay
from ptame_deploy.sources.load import load_backbone

pytestmark = pytest.mark.integration
PREPROCESSING = {"input_size": (64, 64), "resize": 72}


@pytest.fixture(scope="module")
def photo(real_photos):
    return Image.open(real_photos["chelsea"]).convert("RGB")


@pytest.fixture(scope="module")
def desk(tiny_artifact, tiny_file, tmp_path_factory):
    backbone = load_backbone(f"{tiny_file}:build", preprocessing=PREPROCESSING)
    return Desk(tiny_artifact, tmp_path_factory.mktemp("desk"), backbone)


def test_a_class_is_explained_as_its_graph_does(desk, tiny_artifact, photo):
    look = desk.look(photo)
    expected = Explainer.load(tiny_artifact)(photo)
    assert look.best(2) == expected.class_index[0].tolist()
    assert look.probability[look.best(1)[0]] == pytest.approx(expected.probability[0, 0], abs=1e-5)
    drawn = desk.explain(look, look.best(2)[1])
    wanted = overlay(look.seen, expected.saliency[0, 1])
    apart = np.asarray(drawn.picture, int) - np.asarray(wanted, int)
    assert np.abs(apart).max() <= 2
    assert drawn.passes == 1
    assert drawn.seconds > 0


def test_a_contrast_is_not_the_difference_of_stretched_maps(desk, photo):
    look = desk.look(photo)
    one, other = look.best(2)
    for_it, against_it = desk.explain(look, one, other), desk.explain(look, other, one)
    assert for_it.picture != against_it.picture
    assert for_it.picture != desk.explain(look, one).picture
    flat = desk.explain(look, one, one)  # a class against itself is flat, and no error
    assert np.isfinite(np.asarray(flat.picture)).all()


def test_rivals_run_beside(desk, photo):
    look = desk.look(photo)
    assert desk.rivals == [GRAD_CAM, RISE]
    passes = []
    rise = desk.rival(RISE, look, look.best(1)[0], masks=20, percent=15, advance=passes.append)
    assert rise.passes == sum(passes) == 20
    assert rise.picture.size == look.seen.size
    cam = desk.rival(GRAD_CAM, look, look.best(1)[0])
    assert cam.picture != rise.picture


def test_grad_cam_needs_the_classifiers_own_source(tiny_artifact, tiny_file, tmp_path):
    other = load_backbone(f"{tiny_file}:build", preprocessing=PREPROCESSING, weights="random")
    with pytest.raises(ArtifactError, match="other weights"):
        Desk(tiny_artifact, tmp_path, other)
    alone = Desk(tiny_artifact, tmp_path)
    assert alone.rivals == [RISE]
    look = alone.look(Image.new("RGB", (80, 70), "green"))
    with pytest.raises(InvalidInputError, match="Grad-CAM does not run here"):
        alone.rival(GRAD_CAM, look, 0)


def test_contrasts_and_chosen_classes(export_own, tiny_classes_artifact, tmp_path, photo):
    assert export_own(tmp_path / "contrast", "--contrast") == 0
    with pytest.raises(InvalidInputError, match="without --contrast"):
        Desk(tmp_path / "contrast", tmp_path)
    desk = Desk(tiny_classes_artifact, tmp_path)  # uint8, told its classes
    look = desk.look(photo)
    assert desk.explain(look, 3).picture != desk.explain(look, 4).picture


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_page_answers(tiny_artifact, port, real_photos):
    pytest.importorskip("gradio", reason='pip install "ptame-deploy[app]"')
    from gradio_client import Client, handle_file

    command = [sys.executable, "-m", "ptame_deploy", "app", str(tiny_artifact), "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert address in process.stdout.readline()
            _wait_for(address)
            client = Client(address, verbose=False)
            photo = handle_file(str(real_photos["chelsea"]))
            chances, chosen, own, text, _ = client.predict(photo, api_name="/began")
            assert len(chances["confidences"]) == 5
            assert "ms, classifier and map in one pass" in text
            assert Image.open(own).size[1] == 480
            best = chances["label"].removeprefix("class ")
            assert chosen["value"].startswith(f"{best}: ")
            _, text = client.predict(photo, "3: class 3", "4: class 4", 20, api_name="/explained")
            assert "class 3, not class 4" in text
            _, text = client.predict(photo, "3: class 3", RISE, 50, 0, api_name="/compared")
            assert "RISE, 50 masks: class 3" in text
        finally:
            process.terminate()


def _wait_for(address):
    for _ in range(120):
        try:
            with urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the page does not answer")
