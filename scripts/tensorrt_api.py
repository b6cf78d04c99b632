"""Write down the Python API of an importable TensorRT, for the tests' double of it.

    python scripts/tensorrt_api.py tensorrt_rtx >> tests/doubles/tensorrt_api.txt

One line for each class that the project uses: version, class, its public names. The bindings of the
full TensorRT come as packages of their own (``tensorrt-cu12-bindings``, ``tensorrt-cu13-bindings``,
module ``tensorrt_bindings``). They can be imported, though not used, without TensorRT's libraries:
put a shared library in the place of each that exports the functions which the bindings want.
"""

import importlib
import sys

CLASSES = (
    "Builder",
    "BuilderFlag",
    "CudaGraphStrategy",
    "DataType",
    "Dims",
    "DynamicShapesKernelSpecializationStrategy",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "IRuntimeConfig",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorIOMode",
    "TensorLocation",
)


def public_names(thing: object) -> str:
    """Return the names that do not begin with an underscore."""
    return " ".join(name for name in dir(thing) if not name.startswith("_"))


def main() -> None:
    """Print the lines."""
    trt = importlib.import_module(sys.argv[1])
    version = f"{sys.argv[1].removesuffix('_bindings')}-{trt.__version__}"
    print(version, "module", "__version__", public_names(trt))
    print(version, "ILogger.Severity", public_names(trt.ILogger.Severity))
    for name in CLASSES:
        if hasattr(trt, name):
            print(version, name, public_names(getattr(trt, name)))


if __name__ == "__main__":
    main()
