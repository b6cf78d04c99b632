"""Which runtime measures, and how a benchmark opens its graphs there: never on another one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from engines.flavours import check_supports, load_flavour
from engines.gpu import require_gpu
from engines.onnx_runtime import OnnxRuntime
from engines.runtime import Arrays, Runtime, Staged
from ptame_deploy.artifacts import TensorRecord
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.onnx_session import PROVIDERS, ProviderName, require_providers

if TYPE_CHECKING:
    from torch import nn

    from engines.torch_runtime import TorchMode, TorchPrecision

RuntimeName = Literal["onnxruntime", "pytorch", "tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True)
class RuntimeChoice:
    """What runs the graphs of a benchmark.

    Attributes:
        name: which runtime.
        provider: where ONNX Runtime computes; for PyTorch the CPU or CUDA; TensorRT has none.
        torch_mode: how PyTorch runs.
        torch_precision: of PyTorch's autocast; FP32 for none.
        threads: threads within an operator, on a CPU; 0 for one a core.
    """

    name: RuntimeName = "onnxruntime"
    provider: ProviderName = "cpu"
    torch_mode: "TorchMode" = "eager"
    torch_precision: "TorchPrecision" = "fp32"
    threads: int = 0

    @property
    def label(self) -> str:
        """Name it in a table: ``PyTorch cpu, eager, fp32``."""
        if self.name == "pytorch":
            return f"PyTorch {self.provider}, {self.torch_mode}, {self.torch_precision}"
        return f"ONNX Runtime {self.provider}" if self.name == "onnxruntime" else self.name

    @property
    def on_cpu(self) -> bool:
        """Whether the host computes."""
        return self.name in ("onnxruntime", "pytorch") and self.provider == "cpu"

    @property
    def measures_memory(self) -> bool:
        """Whether a graph's peak memory can be measured, in a process of its own."""
        return self.name == "onnxruntime" and self.on_cpu

    @property
    def _torch_device(self) -> Literal["cpu", "cuda"]:
        return "cpu" if self.on_cpu else "cuda"

    def check(self) -> None:
        """See that the runtime is there, before anything is exported or built for it.

        Raises:
            InvalidInputError: a provider that the runtime does not have.
            MissingRequirementError: the runtime, its provider or a GPU is not there.
        """
        if self.name == "pytorch":
            if self.provider == "tensorrt":
                message = "PyTorch computes on cpu or cuda; tensorrt is ONNX Runtime's provider."
                raise InvalidInputError(message)
            from engines.torch_runtime import require_device

            require_device(self._torch_device, self.torch_mode)
        elif self.name == "onnxruntime":
            require_providers(PROVIDERS[self.provider])
        else:
            if self.provider != "cpu":
                message = f"--provider is for onnxruntime and pytorch, not for {self.name}."
                raise InvalidInputError(message)
            flavour = load_flavour(self.name)
            gpu = require_gpu(f"Running an engine of {flavour.name} {flavour.version}")
            check_supports(flavour, gpu)

    def open_graph(
        self,
        graph: Path,
        inputs: Sequence[TensorRecord],
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> Runtime:
        """Open an ONNX graph; for TensorRT an engine is built from it, one a batch size.

        Args:
            graph: the ONNX file.
            inputs: that it takes.
            say: is told what is built.

        Raises:
            InvalidInputError: the runtime runs no graphs.
            MissingRequirementError: the runtime is not there.
            ArtifactError: the graph cannot be loaded.
        """
        if self.name == "onnxruntime":
            return OnnxRuntime(graph, providers=PROVIDERS[self.provider], threads=self.threads)
        if self.name == "pytorch":
            message = "PyTorch runs a classifier's source, not its graph: give --backbone."
            raise InvalidInputError(message)
        return _EnginePerBatch(self.name, graph, inputs, say)

    def open_module(
        self, module: "nn.Module", inputs: Sequence[TensorRecord], outputs: Sequence[str]
    ) -> Runtime:
        """Open a module in PyTorch.

        Args:
            module: what to run.
            inputs: in the order in which the module takes them.
            outputs: names, in the order in which it returns them.

        Raises:
            MissingRequirementError: no GPU for ``cuda``.
        """
        from engines.torch_runtime import TorchRuntime

        return TorchRuntime(
            module,
            inputs,
            outputs,
            device=self._torch_device,
            mode=self.torch_mode,
            precision=self.torch_precision,
            threads=self.threads,
        )


class _EnginePerBatch:
    """A graph in TensorRT: what is timed is staged, and each size has an engine tuned for it."""

    def __init__(
        self,
        flavour: Literal["tensorrt", "tensorrt-rtx"],
        graph: Path,
        inputs: Sequence[TensorRecord],
        say: Callable[[str], None],
    ) -> None:
        self._flavour, self._graph, self._inputs = load_flavour(flavour), graph, inputs
        self._say = say
        self._engines: dict[int, Runtime] = {}

    @property
    def description(self) -> str:
        """Name and version, and once an engine was built its device."""
        for engine in self._engines.values():
            return engine.description
        return f"{self._flavour.name} {self._flavour.version}"

    @property
    def copies(self) -> bool:
        """An engine's inputs and outputs are on the GPU."""
        return True

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the smallest engine that takes this batch; one is built only where none does."""
        batch = len(inputs["image"])
        return self._engine(min((b for b in self._engines if b >= batch), default=batch)).run(
            inputs
        )

    def stage(self, inputs: Mapping[str, NDArray[Any]]) -> Staged:
        """Make buffers for a batch of the engine for it."""
        return self._engine(len(inputs["image"])).stage(inputs)

    def _engine(self, batch: int) -> Runtime:
        if batch not in self._engines:
            from engines.open_memory import open_device_memory
            from engines.plan import Profile
            from engines.tensorrt.engine_builder import BuildOptions, build_engine
            from engines.tensorrt.runtime import TensorRtRuntime

            self._say(f"  building {self._graph.name} for batch {batch} ...")
            profile = Profile(min_batch=1, opt_batch=batch, max_batch=batch)
            plan = build_engine(self._graph, self._inputs, self._flavour, BuildOptions(profile))
            self._engines[batch] = TensorRtRuntime(plan, self._flavour, open_device_memory())
        return self._engines[batch]
