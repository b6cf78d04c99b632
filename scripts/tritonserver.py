"""Start the tritonserver that comes with nvidia-pytriton (CPU, Python backend), until Ctrl-C.

What `make tritonserver` runs, to try a repository of `ptame triton --backend python` where there is
no container. For serving, take Triton's container (docker/triton.Dockerfile).

    python scripts/tritonserver.py models
"""

import argparse
import re
import signal
import sys
import tempfile
from pathlib import Path

from bench.servers import tritonserver
from bench.suite import exit_code
from ptame_deploy.cli import console
from ptame_deploy.errors import InvalidInputError


def main() -> int:
    """Serve, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path)
    arguments = parser.parse_args()
    return exit_code(lambda: _serve(arguments.repository))


def _serve(repository: Path) -> None:
    _check(repository)
    with (
        tempfile.TemporaryDirectory(prefix="ptame-triton-") as folder,
        tritonserver(repository.absolute(), Path(folder)) as server,
    ):
        console.result(f"{server.http} and {server.grpc}; Ctrl-C ends it")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server ends with us
        signal.pause()


def _check(repository: Path) -> None:
    """See that this tritonserver, which has the Python backend alone, can serve a repository.

    Raises:
        InvalidInputError: it holds no models, or one for another backend.
    """
    configs = sorted(repository.glob("*/config.pbtxt"))
    if not configs:
        message = f"{repository} holds no models: write some with ptame triton --backend python."
        raise InvalidInputError(message)
    for path in configs:
        found = re.search(r'^backend: "(.+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
        if found is not None and found[1] != "python":
            message = (
                f"{path.parent.name} is for the backend {found[1]}, and this tritonserver has the "
                "Python backend alone: write it with ptame triton --backend python, or take "
                "Triton's container (docker/triton.Dockerfile)."
            )
            raise InvalidInputError(message)


if __name__ == "__main__":
    sys.exit(main())
