"""The service's answers and refusals, without a socket."""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from ptame_deploy import Explainer

pytestmark = pytest.mark.integration
pytest.importorskip("fastapi", reason="extra: serve")

from fastapi.testclient import TestClient  # noqa: E402

from engines.serve.app import make_app  # noqa: E402
from engines.serve.settings import ServeSettings  # noqa: E402


@pytest.fixture(scope="module")
def local(tiny_artifact):
    return Explainer.load(tiny_artifact)


@pytest.fixture(scope="module")
def client(local):
    with TestClient(make_app(local, ServeSettings("tiny", max_body=2_000_000))) as one:
        yield one


@pytest.fixture(scope="module")
def asked_client(tiny_classes_artifact):
    explainer = Explainer.load(tiny_classes_artifact)
    with TestClient(make_app(explainer, ServeSettings("asked"))) as one:
        yield one


def png(width=80, height=70, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), pixels


def image(count=1, seed=0):
    generator = np.random.default_rng(seed)
    return generator.random((count, 3, 64, 64), dtype=np.float32)


def request(array, datatype="FP32", name="image", **more):
    tensor = {"name": name, "shape": list(array.shape), "datatype": datatype}
    return {"inputs": [tensor | {"data": array.reshape(-1).tolist()}], **more}


def outputs(answer):
    assert answer.status_code == 200, answer.text
    return {
        one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer.json()["outputs"]
    }


def test_metadata_is_the_graphs(client):
    assert client.get("/v2").json()["name"] == "ptame"
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/healthz").json() == {"live": True}
    told = client.get("/v2/models/tiny").json()
    assert told["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 64, 64]}]
    assert [one["name"] for one in told["outputs"]] == ["logits", "class_index", "saliency"]
    assert client.get("/v2/models/tiny/versions/1/ready").json() == {"ready": True}
    assert client.get("/v2/models/tiny/versions/2").status_code == 404
    assert client.get("/v2/models/other").status_code == 404
    assert "/explain" in client.get("/openapi.json").json()["paths"]


def test_json_answers_are_the_local_runs(client, local):
    images = image(3)
    answer = client.post("/v2/models/tiny/infer", json=request(images, id="seven"))
    found, expected = outputs(answer), local.run({"image": images})
    assert answer.json()["id"] == "seven"
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6)


def test_only_what_is_asked_for_comes(client):
    wanted = {"outputs": [{"name": "logits"}]}
    assert list(outputs(client.post("/v2/models/tiny/infer", json=request(image(), **wanted)))) == [
        "logits"
    ]
    wanted = {"outputs": [{"name": "loogits"}]}
    answer = client.post("/v2/models/tiny/infer", json=request(image(), **wanted))
    assert answer.status_code == 422
    assert "no output 'loogits'" in answer.json()["error"]


def test_more_photos_than_a_batch_holds(client, local):
    images = image(19)
    content = images.tobytes()
    tensor = {"name": "image", "shape": [19, 3, 64, 64], "datatype": "FP32"}
    head = json.dumps(
        {"inputs": [tensor | {"parameters": {"binary_data_size": len(content)}}]}
    ).encode()
    answer = client.post(
        "/v2/models/tiny/infer", content=head + content,
        headers={"inference-header-content-length": str(len(head))},
    )  # fmt: skip
    np.testing.assert_allclose(
        outputs(answer)["logits"], local.run({"image": images})["logits"], atol=1e-5
    )


BAD = [
    (b"", None, 400, "Invalid JSON"),
    (b"[]", None, 400, "Input should be an object"),
    (b'{"inputs": [{"name": "image"}]}', None, 400, "inputs.0.shape"),
    (b'{"inputs": []}', None, 422, "The graph takes ['image']"),
    (b"{}" * 10, "99", 400, "says '99' of 20 bytes"),
    (b"{}", "-1", 400, "says '-1'"),
    (b'{"inputs": []}tail', "14", 400, "4 bytes of the request belong to no input"),
    (b"{}", "9" * 5000, 400, "says '99999999999999999999' of 2 bytes"),
    (b'{"inputs": ' + b"[" * 100_000, None, 400, "Invalid JSON"),
    (
        b'{"inputs": [{"name": "image", "shape": [1' + b"0" * 5000 + b"]}]}",
        None,
        400,
        "Invalid JSON",
    ),
]


@pytest.mark.parametrize(("body", "length", "status", "says"), BAD)
def test_requests_that_are_none(client, body, length, status, says):
    headers = {} if length is None else {"inference-header-content-length": length}
    answer = client.post("/v2/models/tiny/infer", content=body, headers=headers)
    assert answer.status_code == status
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": [1, 3, 64, 63]}, "are not 12096 numbers"),
        ({"shape": [0, 3, 64, 64]}, "sizes start at 1"),
        ({"shape": [10**4000] * 8}, "sizes start at 1"),
        ({"shape": [-1, 3, 64, 64]}, "sizes start at 1"),
        ({"shape": []}, "sizes start at 1"),
        ({"shape": [10**9] * 8}, "numbers of type"),
        ({"datatype": "BYTES"}, "has type 'BYTES'"),
        ({"data": ["a"] * 12288}, "numbers of type"),
        ({"data": [[1, 2], [3]]}, "numbers of type"),
        ({"data": None}, "numbers of type"),
        ({"parameters": {"binary_data_size": 10}}, "says 10 bytes, 0 are left"),
    ],
)
def test_tensors_that_are_not_what_they_say(client, change, says):
    asked = request(image())
    asked["inputs"][0] |= change
    answer = client.post("/v2/models/tiny/infer", json=asked)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (request(np.zeros((1, 3, 32, 32), np.float32)), "must be float32"),
        (request(np.zeros((1, 3, 64, 64), np.uint8), "UINT8"), "got uint8"),
        (request(image(), name="picture"), "The graph takes ['image'], got ['picture']"),
    ],
)
def test_what_the_graph_does_not_take_is_422(client, tensors, says):
    answer = client.post("/v2/models/tiny/infer", json=tensors)
    assert answer.status_code == 422
    assert says in answer.json()["error"]


def test_an_input_that_comes_twice_is_none(client):
    asked = request(image())
    asked["inputs"] *= 2
    answer = client.post("/v2/models/tiny/infer", json=asked)
    assert answer.status_code == 400
    assert "'image' comes twice" in answer.json()["error"]


def test_numbers_that_are_no_numbers_are_refused(client):
    """NaN in, NaN out: that is no answer."""
    asked = json.dumps(request(np.full((1, 3, 64, 64), np.nan, np.float32)))
    answer = client.post("/v2/models/tiny/infer", content=asked)
    assert answer.status_code in (400, 422)


def test_classes_are_checked_before_they_meet_others(asked_client):
    pixels = np.zeros((1, 64, 64, 3), np.uint8)

    def ask(classes, dtype="INT64"):
        asked = request(pixels, "UINT8")
        array = np.array(classes)
        asked["inputs"].append(
            {"name": "class_index", "shape": list(array.shape), "datatype": dtype, "data": classes}
        )
        return asked_client.post("/v2/models/asked/infer", json=asked)

    assert outputs(ask([[3, 4]]))["saliency"].shape == (1, 2, 16, 16)
    assert "Class 10 does not exist" in ask([[10]]).json()["error"]
    assert "different numbers of photos" in ask([[1], [2]]).json()["error"]
    assert "numbers of type INT64" in ask([[2**70]]).json()["error"]
    assert "numbers of type INT64" in ask([[1.5]]).json()["error"]
    assert "the classifier has 10" in ask([[1] * 11]).json()["error"]


def test_more_maps_than_the_memory_should_hold_are_413(tiny_classes_artifact):
    """A short request can ask for a long answer."""
    explainer = Explainer.load(tiny_classes_artifact)
    content, _ = png(20, 20)
    with TestClient(make_app(explainer, ServeSettings("asked", max_body=6000))) as client:

        def explain(count):
            query = "&".join(f"class={index}" for index in range(count))
            return client.post(f"/explain?{query}", content=content)

        assert len(explain(5).json()["results"]) == 5
        answer = explain(10)  # of 16 x 16 float32
    assert answer.status_code == 413
    assert "would have 10,280 bytes, and may have 6,000" in answer.json()["error"]


def test_a_photo_is_explained(client, local):
    content, pixels = png()
    answer = client.post("/explain", content=content, headers={"content-type": "image/png"})
    assert answer.status_code == 200
    told, expected = answer.json(), local(pixels)
    assert any("RANDOM" in caution for caution in told["cautions"])
    for rank, result in enumerate(told["results"]):
        assert result["class_index"] == expected.class_index[0, rank]
        assert result["probability"] == pytest.approx(expected.probability[0, rank], abs=1e-6)
        np.testing.assert_allclose(result["saliency"], expected.saliency[0, rank], atol=1e-5)
    answer = client.post("/explain", content=content, headers={"accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.width > picture.height > 360


def test_classes_of_a_photo(asked_client):
    content, _ = png()
    told = asked_client.post("/explain?class=7&class=2", content=content).json()
    assert [one["class_index"] for one in told["results"]] == [7, 2]
    assert asked_client.post("/explain", content=content).status_code == 422
    answer = asked_client.post("/explain?class=twelve", content=content)
    assert answer.status_code == 422
    assert "No class 'twelve'" in answer.json()["error"]


def test_bodies_that_are_no_photo(client):
    def post(content, kind="image/jpeg"):
        answer = client.post("/explain", content=content, headers={"content-type": kind})
        return answer.status_code, answer.json().get("error", "")

    assert post(b"no photo") == (
        422, "the photo: not an image, or of a format that Pillow cannot read",
    )  # fmt: skip
    assert post(b"")[0] == 422
    assert post(png()[0][:-30])[0] == 422
    assert post(b"{}", "application/json")[0] == 415
    assert post(b"x" * 2_000_001)[0] == 413
    assert post(png()[0])[0] == 200


def test_formats_that_run_programs_are_no_photos(client):
    """Pillow would give EPS to Ghostscript."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with Image.open(io.BytesIO(eps)) as image_file:
        assert image_file.format == "EPS"
    answer = client.post("/explain", content=eps, headers={"content-type": "image/x-eps"})
    assert answer.status_code == 422
    assert "not an image, or of a format" in answer.json()["error"]


def test_errors_of_the_framework_look_like_ours(client):
    assert client.get("/no/such/place").json() == {"error": "Not Found"}
    assert client.get("/explain").json() == {"error": "Method Not Allowed"}


def test_a_model_that_breaks_is_a_500_that_says_no_secrets(local, monkeypatch):
    def broken(_):
        message = "in /secret/place"
        raise RuntimeError(message)

    app = make_app(local, ServeSettings("tiny"))
    with TestClient(app, raise_server_exceptions=False) as client:
        monkeypatch.setattr(app.state.service.batcher, "_run", broken)
        answer = client.post("/explain", content=png()[0])
        assert answer.status_code == 500
        assert answer.json() == {"error": "The server failed: its log says why."}
        monkeypatch.undo()
        assert client.post("/explain", content=png()[0]).status_code == 200


def test_a_body_that_says_less_than_it_is(client):
    def endless():
        for _ in range(40):
            yield b"x" * 100_000

    assert client.post("/explain", content=endless()).status_code == 413


def test_too_many_pixels_are_413(local):
    settings = ServeSettings("tiny", max_pixels=70 * 80 - 1)
    with TestClient(make_app(local, settings)) as client:
        assert client.post("/explain", content=png()[0]).status_code == 413
        assert client.post("/explain", content=png(70, 79)[0]).status_code == 200


def test_large_photos_are_decoded_one_at_a_time(local, monkeypatch):
    """Each takes a gigabyte or more; also while others gave up waiting."""
    monkeypatch.setattr("engines.serve.service._LARGE_PHOTO", 70 * 80 - 1)
    app = make_app(local, ServeSettings("tiny", timeout=0.4, delay=0))
    decode = app.state.service._prepare
    inside, most = [], []

    def slow(content):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.3)
        inside.pop()
        return decode(content)

    monkeypatch.setattr(app.state.service, "_prepare", slow)

    def post(_):
        return client.post("/explain", content=png()[0]).status_code

    with TestClient(app) as client, ThreadPoolExecutor(4) as pool:
        assert set(pool.map(post, range(8))) <= {200, 503}
    assert max(most) == 1


def test_a_key_is_asked_for(local):
    content, _ = png()
    with TestClient(make_app(local, ServeSettings("tiny", api_key="s3cret"))) as client:
        for path in ("/healthz", "/v2/health/ready", "/metrics", "/"):
            assert client.get(path).status_code == 200
        assert client.get("/v2/models/tiny").status_code == 401
        for headers in (
            {}, {"authorization": "Bearer wrong"}, {"x-api-key": "s3cre"},
            {"authorization": "Basic s3cret"}, {"x-api-key": "s3cret\u00e9".encode("latin1")},
        ):  # fmt: skip
            answer = client.post("/explain", content=content, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": "bearer s3cret"}, {"x-api-key": "s3cret"}):
            assert client.post("/explain", content=content, headers=headers).status_code == 200


def test_a_key_may_have_any_letters(local):
    with TestClient(make_app(local, ServeSettings("tiny", api_key="schlüssel"))) as client:
        for key, status in (("schlüssel", 200), ("schlussel", 401)):
            headers = {"x-api-key": key.encode()}
            assert client.get("/v2/models/tiny", headers=headers).status_code == status


def test_the_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http" not in answer.text.replace("http-equiv", "")


def test_figures_for_prometheus(local):
    with TestClient(make_app(local, ServeSettings("tiny"))) as client:
        client.post("/explain", content=png()[0])
        client.post("/explain", content=b"no photo")
        client.get("/no/such/place/of/mine")
        text = client.get("/metrics").text
    assert 'ptame_requests_total{route="/explain",status="200"} 1.0' in text
    assert 'ptame_requests_total{route="/explain",status="422"} 1.0' in text
    assert 'ptame_requests_total{route="other",status="404"} 1.0' in text
    assert "mine" not in text
    assert "ptame_batch_photos_count 1.0" in text
    assert "ptame_waiting_photos 0.0" in text


def test_a_request_that_takes_too_long_is_503(local):
    with TestClient(make_app(local, ServeSettings("tiny", timeout=0.001, delay=0))) as client:
        answer = client.post("/explain", content=png(2000, 2000)[0])
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200
