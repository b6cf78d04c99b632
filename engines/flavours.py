"""The TensorRTs: one code path, and here all that differs between them.

- ``tensorrt`` 10.x: networks are weakly typed unless the creation flag ``STRONGLY_TYPED`` is set.
- ``tensorrt`` 11.x: strong typing is always on; precision flags and calibrators are gone (they are
  used nowhere in this project, precision is in the graph).
- ``tensorrt_rtx``: as 11.x; it builds without a GPU, and its plans run on every GPU of a list of
  compute capabilities instead of the one that they were built on. It compiles kernels when a batch
  size is first seen, so it captures CUDA graphs itself; on the full TensorRT that is the caller's.
"""

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from engines.gpu import Gpu
from ptame_deploy.errors import MissingRequirementError, reason_of

FlavourName = Literal["tensorrt", "tensorrt-rtx"]
_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_TITLES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}
_INSTALL = {
    "tensorrt": "pip install tensorrt (its packages come from NVIDIA's index)",
    "tensorrt-rtx": 'pip install "ptame-deploy[rtx]"',
}
OLDEST_TENSORRT = 10
# Where a TensorRT for RTX plan runs unless other capabilities are set (its documentation, "CPU-Only
# AOT Engines"), and on what is newer. Not on Hopper (9.0): an H100 refuses even the plan that was
# built on it ("TensorRT-RTX does not support this compute capability").
RTX_COMPUTE_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")


@dataclass(frozen=True)
class Flavour:
    """One installed TensorRT.

    Attributes:
        name: which of them.
        module: its Python module.
    """

    name: FlavourName
    module: Any

    @property
    def title(self) -> str:
        """Name and version as its makers write them."""
        return f"{_TITLES[self.name]} {self.version}"

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.module.__version__)

    @property
    def builds_without_gpu(self) -> bool:
        """Whether plans can be built on a machine without a GPU."""
        return self.name == "tensorrt-rtx"

    def network_flags(self) -> int:
        """Return the flags of a strongly typed network with explicit batch."""
        flags = self.module.NetworkDefinitionCreationFlag
        strongly_typed = getattr(flags, "STRONGLY_TYPED", None)
        return 0 if strongly_typed is None else 1 << int(strongly_typed)

    def create_context(self, engine: Any, *, graphs: bool) -> tuple[Any, bool]:
        """Create an execution context for batches of one size.

        Args:
            engine: an ``ICudaEngine`` of this module.
            graphs: let TensorRT capture CUDA graphs, where it does so itself.

        Returns:
            The context, None where TensorRT refuses (its logger knows why); and whether it captures
            CUDA graphs itself, so that the caller must not.
        """
        trt = self.module
        if not hasattr(trt, "CudaGraphStrategy"):
            return engine.create_execution_context(), False
        config = engine.create_runtime_config()
        # Lazy, the default, would answer the first batches by slower stand-in kernels.
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        strategy = trt.CudaGraphStrategy
        config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE if graphs else strategy.DISABLED
        return engine.create_execution_context(runtime_config=config), graphs

    def is_capturable(self, context: Any, stream: int) -> bool:
        """Whether a context's work on a stream may be captured as a CUDA graph.

        TensorRT for RTX knows; the full TensorRT is asked by trying.
        """
        if not hasattr(context, "is_stream_capturable"):
            return True
        return bool(context.is_stream_capturable(stream))


def check_supports(flavour: Flavour, gpu: Gpu) -> None:
    """See that a TensorRT runs plans on a GPU at all, before one is built for it.

    Raises:
        MissingRequirementError: it does not.
    """
    if not flavour.builds_without_gpu or gpu.compute_capability in RTX_COMPUTE_CAPABILITIES:
        return
    newest = RTX_COMPUTE_CAPABILITIES[-1]
    if float(gpu.compute_capability) > float(newest):
        return
    message = (
        f"{flavour.title} does not run on {gpu.name} (compute capability "
        f"{gpu.compute_capability}; it takes {', '.join(RTX_COMPUTE_CAPABILITIES)} and newer). Use "
        "TensorRT, or ONNX Runtime's CUDA provider (--provider cuda)."
    )
    raise MissingRequirementError(message)


def load_flavour(name: FlavourName) -> Flavour:
    """Import a TensorRT.

    Raises:
        MissingRequirementError: it is not installed, broken, or too old.
    """
    try:
        module = importlib.import_module(_MODULES[name])
    except Exception as error:  # a missing library can end in several kinds of error
        reason = reason_of(error)
        message = f"{name} cannot be used here ({reason}). Install it: {_INSTALL[name]}"
        raise MissingRequirementError(message) from error
    flavour = Flavour(name, module)
    if name == "tensorrt" and int(flavour.version.partition(".")[0]) < OLDEST_TENSORRT:
        message = f"TensorRT {flavour.version} is too old: {OLDEST_TENSORRT}.0 or newer is needed."
        raise MissingRequirementError(message)
    return flavour
