"""Start the tritonserver that comes with nvidia-pytriton (CPU, Python backend), until Ctrl-C.

What `make tritonserver` runs, to try a repository of `ptame triton --backend python` where there is
no container. For serving, take Triton's container (docker/triton.Dockerfile).

    python scripts/tritonserver.py models
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from bench.servers import tritonserver
from bench.suite import exit_code
from ptame_deploy.cli import console


def main() -> int:
    """Serve, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path)
    arguments = parser.parse_args()
    return exit_code(lambda: _serve(arguments.repository))


def _serve(repository: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ptame-triton-") as folder,
        tritonserver(repository.absolute(), Path(folder)) as server,
    ):
        console.result(f"{server.http} and {server.grpc}; Ctrl-C ends it")
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
