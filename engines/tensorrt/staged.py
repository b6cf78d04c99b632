"""One batch size of an engine, with everything that it needs for itself to run."""

import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.device_memory import CaptureError, DeviceMemory, Graph
from engines.flavours import Flavour
from engines.runtime import Arrays
from engines.tensorrt.bindings import DYNAMIC, Binding
from engines.tensorrt.log import Log
from ptame_deploy.errors import CheckFailedError, InvalidInputError, MissingRequirementError


@dataclass(frozen=True)
class LoadedEngine:
    """A deserialised engine and what must live as long as it does.

    Attributes:
        flavour: whose it is.
        memory: of the GPU that it is on.
        bindings: inputs and outputs.
        engine: the ``ICudaEngine``.
        runtime: the ``IRuntime``.
        log: the runtime's.
        lock: held while contexts are made, which TensorRT does not allow two threads at once.
    """

    flavour: Flavour
    memory: DeviceMemory
    bindings: Sequence[Binding]
    # Python lets go of these in this order, which is the one that TensorRT wants.
    engine: Any
    runtime: Any
    log: Log
    lock: Lock = field(default_factory=Lock)

    def new_context(self, shapes: Mapping[str, Sequence[int]], *, graphs: bool) -> tuple[Any, bool]:
        """Make an execution context for inputs of these shapes; see `Flavour.create_context`.

        Raises:
            MissingRequirementError: TensorRT refuses, for want of memory.
            InvalidInputError: it refuses the shapes.
        """
        with self.lock:
            context, own_graphs = self.flavour.create_context(self.engine, graphs=graphs)
        if context is None:
            message = (
                f"{self.flavour.title} cannot prepare to run the plan: {self.log.last_error}. "
                "Free GPU memory, or build a plan with a smaller --max-batch."
            )
            raise MissingRequirementError(message)
        # Plans are built to be inspected in detail; the profiler's markers of that would cost time.
        context.nvtx_verbosity = self.flavour.module.ProfilingVerbosity.NONE
        for name, shape in shapes.items():
            if not context.set_input_shape(name, tuple(shape)):
                message = f"The plan refuses {name!r} of shape {shape}: {self.log.last_error}"
                raise InvalidInputError(message)
        return context, own_graphs


class StagedBatch:
    """One batch with a context, a stream, and host and device buffers of its own.

    Everything is freed by `close`, or with the last reference. Not to be
    used by two threads at once; several of one engine may be, each by its own.

    Attributes:
        captured: whether it runs as a CUDA graph.
        how: the same in words, with the reason where it does not.
    """

    captured: bool
    how: str

    def __init__(
        self, loaded: LoadedEngine, inputs: Mapping[str, NDArray[Any]], *, capture: bool
    ) -> None:
        """Make the buffers, upload the batch and run it once, so that later runs are steady.

        Args:
            loaded: the engine.
            inputs: as `engines.tensorrt.bindings.check_inputs` wants them.
            capture: run as a CUDA graph where that can be.

        Raises:
            MissingRequirementError: too little memory.
            InvalidInputError: TensorRT refuses the shapes.
            CheckFailedError: the engine fails.
            CudaError: CUDA does.
        """
        self._loaded = loaded
        self._memory = memory = loaded.memory
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, int] = {}
        self._held: list[Any] = []  # the context: in a list, so that it can be let go of
        self._graph: Graph | None = None
        with ExitStack() as stack:  # frees in reverse order, here only if something fails
            self._stream = memory.open_stream()
            stack.callback(memory.close_stream, self._stream)
            shapes = {name: array.shape for name, array in inputs.items()}
            context, own_graphs = loaded.new_context(shapes, graphs=capture)
            self._reserve(context, stack)
            self._held.append(context)
            stack.callback(self._held.clear)
            del context
            self.fill(inputs)
            self.upload()
            # The first run sets up what must not be part of a recording, and of no measurement.
            self.compute()
            self._choose_graph(stack, capture=capture, own_graphs=own_graphs)
            self._finalizer = weakref.finalize(self, stack.pop_all().close)

    def fill(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Put another batch of the same shapes where `upload` takes it from."""
        self._check_open()
        for name, array in inputs.items():
            np.copyto(self._host[name], array)

    def upload(self) -> None:
        """See `engines.runtime.Staged`."""
        self._enqueue_upload()
        self._memory.synchronise(self._stream)

    def compute(self) -> None:
        """See `engines.runtime.Staged`."""
        self._enqueue_compute()
        self._memory.synchronise(self._stream)

    def download(self) -> Arrays:
        """See `engines.runtime.Staged`; the arrays are the caller's."""
        self._enqueue_download()
        self._memory.synchronise(self._stream)
        return self._outputs()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run another batch of the same shapes, with one wait for all its steps.

        Returns:
            Every output by name; the arrays are the caller's.
        """
        self.fill(inputs)
        self._enqueue_upload()
        self._enqueue_compute()
        self._enqueue_download()
        self._memory.synchronise(self._stream)
        return self._outputs()

    def close(self) -> None:
        """Free everything now; the batch cannot be used any more."""
        self._finalizer()

    def _reserve(self, context: Any, stack: ExitStack) -> None:
        """Make a host and a device buffer for each input and output, and tell the context."""
        memory = self._memory
        for binding in self._loaded.bindings:
            shape = tuple(context.get_tensor_shape(binding.name))
            if DYNAMIC in shape:
                message = f"The plan's {binding.name!r} has a shape that depends on the values."
                raise CheckFailedError(message)
            host = memory.pinned(shape, binding.dtype)
            stack.callback(memory.free_pinned, host)
            address = memory.allocate(host.nbytes)
            stack.callback(memory.free, address)
            self._host[binding.name], self._device[binding.name] = host, address
            if not context.set_tensor_address(binding.name, address):
                message = f"The plan refuses {binding.name!r}: {self._loaded.log.last_error}"
                raise CheckFailedError(message)

    def _choose_graph(self, stack: ExitStack, *, capture: bool, own_graphs: bool) -> None:
        flavour, (context,) = self._loaded.flavour, self._held
        self.captured, self.how = False, "without a CUDA graph, as asked for"
        if not capture:
            return
        if not flavour.is_capturable(context, self._stream):
            self.how = f"without a CUDA graph: {flavour.title} cannot capture this plan"
            return
        if own_graphs:
            self.captured, self.how = True, f"as a CUDA graph that {flavour.title} captures"
            return
        try:
            graph = self._memory.capture(self._stream, self._enqueue)
        except CaptureError as error:
            self.how = f"without a CUDA graph: {error}"
            return
        stack.callback(graph.close)
        self._graph = graph
        self.captured, self.how = True, "as a CUDA graph"

    def _enqueue_upload(self) -> None:
        for _, host, address in self._buffers(inputs=True):
            self._memory.upload(address, host, self._stream)

    def _enqueue_compute(self) -> None:
        self._check_open()
        if self._graph is None:
            self._enqueue()
        else:
            self._graph.launch()

    def _enqueue(self) -> None:
        (context,) = self._held
        if not context.execute_async_v3(self._stream):
            message = f"The plan failed to run: {self._loaded.log.last_error}"
            raise CheckFailedError(message)

    def _enqueue_download(self) -> None:
        for _, host, address in self._buffers(inputs=False):
            self._memory.download(host, address, self._stream)

    def _outputs(self) -> Arrays:
        # Copies: what is here is overwritten by the next run, and freed with this batch.
        return {name: host.copy() for name, host, _ in self._buffers(inputs=False)}

    def _buffers(self, *, inputs: bool) -> list[tuple[str, NDArray[Any], int]]:
        self._check_open()
        return [
            (binding.name, self._host[binding.name], self._device[binding.name])
            for binding in self._loaded.bindings
            if binding.is_input == inputs
        ]

    def _check_open(self) -> None:
        if not self._held:
            message = "This batch was closed: its memory is freed."
            raise ValueError(message)
