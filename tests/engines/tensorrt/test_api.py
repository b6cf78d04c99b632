"""Every name of TensorRT that the code uses is in the API of every version that it is for."""

import ast
from pathlib import Path

import pytest
from fake_tensorrt import API

import engines

pytestmark = pytest.mark.unit

FOLDER = Path(engines.__file__).parent
# Which class a variable is of, by module; `trt` and `.module` are TensorRT's module everywhere.
VARIABLES = {
    "tensorrt/bindings": {"engine": "ICudaEngine"},
    "tensorrt/engine_builder": {
        "builder": "Builder",
        "get_timing_cache()": "ITimingCache",
        "config": "IBuilderConfig",
        "network": "INetworkDefinition",
        "profile": "IOptimizationProfile",
    },
    "flavours": {
        "config": "IRuntimeConfig",
        "context": "IExecutionContext",
        "engine": "ICudaEngine",
        "strategy": "CudaGraphStrategy",
    },
    "tensorrt/layers": {"engine": "ICudaEngine", "inspector": "EngineInspector"},
    "tensorrt/log": {},
    "tensorrt/network": {
        "builder": "Builder",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "parser_error": "ParserError",
        "tensor": "ITensor",
    },
    "tensorrt/runtime": {"runtime": "Runtime"},
    "tensorrt/staged": {"context": "IExecutionContext"},
}
# Used only where a version has them.
OPTIONAL = {
    ("module", "CudaGraphStrategy"),
    ("module", "DynamicShapesKernelSpecializationStrategy"),
    ("CudaGraphStrategy", "DISABLED"),
    ("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE"),
    ("DynamicShapesKernelSpecializationStrategy", "EAGER"),
    ("ICudaEngine", "create_runtime_config"),
    ("IExecutionContext", "is_stream_capturable"),
    ("IRuntimeConfig", "cuda_graph_strategy"),
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
}
INHERITED = {"__init__"}


def terminal(node):
    """Return the last name of ``a.b.c`` or ``a``; of a call with brackets."""
    if isinstance(node, ast.Call):
        return f"{terminal(node.func)}()"
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def kind_of(node, variables):
    """Return the class of an expression: the module, one of its classes, or a known variable."""
    name = terminal(node)
    if name in ("trt", "module"):
        return "module"
    if isinstance(node, ast.Attribute):
        outer = kind_of(node.value, {})
        if outer == "module":
            return name
        if outer == "ILogger":
            return f"ILogger.{name}"
    return variables.get(name)


def used_names():
    """Return (class, name) of everything that the code uses of TensorRT."""
    used = {}
    for module, variables in VARIABLES.items():
        for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
            if isinstance(node, ast.Attribute):
                kind = kind_of(node.value, variables)
                if kind is not None and node.attr not in INHERITED:
                    used.setdefault((kind, node.attr), set()).add(module)
    return used


def test_the_walk_finds_what_is_used():
    used = used_names()
    assert len(used) > 60
    assert {
        ("module", "Runtime"),
        ("ICudaEngine", "create_execution_context"),
        ("IExecutionContext", "execute_async_v3"),
        ("ILogger.Severity", "INTERNAL_ERROR"),
        ("IBuilderConfig", "profiling_verbosity"),
        ("Builder", "build_serialized_network"),
        ("ProfilingVerbosity", "DETAILED"),
        *OPTIONAL,
    } <= used.keys()
    for module, variables in VARIABLES.items():
        for name, kind in variables.items():
            assert any(k == kind and module in where for (k, _), where in used.items()), name


@pytest.mark.parametrize("version", API)
def test_every_version_has_what_is_used(version):
    lacks = {
        f"{kind}.{name}"
        for kind, name in used_names().keys() - OPTIONAL
        if name not in API[version].get(kind, ())
    }
    assert not lacks


def test_what_is_optional_is_asked_for_and_complete():
    """A version has all of a group of optional names, or is never led to use one of them."""
    for version, api in API.items():
        has = {(kind, name) for kind, name in OPTIONAL if name in api.get(kind, ())}
        if "CudaGraphStrategy" in api["module"]:
            assert has == OPTIONAL, version
        else:
            assert has <= {("ICudaEngine", "create_runtime_config")}, version


def test_the_list_is_the_installed_packages():
    installed = pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    version = f"tensorrt_rtx-{installed.__version__}"
    if version not in API:
        pytest.skip(f"{version} is not in the list: scripts/tensorrt_api.py adds it")
    for kind, names in API[version].items():
        thing = installed
        for part in () if kind == "module" else kind.split("."):
            thing = getattr(thing, part)
        assert all(hasattr(thing, name) for name in names), kind
