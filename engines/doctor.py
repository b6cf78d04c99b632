"""What this machine can do: processor, GPU, runtimes, and what each missing thing needs."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from engines.flavours import FlavourName, check_supports, load_flavour
from engines.gpu import Gpu, find_gpu
from engines.open_memory import DISTRIBUTIONS, installed_memories
from engines.plan import check_flavour, check_runs_here, holds_plan, read_plan
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GRAPH_MANIFEST, GraphManifest
from ptame_deploy.errors import ArtifactError, MissingRequirementError
from ptame_deploy.onnx_session import check_onnxruntime

_INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8")
_CPUINFO = Path("/proc/cpuinfo")
_FLAVOURS: tuple[FlavourName, ...] = ("tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        what: was looked for.
        here: whether this machine has it.
        detail: its version, or what it needs.
    """

    what: str
    here: bool
    detail: str


def examine() -> list[Finding]:
    """Look for everything that can run a graph or an engine."""
    gpu = find_gpu()
    return [
        integer_kernels(),
        _describe_gpu(gpu),
        _onnxruntime(),
        *_providers(),
        *(_flavour(name, gpu) for name in _FLAVOURS),
        _device_memory(),
        _package("torch", "PyTorch", "pip install torch"),
        _package("lightning", "training", 'pip install "ptame-deploy[train]"'),
    ]


def examine_artifact(directory: Path) -> Finding:
    """Say whether an artifact can run here; its hashes are checked.

    Raises:
        InvalidInputError: there is no artifact.
        ArtifactError: it is corrupt.
    """
    if holds_plan(directory):
        manifest = read_plan(directory)
        name = f"{manifest.precision} plan for {manifest.flavour} {manifest.flavour_version}"
        gpu = find_gpu()
        try:
            flavour = load_flavour(manifest.flavour)
            check_flavour(manifest, flavour)
            if gpu is None:
                return Finding(name, here=False, detail=f"{name}: needs an NVIDIA GPU and driver")
            check_runs_here(manifest, flavour, gpu)
            memory = _device_memory()
            if not memory.here:
                return Finding(name, here=False, detail=f"{name}: {memory.detail}")
        except (MissingRequirementError, ArtifactError) as error:
            return Finding(name, here=False, detail=f"{name}: {error}")
        return Finding(name, here=True, detail=f"{name}: runs on {gpu.name}")
    graph = read_manifest(directory, GRAPH_MANIFEST, GraphManifest)
    name = f"{graph.precision} graph of {graph.classifier.name}"
    try:
        runtime = check_onnxruntime()
    except MissingRequirementError as error:
        return Finding(name, here=False, detail=f"{name}: {error}")
    slow = graph.precision == "int8" and not integer_kernels().here
    note = ", slowly: this processor has no INT8 instructions" if slow else ""
    return Finding(name, here=True, detail=f"{name}: runs on {runtime}{note}")


def integer_kernels() -> Finding:
    """Look for the instructions that make INT8 fast on a CPU."""
    text = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.exists() else ""
    found = [flag for flag in _INT8_FLAGS if flag in text.split()]
    detail = ", ".join(found) or "without VNNI or AMX an INT8 graph is hardly faster than FP32"
    return Finding("INT8 instructions of the CPU", bool(found), detail)


def _describe_gpu(gpu: Gpu | None) -> Finding:
    if gpu is None:
        return Finding("NVIDIA GPU", here=False, detail="an NVIDIA GPU and its driver")
    return Finding("NVIDIA GPU", here=True, detail=str(gpu))


def _onnxruntime() -> Finding:
    try:
        name = check_onnxruntime()
    except MissingRequirementError as error:
        return Finding("ONNX Runtime", here=False, detail=str(error))
    return Finding("ONNX Runtime", here=True, detail=f"{name} {metadata.version(name)}")


def _providers() -> Iterator[Finding]:
    try:
        check_onnxruntime()
        providers = importlib.import_module("onnxruntime").get_available_providers()
    except MissingRequirementError:
        return
    for name, package in (("CUDA", "onnxruntime-gpu"), ("Tensorrt", "onnxruntime-gpu")):
        here = f"{name}ExecutionProvider" in providers
        need = f"pip uninstall -y onnxruntime && pip install {package}"
        yield Finding(f"ONNX Runtime, {name} provider", here, "available" if here else need)


def _flavour(name: FlavourName, gpu: Gpu | None) -> Finding:
    try:
        flavour = load_flavour(name)
    except MissingRequirementError as error:
        return Finding(name, here=False, detail=str(error))
    if gpu is not None:
        try:
            check_supports(flavour, gpu)
        except MissingRequirementError as error:
            return Finding(name, here=False, detail=f"builds plans for other GPUs. {error}")
        can = "builds and runs plans"
    elif flavour.builds_without_gpu:
        can = "builds plans; running one needs a GPU"
    else:
        can = "building and running a plan need a GPU"
    return Finding(name, here=True, detail=f"{flavour.version}: {can}")


def _device_memory() -> Finding:
    what = "GPU memory for plans"
    packages = [DISTRIBUTIONS[name] for name in installed_memories()]
    if not packages:
        need = 'pip install "ptame-deploy[cuda]", or "ptame-deploy[pycuda]"'
        return Finding(what, here=False, detail=need)
    detail = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    return Finding(what, here=True, detail=detail)


def _package(name: str, what: str, install: str) -> Finding:
    try:
        return Finding(what, here=True, detail=f"{name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        return Finding(what, here=False, detail=install)
