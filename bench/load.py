"""Load on a server by KServe's v2 protocol: Triton and ``ptame serve`` alike.

Each caller has a connection of its own and sends its next request when the answer has come. The
request is made once and answers are not decoded, so that the cores stay the server's.
"""

import json
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import numpy as np

from bench.serving_results import ServedReading
from bench.timing import Load, Sampling, measure_load, summarise_throughput
from engines.runtime import Arrays
from engines.triton.config import DATATYPES
from ptame_deploy.errors import CheckFailedError, MissingRequirementError

HEADER_LENGTH = "inference-header-content-length"
# Servers close connections that are idle (ptame serve: 5 s), and others have their turns between.
_IDLE_SECONDS = 2.0
_ANSWER_SECONDS = 60.0


class Caller:
    """One connection, and one request that is sent over and over."""

    def __init__(self, address: str, name: str, inputs: Arrays) -> None:
        """Prepare; the first call connects.

        Args:
            address: of the server: ``http://host:port``.
            name: of the model.
            inputs: by name, batch first.
        """
        parts = urlsplit(address)
        assert parts.hostname is not None
        self._address, self._path = address, f"/v2/models/{name}/infer"
        self._connection = HTTPConnection(parts.hostname, parts.port, timeout=_ANSWER_SECONDS)
        head, contents = _request(inputs)
        self._body = head + contents
        self._headers = {
            "content-type": "application/octet-stream", HEADER_LENGTH: str(len(head)),
        }  # fmt: skip
        self._last = time.monotonic()

    def __call__(self) -> bytes:
        """Send the request and return the answer's body.

        Raises:
            CheckFailedError: the server refuses: what is measured would be no answers.
            MissingRequirementError: the server does not answer.
        """
        if time.monotonic() - self._last > _IDLE_SECONDS:
            self.close()
        try:
            self._connection.request("POST", self._path, self._body, self._headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException) as error:
            self.close()
            message = f"No answer from {self._address}: {error or type(error).__name__}"
            raise MissingRequirementError(message) from error
        self._last = time.monotonic()
        if answer.status != 200:
            said = content[:500].decode(errors="replace")
            message = f"{self._address} refuses with {answer.status}: {said}"
            raise CheckFailedError(message)
        return content

    def close(self) -> None:
        """End the connection; the next call makes a new one."""
        self._connection.close()


def measure_served(
    models: Mapping[str, tuple[str, str]], inputs: Arrays, clients: int, sampling: Sampling
) -> dict[str, list[Load]]:
    """Put load on several models, in turns.

    Args:
        models: by a name for the figures, the server's address and the model's name there.
        inputs: of each request.
        clients: that ask at once.
        sampling: how long.

    Returns:
        What each turn found, by name.

    Raises:
        CheckFailedError: a server refuses.
        MissingRequirementError: a server does not answer.
    """
    callers = {
        label: [Caller(address, name, inputs) for _ in range(clients)]
        for label, (address, name) in models.items()
    }
    try:
        return measure_load(callers, sampling)
    finally:
        for caller in (one for several in callers.values() for one in several):
            caller.close()


def summarise_load(turns: Sequence[Load], clients: int, photos_a_run: float) -> ServedReading:
    """Condense a model's turns.

    Args:
        turns: at least one, in which requests of one photo were answered.
        clients: that asked at once.
        photos_a_run: how many photos the server ran together in the mean.
    """
    milliseconds = [1e3 * duration for turn in turns for duration in turn.durations]
    p50, p95, p99 = np.percentile(milliseconds, (50, 95, 99))
    return ServedReading(
        clients=clients,
        requests=len(milliseconds),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        throughput=summarise_throughput([turn.rate for turn in turns], 1, clients),
        photos_a_run=photos_a_run,
    )


def _request(inputs: Arrays) -> tuple[bytes, bytes]:
    tensors, contents = [], []
    for name, array in inputs.items():
        content = np.ascontiguousarray(array).tobytes()
        tensors.append(
            {
                "name": name,
                "datatype": DATATYPES[str(array.dtype)],
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(content)},
            }
        )
        contents.append(content)
    head = {"inputs": tensors, "parameters": {"binary_data_output": True}}
    return json.dumps(head).encode(), b"".join(contents)
