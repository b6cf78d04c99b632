"""The C++ library, built with sanitizers, where a compiler and headers are (see the Makefile)."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEADERS = Path(os.environ.get("PTAME_CPP_HEADERS", ROOT / ".cpp-headers")) / "root/usr/include"
# What ONNX Runtime keeps until the process ends is no leak of ours.
LEAKS = "leak:libonnxruntime\n"


@dataclass(frozen=True)
class Build:
    """A finished build.

    Attributes:
        folder: of CMake.
        arguments: that it was configured with, for whoever builds upon it.
        environment: to run what was built in.
    """

    folder: Path
    arguments: list[str]
    environment: dict[str, str]

    def run(self, *words, program=None, cwd=None):
        command = [program or self.folder / "ptame-run", *words]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=self.environment,
            check=False, timeout=300, cwd=cwd,
        )  # fmt: skip
        assert "Sanitizer" not in done.stderr, done.stderr
        assert "runtime error" not in done.stderr, done.stderr
        return done


def call_cmake(*words):
    """Run CMake; a warning of the compiler is a failure."""
    done = subprocess.run(["cmake", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning:" not in done.stdout, done.stdout


@pytest.fixture(scope="session")
def cmake():
    return call_cmake


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """ONNX Runtime's library under the names that a linker and a loader look for."""
    spec = importlib.util.find_spec("onnxruntime")
    found = sorted(Path(spec.origin).parent.glob("capi/libonnxruntime.so.*"))
    if not found:
        pytest.skip("the onnxruntime wheel holds no library to link with")
    folder = tmp_path_factory.mktemp("onnxruntime")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(found[0])
    return folder / "libonnxruntime.so"


@pytest.fixture(scope="session")
def built(tmp_path_factory, library):
    for program in ("cmake", "c++", "ninja"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    if not (HEADERS / "onnxruntime/onnxruntime_cxx_api.h").is_file():
        pytest.skip(f"no headers in {HEADERS}: make cpp-headers")
    folder = tmp_path_factory.mktemp("cpp") / "build"
    arguments = [
        "-G", "Ninja", f"-DONNXRUNTIME_INCLUDE_DIR={HEADERS / 'onnxruntime'}",
        f"-DONNXRUNTIME_LIBRARY={library}", f"-DNLOHMANN_JSON_INCLUDE_DIR={HEADERS}",
    ]  # fmt: skip
    options = ["-DPTAME_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug"]
    call_cmake("-S", ROOT / "engines/cpp", "-B", folder, *arguments, *options)
    call_cmake("--build", folder)
    suppressions = folder / "leaks.txt"
    suppressions.write_text(LEAKS)
    environment = os.environ | {
        "ASAN_OPTIONS": "detect_leaks=1",
        "LSAN_OPTIONS": f"suppressions={suppressions}:print_suppressions=0",
        "LD_LIBRARY_PATH": str(library.parent),
    }
    return Build(folder, arguments, environment)
