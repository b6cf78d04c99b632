"""Doubles of CUDA's runtime and of TensorRT that the C++ library is tested with, and engines."""

import re
import shutil
import subprocess
from pathlib import Path

from engines.plan import PLAN_FILE, PLAN_MANIFEST, PlanManifest, Profile
from ptame_deploy.artifact_files import manifest_json, read_manifest, record_files
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST, GraphManifest
from ptame_deploy.provenance import Provenance

VERSION = "10.14.1.48"  # of TensorRT, as the double says

SOURCES = Path(__file__).parent / "cpp"
CLASSES = ("VRuntime", "VCudaEngine", "VExecutionContext", "VRuntimeConfig")
FUNCTION = re.compile(r"virtual\s+((?:[^;{}()]|\([^()]*\))+?)\s*=\s*0;")
# What TensorRT for RTX has beside the names of TensorRT 10.14, as its documentation gives them.
RTX_ENUMS = """
enum class DynamicShapesKernelSpecializationStrategy : int32_t { kLAZY = 0, kEAGER = 1, kNONE = 2 };
enum class CudaGraphStrategy : int32_t { kDISABLED = 0, kWHOLE_GRAPH_CAPTURE = 1 };
"""
RTX_FUNCTIONS = """
    void setDynamicShapesKernelSpecializationStrategy(
        DynamicShapesKernelSpecializationStrategy) noexcept {}
    bool setCudaGraphStrategy(CudaGraphStrategy) noexcept { return true; }
"""


def stubs(header: str) -> str:
    """Make a class for each table in ``NvInferImpl.h``; all functions end the program."""
    # Functions that no build of the header has are behind this condition.
    header = re.sub(r"#if ENABLE_FEATURE\w+.*?#endif[^\n]*\n", "", header, flags=re.DOTALL)
    parts = ["#pragma once\n#include <NvInferRuntime.h>\n#include <cstdlib>\n"]
    for name in CLASSES:
        table = rf"^class {name} : public VRoot\s*\{{(.*?)^\}};"
        body = re.search(table, header, re.MULTILINE | re.DOTALL)
        assert body, name
        functions = FUNCTION.findall(body[1])
        assert functions, name
        lines = "".join(f"  {one} override {{ std::abort(); }}\n" for one in functions)
        parts.append(
            f"class Stub{name[1:]} : public nvinfer1::apiv::{name} {{\n public:\n{lines}}};\n"
        )
    text = "".join(parts)
    # Types of the namespace are named without it there.
    return text.replace("class Stub", "namespace nvinfer1 { namespace apiv {\nclass Stub", 1) + (
        "}}\n" + "".join(f"using nvinfer1::apiv::Stub{name[1:]};\n" for name in CLASSES)
    )


def rtx_headers(headers: Path, folder: Path) -> Path:
    """Copy TensorRT's headers and add what those of TensorRT for RTX have and the library uses."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in headers.glob("NvInfer*.h"):
        text = path.read_text(encoding="utf-8")
        if path.name == "NvInferVersion.h":
            text += "\n#define TRT_MAJOR_RTX 1\n"
        if path.name == "NvInferRuntime.h":
            before, after = text.split("class IRuntimeConfig : public INoCopy", 1)
            after = after.replace("public:", "public:" + RTX_FUNCTIONS, 1)
            text = before + RTX_ENUMS + "class IRuntimeConfig : public INoCopy" + after
        copy = folder / path.name
        if not copy.is_file() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")
    return folder


def build_doubles(folder: Path, includes: list[Path], onnxruntime: Path) -> None:
    """Build ``libcudart.so.13`` and ``libnvinfer.so.10`` into a folder.

    Args:
        folder: of the libraries.
        includes: of TensorRT, CUDA and ONNX Runtime.
        onnxruntime: its library, which computes.
    """
    (tensorrt,) = (path for path in includes if (path / "NvInferImpl.h").is_file())
    (folder / "stubs.hpp").write_text(stubs((tensorrt / "NvInferImpl.h").read_text()))
    words = ["c++", "-std=c++17", "-g", "-fPIC", "-shared", "-I", folder, "-I", SOURCES]
    words += [word for path in includes for word in ("-isystem", path)]
    cuda, nvinfer = folder / "libcudart.so.13", folder / "libnvinfer.so.10"
    for target, source, libraries in (
        (cuda, "cuda_double.cpp", []),
        (nvinfer, "nvinfer_double.cpp", [cuda, onnxruntime]),
    ):
        options = [f"-Wl,-soname,{target.name},-rpath,{onnxruntime.parent}"]
        command = [*words, SOURCES / source, "-o", target, *options, *libraries]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def write_engine(artifact, folder, profile=(1, 2, 4)):
    """Write the engine that the double of TensorRT runs: a graph in a plan's clothes."""
    graph = read_manifest(artifact, GRAPH_MANIFEST, GraphManifest)
    folder.mkdir()
    shutil.copy(artifact / GRAPH_FILE, folder / PLAN_FILE)
    smallest, tuned, largest = profile
    made = PlanManifest(
        files=record_files(folder), provenance=Provenance.here(seed=0), flavour="tensorrt",
        flavour_version=VERSION, version_compatible=False, compute_capabilities=["9.0"],
        gpu="a GPU", driver="13.0", precision=graph.precision, inputs=graph.inputs,
        outputs=graph.outputs, graph=graph,
        profile=Profile(min_batch=smallest, opt_batch=tuned, max_batch=largest),
    )  # fmt: skip
    (folder / PLAN_MANIFEST).write_text(manifest_json(made))
    return folder
