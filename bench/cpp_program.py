"""``ptame-run`` of ``engines/cpp``: built on the ONNX Runtime of Python's package, and timed."""

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

from ptame_deploy.errors import CheckFailedError, MissingRequirementError

SOURCES = Path(__file__).parents[1] / "engines" / "cpp"


def link_onnxruntime(folder: Path) -> Path:
    """Put the package's library where a linker and a loader find it, under the names they look for.

    Args:
        folder: of the links; made where it is not there.

    Returns:
        The link for the linker; the loader wants ``folder`` in its path.

    Raises:
        MissingRequirementError: the package is not installed, or holds no library to link with.
    """
    spec = importlib.util.find_spec("onnxruntime")
    parent = Path(spec.origin).parent if spec and spec.origin else Path()
    found = sorted(parent.glob("capi/libonnxruntime.so.*"))
    if not found:
        message = "The onnxruntime package here holds no library to link with."
        raise MissingRequirementError(message)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(found[0])
    return folder / "libonnxruntime.so"


def build_program(folder: Path, headers: Path) -> Path:
    """Build ``ptame-run`` for ONNX Runtime, optimised.

    Args:
        folder: of the build.
        headers: what ``scripts/cpp_headers.sh`` made.

    Returns:
        The program, which finds its library by itself.

    Raises:
        MissingRequirementError: CMake or the headers are missing, or the build fails.
    """
    include = headers.resolve() / "root/usr/include"
    if shutil.which("cmake") is None or not (include / "onnxruntime").is_dir():
        message = f"Building needs CMake, a compiler, and headers in {headers}: make cpp-headers."
        raise MissingRequirementError(message)
    library = link_onnxruntime(folder.resolve() / "onnxruntime")
    configure = [
        "cmake", "-S", SOURCES, "-B", folder, f"-DNLOHMANN_JSON_INCLUDE_DIR={include}",
        f"-DONNXRUNTIME_INCLUDE_DIR={include / 'onnxruntime'}", f"-DONNXRUNTIME_LIBRARY={library}",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", folder, "--target", "ptame-run"]):
        words = list(map(str, command))
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            message = f"{SOURCES} cannot be built: {' '.join(last)}"
            raise MissingRequirementError(message)
    return folder / "ptame-run"


class CppTurns:
    """A ``ptame-run`` that times one batch whenever it is asked to; a context manager."""

    def __init__(
        self, program: Path, model: Path, photos: list[Path], *, threads: int, runs: int
    ) -> None:
        """Start it; it opens the graph and warms up at once.

        Args:
            program: ``ptame-run``.
            model: folder of the graph.
            photos: that run as one batch.
            threads: within an operator.
            runs: of a turn.
        """
        words = [program, model, *photos, "--threads", threads, "--batch", len(photos)]
        self._process = subprocess.Popen(  # noqa: S603
            [*map(str, words), "--bench", str(runs), "--turns"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"LC_ALL": "C"},
        )  # fmt: skip

    def turn(self) -> dict[str, Any]:
        """Return what it says of its next turn: ``ms`` of each run, ``runtime``, ``batch``.

        Raises:
            CheckFailedError: it ended instead.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            assert self._process.stderr is not None
            said = self._process.stderr.read().strip().splitlines()[-1:]
            message = f"ptame-run ended: {' '.join(said) or 'without a word'}"
            raise CheckFailedError(message)
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
