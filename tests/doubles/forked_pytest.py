"""Pytest without its imports: a process that has imported torch once forks for each run.

    python forked_pytest.py --serve COMMAND...    runs a command, and serves its pytests
    python forked_pytest.py ARGUMENTS...          one of these: like python -m pytest ARGUMENTS

Mutation testing runs pytest hundreds of times, each over a module that changed: what was imported
before the fork must not be of this project. A run that takes over `LIMIT` seconds is killed.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

SOCKET = "PTAME_FORKED_PYTEST"
LIMIT = 30


def serve(command: list[str]) -> int:
    """Run a command, answer its pytests until it ends, and return its exit code."""
    import captum  # noqa: F401
    import hypothesis  # noqa: F401
    import numpy as np  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import pydantic  # noqa: F401
    import pytest
    import scipy.stats
    import torch

    assert scipy.stats
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = str(Path(folder) / "socket")
        server.bind(path)
        server.listen()
        with subprocess.Popen(command, env=os.environ | {SOCKET: path}) as process:
            waiting = selectors.DefaultSelector()
            waiting.register(server, selectors.EVENT_READ)
            while process.poll() is None:
                if waiting.select(timeout=0.2):
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(str(_run(connection, pytest)).encode())
            return process.returncode


def _run(connection: socket.socket, pytest: object) -> int:
    arguments = connection.makefile().readline().rstrip("\n").split("\0")
    child = os.fork()
    if not child:
        signal.alarm(LIMIT)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os._exit(int(pytest.main(arguments)))  # type: ignore[attr-defined]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ask(arguments: list[str]) -> int:
    """Have the server run pytest, and return its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SOCKET])
        connection.sendall(("\0".join(arguments) + "\n").encode())
        return int(connection.makefile().read())


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        sys.exit(serve(sys.argv[2:]))
    sys.exit(1 if ask(sys.argv[1:]) else 0)
