"""A real tritonserver on a CPU, where its own environment is (see the Makefile)."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENVIRONMENT = Path(os.environ.get("PTAME_TRITON_VENV", ROOT / ".venv-triton"))
START_SECONDS = 120


@dataclass(frozen=True)
class Server:
    """A running server, and the repository that it serves."""

    http: str
    grpc: str
    repository: Path
    log: Path

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.http}/v2/health/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="session")
def start_triton(tmp_path_factory):
    """Start tritonserver on a repository; stopped at the end."""
    binaries = sorted(ENVIRONMENT.glob("lib/python3*/site-packages/pytriton/tritonserver"))
    if not binaries:
        pytest.skip(f"no tritonserver in {ENVIRONMENT}: make triton-environment")
    home, site = binaries[0], binaries[0].parents[1]
    backends = tmp_path_factory.mktemp("backends")
    python = ENVIRONMENT / "bin/python"
    words = (
        "import sys, sysconfig; print(*sys.version_info[:2], sep='.'); "
        "print(sysconfig.get_config_var('LIBDIR'))"
    )
    version, library = subprocess.run(
        [python, "-c", words], check=True, capture_output=True, text=True
    ).stdout.split()
    shutil.copytree(home / "backends/python", backends / "python")
    stub = home / f"python_backend_stubs/{version}/triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{library}",
        "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    running = []

    def start(repository):
        http, grpc = free_port(), free_port()
        log = tmp_path_factory.mktemp("triton") / "log.txt"
        words = [
            home / "bin/tritonserver", "--model-repository", repository,
            "--backend-directory", backends, "--disable-auto-complete-config",
            "--http-port", http, "--grpc-port", grpc, "--allow-metrics", "false",
            "--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1",
        ]  # fmt: skip
        with log.open("w") as output:
            process = subprocess.Popen(
                list(map(str, words)), env=environment, stdout=output, stderr=output
            )
        running.append(process)
        server = Server(f"http://127.0.0.1:{http}", f"grpc://127.0.0.1:{grpc}", repository, log)
        deadline = time.monotonic() + START_SECONDS
        while not server.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"tritonserver did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.3)
        return server

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        process.wait(60)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
