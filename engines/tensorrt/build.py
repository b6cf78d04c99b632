"""From a fused graph to a plan: parse, one optimisation profile, one strongly typed build."""

import contextlib
import fcntl
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.gpu import find_gpu, require_gpu
from engines.plan import PLAN_FILE, PLAN_MANIFEST, PlanManifest, Profile
from engines.tensorrt.flavours import RTX_COMPUTE_CAPABILITIES, Flavour
from ptame_deploy.artifacts import (
    GRAPH_FILE,
    GRAPH_MANIFEST,
    GraphManifest,
    Provenance,
    TensorRecord,
    manifest_json,
    read_manifest,
    record_files,
)
from ptame_deploy.errors import (
    ArtifactError,
    CheckFailedError,
    InvalidInputError,
)
from ptame_deploy.storage import atomic_file, staged_artifact, writable

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


def build(
    source: Path,
    directory: Path,
    flavour: Flavour,
    options: BuildOptions,
    *,
    on_phase: Callable[[str], None] = lambda _: None,
) -> PlanManifest:
    """Build a plan from an exported graph.

    Args:
        source: folder of the fused graph, in the precision that the plan shall have.
        directory: where ``model.plan`` and ``model.plan.json`` go.
        flavour: the TensorRT that builds.
        options: how.
        on_phase: is told each step that the builder starts.

    Raises:
        InvalidInputError: the graph is not for TensorRT, or the parser refuses it.
        ArtifactError: the graph is corrupt.
        MissingRequirementError: a GPU is needed and there is none, or the disk is full.
        CheckFailedError: the build fails, or makes other inputs and outputs; nothing is kept.
    """
    manifest = read_manifest(source, GRAPH_MANIFEST, GraphManifest)
    refuse_other_targets(source, manifest)
    gpu = (
        find_gpu()
        if flavour.builds_without_gpu
        else require_gpu(f"Building with {flavour.name} {flavour.version}")
    )
    log = _Log(flavour)
    builder = flavour.module.Builder(log.logger)
    network = builder.create_network(flavour.network_flags())
    parser = _parse(flavour, network, log, source / GRAPH_FILE)
    _check_border(flavour, network, manifest)
    config = _configure(flavour, builder, network, options, manifest)
    config.progress_monitor = monitor = _monitor(flavour, on_phase)
    with _timing_cache(config, options.timing_cache):
        plan = builder.build_serialized_network(network, config)
    del parser
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        message = f"{flavour.name} {flavour.version} could not build a plan: {log.last_error}"
        raise CheckFailedError(message)
    with staged_artifact(directory, PLAN_MANIFEST) as stage:
        (stage / PLAN_FILE).write_bytes(plan)
        made = PlanManifest(
            files=record_files(stage),
            provenance=Provenance.here(seed=manifest.provenance.seed),
            flavour=flavour.name,
            flavour_version=flavour.version,
            version_compatible=options.version_compatible,
            compute_capabilities=(
                list(RTX_COMPUTE_CAPABILITIES)
                if flavour.builds_without_gpu or gpu is None
                else [gpu.compute_capability]
            ),
            gpu=gpu.name if gpu else None,
            driver=gpu.driver if gpu and not flavour.builds_without_gpu else None,
            precision=manifest.precision,
            profile=options.profile,
            inputs=manifest.inputs,
            outputs=manifest.outputs,
            graph=manifest,
        )
        (stage / PLAN_MANIFEST).write_text(manifest_json(made), encoding="utf-8")
    return made


def trtexec_command(source: Path, directory: Path, options: BuildOptions) -> str:
    """Return the equal ``trtexec`` command line, for those who build with that.

    Raises:
        InvalidInputError: there is no artifact, or the graph is not for TensorRT.
        ArtifactError: it is corrupt.
    """
    manifest = read_manifest(source, GRAPH_MANIFEST, GraphManifest)
    refuse_other_targets(source, manifest)
    profile = options.profile
    sizes = {"min": profile.min_batch, "opt": profile.opt_batch, "max": profile.max_batch}
    parts = [
        "trtexec",
        f"--onnx={source / GRAPH_FILE}",
        "--stronglyTyped",
        *(
            f"--{name}Shapes="
            + ",".join(
                f"{tensor.name}:{'x'.join(map(str, _shape(tensor, batch)))}"
                for tensor in manifest.inputs
            )
            for name, batch in sizes.items()
        ),
        f"--saveEngine={directory / PLAN_FILE}",
    ]
    if options.workspace_mib is not None:
        parts.append(f"--memPoolSize=workspace:{options.workspace_mib}M")
    if options.timing_cache is not None:
        parts.append(f"--timingCacheFile={options.timing_cache}")
    if options.version_compatible:
        parts.append("--versionCompatible")
    return shlex.join(parts)


def refuse_other_targets(source: Path, manifest: GraphManifest) -> None:
    """Refuse the INT8 form that ONNX Runtime's CPU provider wants.

    Raises:
        InvalidInputError: it is that form.
    """
    if manifest.quantisation is not None and manifest.quantisation.target == "cpu":
        message = (
            f"{source} holds INT8 in the form for ONNX Runtime on a CPU, which TensorRT's parser "
            "refuses: ptame quantize --precision int8 --target tensorrt."
        )
        raise InvalidInputError(message)


class _Log:
    """TensorRT's logger: quiet, but it remembers the last error, which is all the API tells."""

    def __init__(self, flavour: Flavour) -> None:
        trt = flavour.module
        log = self
        self.last_error = "no reason was given"

        class Remembering(trt.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    log.last_error = text

        self.logger = Remembering()


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


def _parse(flavour: Flavour, network: Any, log: _Log, path: Path) -> Any:
    parser = flavour.module.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(number) for number in range(parser.num_errors)]
        listed = "; ".join(
            f"node {error.node_name() or '?'} ({error.node_operator() or '?'}): {error.desc()}"
            for error in errors[:3]
        )
        message = (
            f"{flavour.name} {flavour.version} cannot parse {path}: {listed or log.last_error}. "
            "Export with another --opset, or choose a classifier without that operator."
        )
        raise InvalidInputError(message)
    return parser


def _check_border(flavour: Flavour, network: Any, manifest: GraphManifest) -> None:
    found = [
        (tensor.name, flavour.module.nptype(tensor.dtype).__name__, list(tensor.shape))
        for tensor in (
            *(network.get_input(number) for number in range(network.num_inputs)),
            *(network.get_output(number) for number in range(network.num_outputs)),
        )
    ]
    told = [
        (t.name, t.dtype, [-1 if isinstance(size, str) else size for size in t.shape])
        for t in [*manifest.inputs, *manifest.outputs]
    ]
    if found != told:
        message = f"The parsed network has {found}, the graph's manifest says {told}."
        raise ArtifactError(message)


def _configure(
    flavour: Flavour, builder: Any, network: Any, options: BuildOptions, manifest: GraphManifest
) -> Any:
    trt = flavour.module
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    sizes = options.profile
    for tensor in manifest.inputs:
        profile.set_shape(
            tensor.name,
            _shape(tensor, sizes.min_batch),
            _shape(tensor, sizes.opt_batch),
            _shape(tensor, sizes.max_batch),
        )
    if config.add_optimization_profile(profile) < 0:
        message = (
            f"{flavour.name} refuses the batch sizes {sizes} for {network.name or 'the graph'}."
        )
        raise InvalidInputError(message)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    return config


def _shape(tensor: TensorRecord, batch: int) -> tuple[int, ...]:
    """Put numbers in for dynamic dimensions: the batch, and one class to explain."""
    return tuple(
        size if isinstance(size, int) else batch if position == 0 else 1
        for position, size in enumerate(tensor.shape)
    )


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
