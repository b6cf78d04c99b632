"""From any ONNX graph to a serialised engine: one profile, one strongly typed build."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.flavours import Flavour
from engines.gpu import require_gpu
from engines.plan import Profile
from engines.tensorrt.network import ParsedGraph, parse
from ptame_deploy.artifacts import TensorRecord
from ptame_deploy.errors import ArtifactError, CheckFailedError, InvalidInputError
from ptame_deploy.storage import atomic_file, writable

MIB = 2**20


@dataclass(frozen=True)
class BuildOptions:
    """How to build a plan.

    Attributes:
        profile: batch sizes.
        workspace_mib: scratch memory that layers may take, in MiB; None for all there is.
        timing_cache: file that keeps how fast kernels were, so that later builds are quick.
        version_compatible: the plan runs on later versions of the same major too.
    """

    profile: Profile
    workspace_mib: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False


def build_engine(
    graph: Path,
    inputs: Sequence[TensorRecord],
    flavour: Flavour,
    options: BuildOptions,
    *,
    on_phase: Callable[[str], None] = lambda _: None,
) -> bytes:
    """Build an engine from a graph that need not be an artifact of ours.

    Args:
        graph: ONNX file, in the precision that the engine shall have.
        inputs: its inputs; the first dimension is the batch where it is a name, further names
            become 1.
        flavour: the TensorRT that builds.
        options: how.
        on_phase: is told each step that the builder starts.

    Returns:
        The serialised engine: what a ``model.plan`` holds, and what `TensorRtRuntime` takes.

    Raises:
        InvalidInputError: the parser refuses the graph, or the batch sizes do not fit it.
        MissingRequirementError: a GPU is needed and there is none.
        ArtifactError: the timing cache is of another TensorRT.
        CheckFailedError: the build fails.
    """
    if not flavour.builds_without_gpu:
        require_gpu(f"Building with {flavour.name} {flavour.version}")
    return serialise(parse(flavour, graph), inputs, flavour, options, on_phase=on_phase)


def serialise(
    parsed: ParsedGraph,
    inputs: Sequence[TensorRecord],
    flavour: Flavour,
    options: BuildOptions,
    *,
    on_phase: Callable[[str], None],
) -> bytes:
    """Build an engine from a parsed graph; see `build_engine`."""
    config = _configure(parsed, inputs, flavour, options)
    config.progress_monitor = monitor = _monitor(flavour, on_phase)
    with _timing_cache(config, options.timing_cache):
        plan = parsed.builder.build_serialized_network(parsed.network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        message = (
            f"{flavour.name} {flavour.version} could not build a plan: {parsed.log.last_error}"
        )
        raise CheckFailedError(message)
    return bytes(plan)


def shape_of(tensor: TensorRecord, batch: int) -> tuple[int, ...]:
    """Put numbers in for dynamic dimensions: the batch, and one class to explain."""
    return tuple(
        size if isinstance(size, int) else batch if position == 0 else 1
        for position, size in enumerate(tensor.shape)
    )


def _monitor(flavour: Flavour, on_phase: Callable[[str], None]) -> Any:
    trt = flavour.module

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        """Tells the phases, and lets Ctrl-C stop the build between two steps."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:  # noqa: ARG002
            self._guarded(lambda: on_phase(name))

        def phase_finish(self, name: str) -> None:
            pass

        def step_complete(self, name: str, step: int) -> bool:  # noqa: ARG002
            self._guarded(lambda: None)
            return not self.interrupted

        def _guarded(self, call: Callable[[], None]) -> None:
            # An exception must not unwind through the builder's own frames.
            try:
                call()
            except KeyboardInterrupt:
                self.interrupted = True

    return Monitor()


def _configure(
    parsed: ParsedGraph, inputs: Sequence[TensorRecord], flavour: Flavour, options: BuildOptions
) -> Any:
    trt = flavour.module
    config = parsed.builder.create_builder_config()
    # So that `ptame inspect --layers` can tell precisions, not only names.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = parsed.builder.create_optimization_profile()
    sizes = options.profile
    for tensor in inputs:
        profile.set_shape(
            tensor.name,
            shape_of(tensor, sizes.min_batch),
            shape_of(tensor, sizes.opt_batch),
            shape_of(tensor, sizes.max_batch),
        )
    if config.add_optimization_profile(profile) < 0:
        message = (
            f"{flavour.name} refuses the batch sizes {sizes} for "
            f"{parsed.network.name or 'the graph'}."
        )
        raise InvalidInputError(message)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    return config


@contextlib.contextmanager
def _timing_cache(config: Any, path: Path | None) -> Iterator[None]:
    """Use a file of timings under a lock of its own, and write what the build added."""
    if path is None:
        yield
        return
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = path.read_bytes() if path.exists() else b""
        cache = config.create_timing_cache(known)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            message = (
                f"The timing cache {path} is of another TensorRT or GPU, or corrupt. Delete it, or "
                "name another file."
            )
            raise ArtifactError(message)
        yield
        with atomic_file(path) as temporary:
            temporary.write_bytes(config.get_timing_cache().serialize())
