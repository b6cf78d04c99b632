"""`ptame client` against servers that answer what they should not: never a traceback."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest

from ptame_deploy import Explainer
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration


@pytest.fixture
def strange(tiny_artifact):
    """A server of the v2 protocol whose answers a test can change, by the end of their path."""
    explainer = Explainer.load(tiny_artifact)
    pixels = np.zeros((1, 3, 64, 64), np.float32)
    outputs = explainer.run({"image": pixels})
    types = {"float32": "FP32", "int64": "INT64"}
    tensors = [
        {
            "name": name,
            "datatype": types[str(array.dtype)],
            "shape": list(array.shape),
            "data": array.reshape(-1).tolist(),
        }
        for name, array in outputs.items()
    ]
    manifest = explainer.manifest
    answers = {
        "/v2": {"name": "strange", "version": "1"},
        "/index": [{"name": "m", "version": "1", "state": "READY"}],
        "/config": {
            "name": "m",
            "max_batch_size": 1,
            "input": [{"name": record.name} for record in manifest.inputs],
            "output": [{"name": record.name} for record in manifest.outputs],
            "parameters": {"ptame": {"string_value": manifest.model_dump_json()}},
        },
        "/infer": {"model_name": "m", "model_version": "1", "outputs": tensors},
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            known = next((end for end in answers if self.path.endswith(end)), None)
            content = answers.get(known, {"error": "no"})
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(200 if known else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()


def ask(url, photo_folder, tmp_path):
    return run(["client", url, str(photo_folder), "-o", str(tmp_path / "o"), "--timeout", "20s"])


def test_an_honest_one_is_understood(strange, photo_folder, tmp_path):
    assert ask(strange[0], photo_folder, tmp_path) == 0


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_listens(photo_folder, tmp_path, capsys, scheme):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        url = f"{scheme}://127.0.0.1:{held.getsockname()[1]}"
        assert ask(url, photo_folder, tmp_path) == 3
    said = capsys.readouterr().err
    assert "Connection refused" in said
    assert "Errno" not in said
    assert "Is a server running there" in said


def test_another_protocol(photo_folder, tmp_path, capsys):
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert ask(f"http://127.0.0.1:{port}", photo_folder, tmp_path) == 3
    finally:
        server.stop(None)
    said = capsys.readouterr().err
    assert "does it speak http?" in said
    assert "('" not in said


def test_an_ensemble_names_its_graph(strange, photo_folder, tmp_path, capsys):
    url, answers = strange
    answers["/config"]["input"] = [{"name": "photo"}]
    answers["/config"]["ensemble_scheduling"] = {
        "step": [{"model_name": "m-decode"}, {"model_name": "graph"}]
    }
    assert run(["client", url, str(photo_folder), "--name", "m", "-o", str(tmp_path / "o")]) == 4
    assert "ask for graph." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("end", "content", "code"),
    [
        ("/v2", {"name": "nameless"}, 4),
        ("/index", {"detail": "no list"}, 4),
        ("/index", [{"version": "1"}], 4),
        ("/index", [], 2),
        ("/config", {"name": "m", "input": 5}, 4),
        ("/config", b"<html>", 3),
        ("/infer", b"", 3),
        ("/infer", {"outputs": []}, 4),
        ("/infer", {"outputs": [{"name": "logits"}]}, 4),
    ],
)
def test_answers_that_are_none(strange, photo_folder, tmp_path, capsys, end, content, code):
    url, answers = strange
    answers[end] = content
    assert ask(url, photo_folder, tmp_path) == code
    said = capsys.readouterr().err
    assert url.removeprefix("http://") in said
    assert "bug in ptame" not in said


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("logits", {"shape": [2, 5]}),
        ("logits", {"shape": [1, 5], "data": [0.0] * 5}),
        ("saliency", {"shape": [1, 2, 8, 32]}),
        ("class_index", {"data": [3, 10]}),
        ("class_index", {"data": [-1, 3]}),
        ("logits", {"datatype": "INT64"}),
        ("logits", {"datatype": "NONE"}),
        ("logits", {"data": ["a"] * 10}),
    ],
)
def test_numbers_that_are_not_the_models(strange, photo_folder, tmp_path, capsys, name, change):
    url, answers = strange
    tensor = next(one for one in answers["/infer"]["outputs"] if one["name"] == name)
    tensor |= change
    assert ask(url, photo_folder, tmp_path) == 4
    assert "answers" in capsys.readouterr().err
