"""The load on a server, with a server of the test's own."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bench.load import HEADER_LENGTH, Caller, measure_served, summarise_load
from bench.timing import Load, Sampling
from ptame_deploy.errors import CheckFailedError, MissingRequirementError

pytestmark = pytest.mark.unit
INPUTS = {
    "image": np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2),
    "class_index": np.array([[7]]),
}


@pytest.fixture
def server():
    """Remembers what it was sent; answers 200 until told otherwise."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            one.seen.append((self.path, self.headers[HEADER_LENGTH], body, self.client_address))
            self.send_response(one.status)
            self.send_header("content-length", "6")
            self.end_headers()
            self.wfile.write(b"answer")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        one.daemon_threads = True
        one.seen, one.status = [], 200
        one.address = f"http://127.0.0.1:{one.server_port}"
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield one
        one.shutdown()


def test_a_request_is_what_the_service_reads(server):
    from engines.serve.protocol import read_request

    caller = Caller(server.address, "m", INPUTS)
    assert caller() == b"answer"
    assert caller() == b"answer"
    caller.close()
    (path, length, body, client), (_, _, again, same) = server.seen
    assert path == "/v2/models/m/infer"
    assert again == body
    assert same == client  # one connection
    asked, arrays = read_request(body, length)
    assert asked.parameters.binary_data_output
    for name, array in INPUTS.items():
        np.testing.assert_array_equal(arrays[name], array)
    assert json.loads(body[: int(length)])["inputs"][1]["datatype"] == "INT64"


def test_refusals_are_no_answers(server):
    server.status = 429
    with pytest.raises(CheckFailedError, match="refuses with 429: answer"):
        Caller(server.address, "m", INPUTS)()
    with pytest.raises(MissingRequirementError, match=r"No answer from http://127\.0\.0\.1:9"):
        Caller("http://127.0.0.1:9", "m", INPUTS)()


def test_every_client_has_its_connection_and_models_take_turns(server):
    sampling = Sampling(seconds=0.2, rounds=2, warmup_seconds=0, warmup_runs=1)
    models = {"one": (server.address, "a"), "other": (server.address, "b")}
    found = measure_served(models, INPUTS, 3, sampling)
    assert [len(turns) for turns in found.values()] == [2, 2]
    assert all(turn.rate > 0 and turn.durations for turns in found.values() for turn in turns)
    paths = [path for path, *_ in server.seen]
    assert set(paths) == {"/v2/models/a/infer", "/v2/models/b/infer"}
    assert len({client for *_, client in server.seen}) >= 6


def test_a_summary_has_all_turns_requests():
    turns = [Load(10.0, [0.1, 0.2]), Load(30.0, [0.3])]
    found = summarise_load(turns, 4, 2.5)
    assert (found.requests, found.clients, found.photos_a_run) == (3, 4, 2.5)
    assert found.p50_ms == pytest.approx(200)
    assert found.throughput.images_per_s == pytest.approx(20)
