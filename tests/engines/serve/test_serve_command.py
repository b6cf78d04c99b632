"""`ptame serve` as a process: clients, load, signals."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.serve.settings import ServeSettings
from ptame_deploy import Explainer
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration
pytest.importorskip("fastapi", reason="extra: serve")
uvicorn = pytest.importorskip("uvicorn", reason="extra: serve")


@pytest.fixture
def serve(tiny_artifact, tmp_path):
    """Start `ptame serve` on a free port; returns the process and its address."""
    running = []

    def start(*options):
        words = [sys.executable, "-m", "ptame_deploy", "serve", str(tiny_artifact), "--port", "0"]
        process = subprocess.Popen(
            [*words, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path,
        )  # fmt: skip
        running.append(process)
        line = process.stdout.readline()
        found = re.search(r"Serving at (http://\S+)", line)
        assert found, line + process.stderr.read()
        return process, found[1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def post(url, content, timeout=60):
    request = urllib.request.Request(f"{url}/explain", content, {"content-type": "image/png"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_client_draws_what_explain_draws(serve, tiny_artifact, photo_folder, tmp_path):
    _, url = serve()
    assert url.startswith("http://127.0.0.1:")
    words = ["client", url, str(photo_folder), "-o", str(tmp_path / "remote")]
    assert run(words) == 0
    assert run(["explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "l")]) == 0
    for path in (tmp_path / "l").glob("*.png"):
        assert (tmp_path / "remote" / path.name).read_bytes() == path.read_bytes()


def test_concurrent_clients_get_their_own_answers(serve, tiny_artifact):
    from engines.triton.client import remote_explainer

    _, url = serve("--max-batch", "4")
    local = Explainer.load(tiny_artifact)
    generator = np.random.default_rng(0)
    batches = [generator.integers(0, 255, (1 + n % 5, 64, 64, 3), np.uint8) for n in range(20)]

    def ask(images):
        return remote_explainer(url).explain_prepared(images)

    with ThreadPoolExecutor(5) as pool:
        for images, found in zip(batches, pool.map(ask, batches), strict=True):
            expected = local.explain_prepared(images)
            assert np.array_equal(found.class_index, expected.class_index)
            np.testing.assert_allclose(found.saliency, expected.saliency, atol=1e-5)


def test_sigterm_answers_what_has_arrived(serve, photo_folder):
    process, url = serve("--queue-delay", "1s")
    content = (photo_folder / "a.png").read_bytes()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(url, content)[0])) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for _ in range(600):  # until all are inside: the delay holds them
        with urllib.request.urlopen(f"{url}/metrics") as figures:
            if b"ptame_waiting_photos 5.0" in figures.read():
                break
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert answers == [200] * 5
    assert process.wait(30) == 0
    assert "Traceback" not in process.stderr.read()


def test_answers_are_sent_at_once(tiny_artifact, monkeypatch):
    """asyncio turns Nagle's algorithm off for sockets only that say they are TCP's."""
    from engines.serve.server import run_server

    given = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: given.extend(sockets))
    run_server(Explainer.load(tiny_artifact), ServeSettings(name="x"), "127.0.0.1", 0)
    assert [one.proto for one in given] == [socket.IPPROTO_TCP]


def test_the_options_defaults_are_the_settings(tiny_artifact, monkeypatch):
    from ptame_deploy.photos import MAX_PIXELS

    given = []
    monkeypatch.delenv("PTAME_API_KEY", raising=False)
    monkeypatch.setattr(
        "engines.serve.server.run_server", lambda _, settings, *rest, **said: given.append(settings)
    )
    assert run(["serve", str(tiny_artifact), "--name", "x"]) == 0
    assert given == [ServeSettings(name="x")]
    assert 0.99 * MAX_PIXELS < ServeSettings.max_pixels <= MAX_PIXELS


def test_ctrl_c_ends_it_too(serve):
    process, _ = serve()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_overload_is_429_and_the_process_lives(serve, photo_folder):
    _, url = serve("--max-waiting", "2", "--max-batch", "1", "--queue-delay", "0ms")
    content = (photo_folder / "a.png").read_bytes()
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: post(url, content)[0], range(96)))
    assert set(answers) <= {200, 429}
    assert 200 in answers
    assert post(url, content)[0] == 200


def test_what_is_no_http_hurts_nobody(serve, photo_folder):
    _, url = serve()
    host, port = url.removeprefix("http://").split(":")
    for junk in (
        b"\x00" * 100,
        b"GET /\r\n\r\n",
        b"POST /explain HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=10) as one:
            one.sendall(junk)
            one.settimeout(5)
            assert b"200 OK" not in one.recv(2000)
    assert post(url, (photo_folder / "a.png").read_bytes())[0] == 200


def closes(connection, seconds):
    """Whether the other side ends a connection in time; what it says before is read."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_who_is_slow_holds_no_connection(serve, photo_folder):
    _, url = serve("--timeout", "1s", "--max-body", "0.01")
    host, port = url.removeprefix("http://").split(":")

    def connected(*words):
        one = socket.create_connection((host, int(port)), timeout=10)
        one.sendall(b"".join(words))
        return one

    head = b"POST /explain HTTP/1.1\r\nhost: here\r\n"
    silent = connected()
    half_a_head = connected(head)
    half_a_body = connected(head, b"content-length: 100\r\n\r\n", b"x" * 50)
    refused = connected(head, b"content-length: 99999999\r\n\r\n", b"x" * 50)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # drop by drop, so that no connection is idle
        try:
            for one, word in ((half_a_head, b"a: b\r\n"), (refused, b"x")):
                one.sendall(word)
        except OSError:
            break
        time.sleep(0.2)
    for one in (silent, half_a_head, half_a_body, refused):
        with one:
            assert closes(one, 20)
    assert urllib.request.urlopen(f"{url}/healthz", timeout=60).status == 200


def test_another_precision_is_served_when_asked_for(serve, tiny_artifact, make_photos, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    make_photos(photos, 8)
    words = ["serve", str(tiny_artifact), "--engine", "fp16"]
    assert run(words) == 2  # how to lower it, but never FP32 instead
    process, url = serve("--engine", "fp16", "--photos", str(photos))
    config = json.loads(
        urllib.request.urlopen(f"{url}/v2/models/{tiny_artifact.name}/config").read()
    )
    manifest = json.loads(config["parameters"]["ptame"]["string_value"])
    assert manifest["precision"] == "fp16"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", ""], "--host is empty"),
        (["--host", "a" * 70], "Cannot listen at aaa"),
        (["--max-body", "nan"], "--max-body must be a number"),
        (["--max-pixels", "inf"], "--max-pixels must be a number"),
        (["--name", "a/b"], "cannot be a model's name"),
        (["--name", ""], "cannot be a model's name"),
        (["--queue-delay", "1h"], "--queue-delay 3600s is not less than --timeout 30s"),
        (["--engine", "int8"], "is fp32. Lower it first (ptame quantize"),
        (["--engine", "fp32", "--photos", "."], "is fp32 already, nothing is lowered"),
    ],
)
def test_options_that_mean_nothing(tiny_artifact, capsys, options, says):
    assert run(["serve", str(tiny_artifact), *options]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_bad_usage(tiny_artifact, tmp_path, capsys, monkeypatch):
    words = ["serve", str(tiny_artifact)]
    assert run([*words, "--max-waiting", "0"]) == 2
    assert "--max-waiting must be at least 1" in capsys.readouterr().err
    assert run([*words, "--timeout", "soon"]) == 2
    assert run([*words, "--api-key-file", str(tmp_path / "none")]) == 2
    (tmp_path / "key").write_text("\n")
    assert run([*words, "--api-key-file", str(tmp_path / "key")]) == 2
    assert "everybody would have it" in capsys.readouterr().err
    assert run(["serve", str(tmp_path)]) == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert run([*words, "--port", str(taken.getsockname()[1])]) == 2
    assert "Cannot listen at 127.0.0.1" in capsys.readouterr().err
    for name in [one for one in sys.modules if one.startswith("engines.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run(words) == 3
    assert "ptame-deploy[serve]" in capsys.readouterr().err
