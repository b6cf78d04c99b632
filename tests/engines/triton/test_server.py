"""A real tritonserver serves what `ptame triton` wrote; its answers are the local run's."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.triton.client import TritonRuntime, remote_explainer
from ptame_deploy import Explainer
from ptame_deploy.cli import run
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.preprocessing import to_float

pytestmark = pytest.mark.integration
PROTOCOLS = ["http", "grpc"]


@pytest.fixture(scope="module")
def server(start_triton, tiny_artifact, tiny_classes_artifact, tmp_path_factory):
    repository = tmp_path_factory.mktemp("served") / "models"
    words = ["--repository", str(repository), "--backend", "python", "--max-batch", "4"]
    options = ["--name", "tiny", "--ensemble", "--also-classifier", "--queue-delay", "5ms"]
    assert run(["triton", str(tiny_artifact), *words, *options]) == 0
    options = ["--name", "asked", "--ensemble", "--instances", "2", "--no-warmup"]
    assert run(["triton", str(tiny_classes_artifact), *words, *options]) == 0
    return start_triton(repository)


@pytest.fixture(params=PROTOCOLS)
def url(request, server):
    return getattr(server, request.param)


def pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, 64, 64, 3), dtype=np.uint8)


def assert_equal(found, expected):
    assert np.array_equal(found.class_index, expected.class_index)
    for name in ("logits", "saliency", "probability"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_answers_are_the_local_runs(url, tiny_artifact, count):
    remote, local = remote_explainer(url, "tiny"), Explainer.load(tiny_artifact)
    images = pixels(count, seed=count)
    assert_equal(remote.explain_prepared(images), local.explain_prepared(images))
    assert "triton 2." in remote.runtime.description


def test_classes_may_be_chosen(url, tiny_classes_artifact):
    remote, local = remote_explainer(url, "asked"), Explainer.load(tiny_classes_artifact)
    images, asked = pixels(2), np.array([[3, 1, 4], [1, 5, 9]])
    assert_equal(remote.explain_prepared(images, asked), local.explain_prepared(images, asked))


def test_pictures_are_those_of_explain(url, tiny_artifact, photo_folder, tmp_path):
    words = ["explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "local")]
    assert run(words) == 0
    words = ["client", url, str(photo_folder), "--name", "tiny", "-o", str(tmp_path / "remote")]
    assert run(words) == 0
    local, remote = tmp_path / "local", tmp_path / "remote"
    for path in local.glob("*.png"):
        assert (remote / path.name).read_bytes() == path.read_bytes()
    assert (remote / "results.csv").read_text() == (local / "results.csv").read_text()


def test_concurrent_clients_get_their_own_answers(server, tiny_artifact):
    local = Explainer.load(tiny_artifact)
    batches = [pixels(1 + seed % 2, seed) for seed in range(24)]
    expected = [local.explain_prepared(one) for one in batches]

    def ask(images):
        return remote_explainer(server.http, "tiny").explain_prepared(images)

    with ThreadPoolExecutor(6) as pool:
        for found, wanted in zip(pool.map(ask, batches), expected, strict=True):
            assert_equal(found, wanted)


def raw(server, name, tensors, outputs):
    from tritonclient import http

    client = http.InferenceServerClient(server.http.removeprefix("http://"))
    given = []
    for one, (array, dtype) in tensors.items():
        tensor = http.InferInput(one, list(array.shape), dtype)
        tensor.set_data_from_numpy(array)
        given.append(tensor)
    wanted = [http.InferRequestedOutput(output) for output in outputs]
    found = client.infer(name, given, outputs=wanted)
    return {output: found.as_numpy(output) for output in outputs}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"image": (np.zeros((1, 3, 32, 32), np.float32), "FP32")}, "unexpected shape"),
        ({"image": (np.zeros((1, 3, 64, 64), np.uint8), "UINT8")}, "TYPE_FP32|data-type|FP32"),
        ({"picture": (np.zeros((1, 3, 64, 64), np.float32), "FP32")}, "picture"),
        ({"image": (np.zeros((9, 3, 64, 64), np.float32), "FP32")}, "batch-size|batch size"),
    ],
    ids=["shape", "type", "name", "batch"],
)
def test_what_does_not_fit_is_refused_and_the_server_lives(server, tensors, says):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match=says):
        raw(server, "tiny", tensors, ["logits"])
    image = {"image": (np.zeros((1, 3, 64, 64), np.float32), "FP32")}
    assert raw(server, "tiny", image, ["logits"])["logits"].shape == (1, 10)


def test_classes_that_do_not_exist_fail_their_own_request(server):
    from tritonclient.utils import InferenceServerException

    def tensors(classes):
        return {
            "image": (pixels(1), "UINT8"),
            "class_index": (np.array([classes], np.int64), "INT64"),
        }

    with pytest.raises(InferenceServerException):
        raw(server, "asked", tensors([10**6]), ["saliency"])
    assert raw(server, "asked", tensors([3, 4]), ["saliency"])["saliency"].shape[:2] == (1, 2)


def test_photos_are_decoded_as_explain_does(server, tiny_artifact, photo_folder):
    """The ensemble takes the bytes of files of any size; one that is no photo fails alone."""
    from tritonclient.utils import InferenceServerException

    local = Explainer.load(tiny_artifact)

    def ask(content):
        photo = np.array([[content]], dtype=object)
        return raw(server, "tiny-photo", {"photo": (photo, "BYTES")}, ["logits", "saliency"])

    for path in sorted(photo_folder.glob("*.png")):
        found, expected = ask(path.read_bytes()), local(path)
        np.testing.assert_allclose(found["logits"], expected.logits, atol=1e-5)
        np.testing.assert_allclose(found["saliency"], expected.saliency, atol=1e-5)
    with pytest.raises(InferenceServerException, match="photo 0 of the request: not an image"):
        ask(b"no photo")
    assert ask(path.read_bytes())["logits"].shape == (1, 10)


def test_the_classifier_alone_and_class_names(server, tiny_artifact):
    images = pixels(2)
    given = {"image": (to_float(images), "FP32")}
    found = raw(server, "tiny-classifier", given, ["logits"])["logits"]
    expected = Explainer.load(tiny_artifact).explain_prepared(images).logits
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_model_that_makes_maps_needs_no_name(server, capsys, photo_folder, tmp_path):
    with pytest.raises(InvalidInputError, match="serves 2 models that make maps: asked, tiny"):
        TritonRuntime(server.http)
    with pytest.raises(InvalidInputError, match="serves no model 'other', only asked"):
        TritonRuntime(server.http, "other")
    with pytest.raises(ArtifactError, match=r"takes photos as files.*ask for tiny"):
        TritonRuntime(server.grpc, "tiny-photo")
    words = ["client", server.http, str(photo_folder), "--name", "other", "-o", str(tmp_path / "o")]
    assert run(words) == 2
    assert "serves no model 'other'" in capsys.readouterr().err
