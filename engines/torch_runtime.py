"""PyTorch as a `Runtime`: the reference, and what a user would otherwise deploy."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.runtime import Arrays, Staged, check_inputs
from ptame_deploy.artifacts import TensorRecord
from ptame_deploy.errors import InvalidInputError, MissingRequirementError, reason_of

TorchMode = Literal["eager", "compile", "cuda-graphs"]
TorchPrecision = Literal["fp32", "fp16", "bf16"]
TorchDevice = Literal["cpu", "cuda"]
_AUTOCAST: dict[TorchPrecision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
# Sizes that `torch.compile` makes code for. Beyond its own limit (8) it would run eagerly, unseen.
_COMPILED_SIZES = 64
_KEPT_SIZES = 2  # of batches on a GPU: RISE's full ones and its last one
_WARM_UP_RUNS = 3  # before a CUDA graph is captured: libraries choose their kernels there


def require_device(device: TorchDevice, mode: TorchMode) -> None:
    """See that PyTorch can compute there, in that mode.

    Raises:
        InvalidInputError: CUDA graphs on a CPU.
        MissingRequirementError: there is no such device.
    """
    if mode == "cuda-graphs" and device != "cuda":
        message = "CUDA graphs need --provider cuda."
        raise InvalidInputError(message)
    if device == "cuda" and not torch.cuda.is_available():
        message = (
            f"PyTorch {torch.__version__} finds no CUDA GPU here: install its CUDA build and a "
            "driver, or run on the CPU (--provider cpu)."
        )
        raise MissingRequirementError(message)


class TorchRuntime:
    """A module in PyTorch."""

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[TensorRecord],
        outputs: Sequence[str],
        *,
        device: TorchDevice = "cpu",
        mode: TorchMode = "eager",
        precision: TorchPrecision = "fp32",
        threads: int = 0,
    ) -> None:
        """Use a module as it is; it is put on the device and into eval mode.

        Args:
            module: takes the inputs in this order, returns the outputs in theirs.
            inputs: names, types and shapes.
            outputs: names.
            device: where it computes.
            mode: eager; ``torch.compile``; or captured once a batch as a CUDA graph.
            precision: ``fp16`` and ``bf16`` by autocast; outputs are float32 all the same.
            threads: of PyTorch in this process; 0 leaves them as they are.

        Raises:
            MissingRequirementError: PyTorch has no such device here.
            InvalidInputError: CUDA graphs on a CPU.
        """
        require_device(device, mode)
        if threads:
            torch.set_num_threads(threads)
        self._inputs, self._outputs = list(inputs), list(outputs)
        self.device, self.mode, self.precision = device, mode, precision
        self._module = module.eval().to(device)
        # One graph a shape: a benchmark's batches, and the fastest code for each.
        self._call: Any = (
            torch.compile(self._module, dynamic=False) if mode == "compile" else self._module
        )
        self._ready: OrderedDict[tuple[tuple[int, ...], ...], _TorchBatch] = OrderedDict()
        self._lock = Lock()

    @property
    def description(self) -> str:
        """Name, version, device, mode and autocast."""
        cast = "" if self.precision == "fp32" else f", {self.precision} autocast"
        where = "CPU" if self.device == "cpu" else torch.cuda.get_device_name()
        return f"PyTorch {torch.__version__} {where}, {self.mode}{cast}"

    @property
    def copies(self) -> bool:
        """Whether it computes on a GPU."""
        return self.device != "cpu"

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the module; see `Runtime.run`. The arrays are the caller's."""
        check_inputs(self._inputs, inputs)
        arrays = [inputs[record.name] for record in self._inputs]
        shapes = tuple(array.shape for array in arrays)
        with self._lock:
            # Pinned buffers, a stream and a captured graph are made once for each size.
            batch = self._ready.pop(shapes, None) or _TorchBatch(self, arrays, self._outputs)
            batch.fill(arrays)
            batch.upload()
            batch.compute()
            self._ready[shapes] = batch
            if len(self._ready) > _KEPT_SIZES:
                self._ready.popitem(last=False)
            return batch.download()

    def stage(self, inputs: Mapping[str, NDArray[Any]]) -> Staged:
        """Make buffers for a batch; see `Runtime.stage`."""
        check_inputs(self._inputs, inputs)
        return _TorchBatch(self, [inputs[record.name] for record in self._inputs], self._outputs)

    def forward(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Run the module on tensors that are on its device.

        Raises:
            MissingRequirementError: ``torch.compile`` lacks a compiler.
        """
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())
                if self.precision != "fp32":
                    stack.enter_context(torch.autocast(self.device, _AUTOCAST[self.precision]))
                if self.mode == "compile":
                    patch = torch._dynamo.config.patch(  # noqa: SLF001 (its public name)
                        recompile_limit=_COMPILED_SIZES, fail_on_recompile_limit_hit=True
                    )
                    stack.enter_context(patch)
                found = self._call(*tensors)
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:  # noqa: SLF001
            message = (
                f"torch.compile made code for {_COMPILED_SIZES} sizes already and would run the "
                "next one eagerly: use fewer batch sizes in one process."
            )
            raise InvalidInputError(message) from error
        except torch._dynamo.exc.BackendCompilerFailed as error:  # noqa: SLF001 (its public name)
            reason = reason_of(error)
            message = f"torch.compile fails here ({reason}): it needs a C++ compiler, or Triton."
            raise MissingRequirementError(message) from error
        return [found] if isinstance(found, Tensor) else list(found)


class _TorchBatch:
    """A batch with its own stream and, for CUDA graphs, its own captured graph."""

    def __init__(
        self, runtime: TorchRuntime, arrays: Sequence[NDArray[Any]], names: Sequence[str]
    ) -> None:
        self._runtime, self._names = runtime, names
        # Copies: another batch is put here, not into the caller's arrays.
        host = [torch.tensor(np.ascontiguousarray(array)) for array in arrays]
        self._found: list[Tensor] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream: torch.cuda.Stream | None = None
        if not runtime.copies:
            self._host = self._tensors = host
            return
        self._host = [tensor.pin_memory() for tensor in host]
        self._tensors = [tensor.to(runtime.device) for tensor in host]
        self._stream = torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        if runtime.mode == "cuda-graphs":
            self._capture(self._stream)

    def fill(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Put another batch of the same shapes where `upload` takes it from."""
        for tensor, array in zip(self._host, arrays, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))

    def upload(self) -> None:
        """Copy the inputs from pinned memory to the GPU."""
        if self._stream is None:
            return
        with torch.cuda.stream(self._stream):
            for tensor, source in zip(self._tensors, self._host, strict=True):
                tensor.copy_(source, non_blocking=True)
        self._stream.synchronize()

    def compute(self) -> None:
        """Run the module, and wait for it."""
        if self._stream is None:
            self._found = self._runtime.forward(self._tensors)
            return
        with torch.cuda.stream(self._stream):
            if self._graph is not None:
                self._graph.replay()
            else:
                self._found = self._runtime.forward(self._tensors)
        self._stream.synchronize()

    def download(self) -> Arrays:
        """Copy the outputs to the host; half precision becomes float32 there."""
        found = [
            (tensor.float() if tensor.is_floating_point() else tensor).cpu()
            for tensor in self._found
        ]
        # On the CPU these would be the module's own, which may be an input or be used again.
        return dict(zip(self._names, (tensor.numpy().copy() for tensor in found), strict=True))

    def _capture(self, stream: torch.cuda.Stream) -> None:
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):
                self._runtime.forward(self._tensors)
        stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._found = self._runtime.forward(self._tensors)
