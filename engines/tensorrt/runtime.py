"""TensorRT and TensorRT for RTX as a `Runtime`."""

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from engines.device_memory import DeviceMemory
from engines.flavours import Flavour
from engines.gpu import require_gpu
from engines.plan import PlanManifest
from engines.runtime import Arrays
from engines.tensorrt.bindings import Binding, batch_limits, check_inputs, read_bindings
from engines.tensorrt.log import Log
from engines.tensorrt.staged import LoadedEngine, StagedBatch
from ptame_deploy.artifacts import TensorRecord
from ptame_deploy.errors import ArtifactError, MissingRequirementError

# Batch sizes that `run` keeps ready. Each holds scratch memory for the profile's largest batch, so
# not many; a folder of photos needs two, the full batch and the last one.
KEPT_SIZES = 4


class TensorRtRuntime:
    """A deserialised engine. `run` may be called by several threads; they take turns."""

    def __init__(
        self,
        plan: bytes,
        flavour: Flavour,
        memory: DeviceMemory,
        *,
        device: str | None = None,
        host_code: bool = False,
        capture: bool = True,
    ) -> None:
        """Deserialise a plan, which runs code that is in it: see `engines.tensorrt.open_plan`.

        Args:
            plan: what `build_engine` returns or ``model.plan`` holds.
            flavour: the TensorRT that made it.
            memory: of the GPU that runs it.
            device: the GPU's name, for the description; by default it is asked for.
            host_code: allow code for the host in it, which version-compatible plans have.
            capture: run as CUDA graphs where that can be.

        Raises:
            MissingRequirementError: there is no GPU, or TensorRT cannot start.
            ArtifactError: it refuses the plan.
        """
        # Before anything else: without a driver TensorRT may crash.
        self._device = device or require_gpu("Running a plan").name
        log = Log(flavour)
        try:
            runtime = flavour.module.Runtime(log.logger)
        except (TypeError, RuntimeError) as error:  # how the bindings tell of a null pointer
            message = f"{flavour.title} cannot start: {log.last_error}"
            raise MissingRequirementError(message) from error
        if host_code:
            runtime.engine_host_code_allowed = True
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            message = f"{flavour.title} refuses the plan: {log.last_error}"
            raise ArtifactError(message)
        bindings = read_bindings(flavour, engine)
        self._loaded = LoadedEngine(flavour, memory, bindings, engine, runtime, log)
        self._capture = capture
        self._lock = Lock()
        self._ready: OrderedDict[tuple[tuple[int, ...], ...], StagedBatch] = OrderedDict()

    @property
    def description(self) -> str:
        """TensorRT's name and version, and the GPU."""
        return f"{self._loaded.flavour.title} {self._device}"

    @property
    def copies(self) -> bool:
        """Always: the GPU has memory of its own."""
        return True

    @property
    def loaded(self) -> LoadedEngine:
        """The engine itself."""
        return self._loaded

    @property
    def batches(self) -> tuple[int, int]:
        """The smallest and the largest batch that it takes."""
        return batch_limits(self._loaded.bindings)

    def check_border(self, manifest: PlanManifest) -> None:
        """Compare the engine's inputs, outputs and batches with what its manifest says.

        Raises:
            ArtifactError: they differ.
        """
        told = [*map(_told, manifest.inputs), *map(_told, manifest.outputs)]
        inputs = [binding for binding in self._loaded.bindings if binding.is_input]
        outputs = [binding for binding in self._loaded.bindings if not binding.is_input]
        found = [*map(_found, inputs), *map(_found, outputs)]
        if sorted(told) != sorted(found):
            message = f"The plan has {found}, its manifest says {told}."
            raise ArtifactError(message)
        profile = (manifest.profile.min_batch, manifest.profile.max_batch)
        if self.batches != profile:
            message = f"The plan takes batches of {self.batches}, its manifest says {profile}."
            raise ArtifactError(message)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run a batch, transfers included; see `Runtime.run`. The arrays are the caller's.

        Raises:
            InvalidInputError: an input of a wrong name, shape or type, or a batch that the plan
                does not take.
            MissingRequirementError: too little GPU memory.
            CheckFailedError: the engine fails.
            CudaError: CUDA does.
        """
        check_inputs(self._loaded.bindings, inputs)
        names = [binding.name for binding in self._loaded.bindings if binding.is_input]
        shapes = tuple(inputs[name].shape for name in names)
        with self._lock:
            # Out of the way while it runs: one that failed is not used again.
            staged = self._ready.pop(shapes, None)
            if staged is None:
                while len(self._ready) >= KEPT_SIZES:
                    self._ready.popitem(last=False)[1].close()
                staged = StagedBatch(self._loaded, inputs, capture=self._capture)
            try:
                outputs = staged.run(inputs)
            except BaseException:
                staged.close()
                raise
            self._ready[shapes] = staged
            return outputs

    def stage(self, inputs: Mapping[str, NDArray[Any]]) -> StagedBatch:
        """Make buffers for a batch and put it there; see `Runtime.stage` and `run`."""
        check_inputs(self._loaded.bindings, inputs)
        return StagedBatch(self._loaded, inputs, capture=self._capture)

    def close(self) -> None:
        """Free the GPU memory of `run`; batches of `stage` are their owners'."""
        with self._lock:
            while self._ready:
                self._ready.popitem()[1].close()


def _told(tensor: TensorRecord) -> tuple[str, str, tuple[int, ...]]:
    shape = tuple(-1 if isinstance(size, str) else size for size in tensor.shape)
    return tensor.name, tensor.dtype, shape


def _found(binding: Binding) -> tuple[str, str, tuple[int, ...]]:
    return binding.name, binding.dtype, binding.shape
