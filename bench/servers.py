"""Starting the servers that are measured and tested: tritonserver and ``ptame serve``."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ptame_deploy.errors import CheckFailedError, MissingRequirementError

START_SECONDS = 120.0
STOP_SECONDS = 60.0
ENVIRONMENT_VARIABLE = "PTAME_TRITON_VENV"
_DEFAULT_ENVIRONMENT = Path(__file__).parents[1] / ".venv-triton"
_LOG_SHOWN = 4000
# Of the environment's Python: its version, where its library is, and what runs the graphs.
_ASK_PYTHON = (
    "import sys, sysconfig, onnxruntime; print(*sys.version_info[:2], sep='.'); "
    "print(sysconfig.get_config_var('LIBDIR')); print(onnxruntime.__version__)"
)


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        http: its address.
        log: what it prints.
        grpc: its address for gRPC, where it has one.
        runs: what runs the graphs in it.
        pid: of its process, where it is but one.
    """

    http: str
    log: Path
    grpc: str | None = None
    runs: str | None = None
    pid: int | None = None


def triton_environment() -> Path:
    """Return the folder of tritonserver's environment: the variable's, else the clone's own."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE, _DEFAULT_ENVIRONMENT))


def find_tritonserver() -> Path:
    """Return the folder that holds tritonserver.

    Raises:
        MissingRequirementError: the environment was not made.
    """
    environment = triton_environment()
    found = sorted(environment.glob("lib/python3*/site-packages/pytriton/tritonserver"))
    if not found:
        message = f"No tritonserver in {environment}: make triton-environment."
        raise MissingRequirementError(message)
    return found[0]


@contextmanager
def tritonserver(repository: Path, workspace: Path) -> Iterator[RunningServer]:
    """Run tritonserver (CPU, Python backend) on a repository until the block ends.

    Args:
        repository: the models.
        workspace: an empty folder for its log and its backend.

    Raises:
        MissingRequirementError: its environment was not made.
        CheckFailedError: it does not start.
    """
    home = find_tritonserver()
    environment, site = triton_environment(), home.parent.parent
    version, library, runtime = subprocess.run(  # noqa: S603 - our own environment's
        [environment / "bin/python", "-c", _ASK_PYTHON], check=True, capture_output=True, text=True
    ).stdout.split()
    backends = workspace / "backends"
    shutil.copytree(home / "backends/python", backends / "python")
    stub = home / f"python_backend_stubs/{version}/triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    http, grpc = free_port(), free_port()
    words = [
        home / "bin/tritonserver", "--model-repository", repository,
        "--backend-directory", backends, "--disable-auto-complete-config",
        "--http-port", http, "--grpc-port", grpc, "--allow-metrics", "false",
        "--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1",
    ]  # fmt: skip
    variables = {
        "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{library}",
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
    }
    server = RunningServer(
        f"http://127.0.0.1:{http}",
        workspace / "log.txt",
        f"grpc://127.0.0.1:{grpc}",
        f"Python backend, ONNX Runtime {runtime}",
    )
    with _running(list(map(str, words)), server, variables):
        yield server


@contextmanager
def ptame_serve(
    model: Path, workspace: Path, options: Sequence[str] = ()
) -> Iterator[RunningServer]:
    """Run ``ptame serve`` on a graph until the block ends.

    Args:
        model: its folder.
        workspace: a folder for its log.
        options: further ones of ``ptame serve``.

    Raises:
        CheckFailedError: it does not start.
    """
    import onnxruntime

    port = free_port()
    words = [sys.executable, "-m", "ptame_deploy", "serve", str(model), "--port", str(port)]
    runs = f"ONNX Runtime {onnxruntime.__version__}"
    server = RunningServer(f"http://127.0.0.1:{port}", workspace / "log.txt", None, runs)
    with _running([*words, *options], server, {}) as process:
        yield replace(server, pid=process.pid)


@contextmanager
def _running(
    words: Sequence[str], server: RunningServer, variables: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with server.log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(  # noqa: S603 - our own words
            words, env=os.environ | variables, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(server.http):
            if process.poll() is not None or time.monotonic() > deadline:
                said = server.log.read_text(encoding="utf-8", errors="replace")[-_LOG_SHOWN:]
                message = f"{Path(words[0]).name} did not start:\n{said}"
                raise CheckFailedError(message)
            time.sleep(0.3)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_ready(address: str) -> bool:
    """Whether a server says that its models are loaded."""
    try:
        with urllib.request.urlopen(f"{address}/v2/health/ready", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def photos_and_runs(address: str, name: str) -> tuple[int, int]:
    """Return how many photos a model was given so far, and in how many runs.

    Args:
        address: of the server.
        name: of the model.
    """
    import json

    try:
        with urllib.request.urlopen(f"{address}/v2/models/{name}/stats", timeout=10) as answer:  # noqa: S310
            stats = json.load(answer)["model_stats"][0]
            return int(stats["inference_count"]), int(stats["execution_count"])
    except urllib.error.HTTPError:  # ptame serve tells Prometheus
        with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:  # noqa: S310
            text = answer.read().decode()
    told = dict(re.findall(r"^ptame_batch_photos_(sum|count) (\S+)$", text, re.MULTILINE))
    return int(float(told["sum"])), int(float(told["count"]))
