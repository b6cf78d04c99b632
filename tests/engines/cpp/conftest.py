"""The C++ library, built with sanitizers, where a compiler and headers are (see the Makefile)."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cpp_doubles import build_doubles, rtx_headers, write_engine
from PIL import Image

from bench.cpp_program import link_onnxruntime
from ptame_deploy.errors import MissingRequirementError

ROOT = Path(__file__).parents[3]
FETCHED = Path(os.environ.get("PTAME_CPP_HEADERS", ROOT / ".cpp-headers"))
HEADERS, TENSORRT, CUDA = FETCHED / "root/usr/include", FETCHED / "tensorrt", FETCHED / "cuda"
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

    def run(self, *words, program=None, cwd=None, **settings):
        """Run a program, with further settings in its environment."""
        command = [program or self.folder / "ptame-run", *words]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, timeout=300,
            env=self.environment | settings, cwd=cwd, stdin=subprocess.DEVNULL,
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
def library(builds, done_once):
    """ONNX Runtime's library under the names that a linker and a loader look for."""
    try:
        done_once("cpp-links", lambda: link_onnxruntime(builds / "links"))
    except MissingRequirementError as error:
        pytest.skip(str(error))
    return builds / "links/libonnxruntime.so"


@pytest.fixture(scope="session")
def tools():
    """What a build needs of the machine."""
    for program in ("cmake", "c++", "ninja"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    if not (HEADERS / "onnxruntime/onnxruntime_cxx_api.h").is_file():
        pytest.skip(f"no headers in {HEADERS}: make cpp-headers")


@pytest.fixture(scope="session")
def builds(made_once):
    """Where the builds are: a folder that is kept where PTAME_CPP_BUILDS names one."""
    kept = os.environ.get("PTAME_CPP_BUILDS")
    return Path(kept).resolve() if kept else made_once("cpp", Path.mkdir)


@pytest.fixture(scope="session")
def done_once(made_once):
    """Let one of all workers do a thing, in each session anew."""

    def call(name, do):
        def make(marker):
            do()
            marker.touch()

        made_once(name, make)

    return call


@pytest.fixture(scope="session")
def build(builds, done_once):
    """Configure and build the library, and say how its programs are run."""

    def call(name, arguments, *libraries, sanitize=True):
        found = prepare(builds / name, arguments, *libraries)
        done_once(f"cpp-{name}", lambda: compile_library(found, sanitize=sanitize))
        return found

    return call


def prepare(folder, arguments, *libraries):
    """Describe a build before it is made."""
    arguments = ["-G", "Ninja", f"-DNLOHMANN_JSON_INCLUDE_DIR={HEADERS}", *arguments]
    suppressions = folder / "leaks.txt"
    environment = os.environ | {
        "ASAN_OPTIONS": "detect_leaks=1",
        "LSAN_OPTIONS": f"suppressions={suppressions}:print_suppressions=0",
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
    }
    return Build(folder, arguments, environment)


def compile_library(build, *, sanitize):
    """Configure and build."""
    # One pass over the headers is a third of the work; the example is built file by file.
    unity = ["-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=0"]
    options = [*unity, f"-DPTAME_SANITIZE={sanitize}", "-DCMAKE_BUILD_TYPE=Debug"]
    call_cmake("-S", ROOT / "engines/cpp", "-B", build.folder, *build.arguments, *options)
    call_cmake("--build", build.folder)
    (build.folder / "leaks.txt").write_text(LEAKS)


@pytest.fixture(scope="session")
def built(build, tools, library):
    arguments = [
        f"-DONNXRUNTIME_INCLUDE_DIR={HEADERS / 'onnxruntime'}", f"-DONNXRUNTIME_LIBRARY={library}",
    ]  # fmt: skip
    return build("onnxruntime", arguments, library.parent)


@pytest.fixture(scope="session")
def cuda_headers(tools):
    for folder in (TENSORRT / "NvInferRuntime.h", CUDA / "include/cuda_runtime_api.h"):
        if not folder.is_file():
            pytest.skip(f"no {folder}: make cpp-headers")
    return CUDA / "include"


@pytest.fixture(scope="session")
def doubles(builds, done_once, cuda_headers, library):
    """A folder with doubles of CUDA's runtime and of TensorRT."""
    folder = builds / "doubles"
    folder.mkdir(parents=True, exist_ok=True)
    includes = [TENSORRT, cuda_headers, HEADERS / "onnxruntime"]
    done_once("cpp-doubles", lambda: build_doubles(folder, includes, library))
    return folder


@pytest.fixture(scope="session")
def built_tensorrt(build, doubles, cuda_headers, library):
    """The library for TensorRT: its real headers, and doubles of its and CUDA's library."""
    arguments = [
        "-DPTAME_BACKEND=tensorrt",
        f"-DTENSORRT_INCLUDE_DIR={TENSORRT}",
        f"-DTENSORRT_LIBRARY={doubles / 'libnvinfer.so.10'}",
        f"-DCUDA_RUNTIME_INCLUDE_DIR={cuda_headers}",
        f"-DCUDA_RUNTIME_LIBRARY={doubles / 'libcudart.so.13'}",
    ]
    return build("tensorrt", arguments, doubles, library.parent)


@pytest.fixture(scope="session")
def built_rtx(build, builds, done_once, cuda_headers):
    """The library for TensorRT for RTX, with the real libraries of it and of CUDA's runtime.

    Its headers are TensorRT's, with the names added that only it has. So what it does with an
    engine must not be run: it is for what happens before.
    """
    rtx = pytest.importorskip("tensorrt_rtx_libs", reason="extra: rtx")
    (found,) = Path(rtx.__file__).parent.glob("libtensorrt_rtx.so.*")
    headers = builds / "rtx-headers"
    done_once("cpp-rtx-headers", lambda: rtx_headers(TENSORRT, headers))
    arguments = [
        "-DPTAME_BACKEND=tensorrt-rtx",
        f"-DTENSORRT_INCLUDE_DIR={headers}",
        f"-DTENSORRT_LIBRARY={found}",
        f"-DCUDA_RUNTIME_INCLUDE_DIR={cuda_headers}",
        f"-DCUDA_RUNTIME_LIBRARY={CUDA / 'lib/libcudart.so.13'}",
    ]
    return build("tensorrt-rtx", arguments, found.parent, CUDA / "lib", sanitize=False)


@pytest.fixture
def engine(tiny_artifact, tmp_path):
    return write_engine(tiny_artifact, tmp_path / "engine")


@pytest.fixture(scope="session")
def engine_photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine-photos")
    generator = np.random.default_rng(0)
    for number in range(7):
        pixels = generator.integers(0, 255, (90 + number, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def runs(built_tensorrt, tmp_path):
    """Run `ptame-run` for TensorRT; returns how it ended, and what the doubles counted."""
    path = tmp_path / "report.json"

    def call(*words, **settings):
        done = built_tensorrt.run(*words, DOUBLE_REPORT=str(path), **settings)
        report = json.loads(path.read_text())
        left = {what: count for what, count in report.items() if what.endswith("left")}
        assert not any(left.values()), left
        return done, report

    return call
