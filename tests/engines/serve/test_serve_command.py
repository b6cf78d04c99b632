"""`ptame serve` as a process: clients, load, signals."""

import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ptame_deploy import Explainer
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration
pytest.importorskip("fastapi", reason="extra: serve")


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
