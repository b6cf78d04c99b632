"""From a fused graph's artifact to a plan's: ``model.plan`` and ``model.plan.json``."""

import shlex
from collections.abc import Callable
from pathlib import Path

from engines.flavours import RTX_COMPUTE_CAPABILITIES, Flavour
from engines.gpu import find_gpu, require_gpu
from engines.plan import PLAN_FILE, PLAN_MANIFEST, PlanManifest
from engines.tensorrt.engine_builder import BuildOptions, serialise, shape_of
from engines.tensorrt.network import check_border, parse
from ptame_deploy.artifact_files import manifest_json, read_manifest, record_files
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST, GraphManifest
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.provenance import Provenance
from ptame_deploy.storage import staged_artifact


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
        ArtifactError: the graph is corrupt, or its manifest tells of other inputs and outputs.
        MissingRequirementError: a GPU is needed and there is none, or the disk is full.
        CheckFailedError: the build fails; nothing is kept.
    """
    manifest = read_manifest(source, GRAPH_MANIFEST, GraphManifest)
    refuse_other_targets(source, manifest)
    gpu = (
        find_gpu()
        if flavour.builds_without_gpu
        else require_gpu(f"Building with {flavour.name} {flavour.version}")
    )
    parsed = parse(flavour, source / GRAPH_FILE)
    check_border(flavour, parsed, manifest)
    plan = serialise(parsed, manifest.inputs, flavour, options, on_phase=on_phase)
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
        "--profilingVerbosity=detailed",
        *(
            f"--{name}Shapes="
            + ",".join(
                f"{tensor.name}:{'x'.join(map(str, shape_of(tensor, batch)))}"
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
