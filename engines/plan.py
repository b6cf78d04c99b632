"""Plans: ``model.plan``, raw as TensorRT, trtexec, Triton and C++ load it, and ``model.plan.json``.

Deserialising a plan runs what is in it. So everything that can be known is checked before: that it
is the file its JSON describes, and that this machine's TensorRT and GPU can run it.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from engines.flavours import Flavour, FlavourName, check_supports
from engines.gpu import Gpu
from ptame_deploy.artifact_files import read_manifest, settle
from ptame_deploy.artifacts import ArtifactManifest, GraphManifest, TensorRecord
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.provenance import Provenance
from ptame_deploy.records import Precision, Record

PLAN_FILE, PLAN_MANIFEST = "model.plan", "model.plan.json"


class Profile(Record):
    """Batch sizes that a plan takes.

    Attributes:
        min_batch: the smallest.
        opt_batch: that its kernels are chosen for.
        max_batch: the largest.
    """

    min_batch: int = Field(default=1, ge=1)
    opt_batch: int = Field(default=8, ge=1)
    max_batch: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "Profile":
        if not self.min_batch <= self.opt_batch <= self.max_batch:
            sizes = f"{self.min_batch}, {self.opt_batch}, {self.max_batch}"
            message = f"batches must rise from min over opt to max, got {sizes}"
            raise ValueError(message)
        return self


class PlanManifest(ArtifactManifest):
    """``model.plan.json``: an engine built from a fused graph.

    Attributes:
        files: the plan, with its size and hash.
        schema_version: of this document.
        kind: of artifact.
        provenance: when, with what and by which command it was built.
        flavour: which TensorRT it is for.
        flavour_version: that built it.
        version_compatible: whether later versions with the same major number run it too.
        compute_capabilities: of GPUs that run it.
        gpu: that it was built on; None where none was needed.
        driver: newest CUDA of the driver that it was built with; None where none was needed.
        precision: the graph's.
        profile: batches that it takes.
        inputs: the graph's.
        outputs: the graph's.
        graph: the whole manifest of the graph that it was built from.
    """

    main_file = PLAN_FILE
    schema_version: Literal[1] = 1
    kind: Literal["engine"] = "engine"
    provenance: Provenance
    flavour: FlavourName
    flavour_version: str
    version_compatible: bool
    compute_capabilities: list[str]
    gpu: str | None
    driver: str | None
    precision: Precision
    profile: Profile
    inputs: list[TensorRecord]
    outputs: list[TensorRecord]
    graph: GraphManifest

    @model_validator(mode="after")
    def _check(self) -> "PlanManifest":
        graph = self.graph
        same = (self.precision, self.inputs, self.outputs)
        if same != (graph.precision, graph.inputs, graph.outputs):
            message = (
                "precision, inputs or outputs are not those of the graph that it was built from"
            )
            raise ValueError(message)
        if not self.compute_capabilities or not self.flavour_version[:1].isdecimal():
            message = "it names no compute capability, or no version of its TensorRT"
            raise ValueError(message)
        return self

    @property
    def cautions(self) -> list[str]:
        """What every reader of this engine's maps must be told."""
        return self.graph.cautions


def holds_plan(directory: Path) -> bool:
    """Whether a folder is a plan's, complete or not."""
    settle(directory)
    return (directory / PLAN_FILE).exists() or (directory / PLAN_MANIFEST).exists()


def read_plan(directory: Path) -> PlanManifest:
    """Read a plan's JSON and check the plan against it: presence, size, hash.

    Args:
        directory: the artifact's folder.

    Raises:
        InvalidInputError: there is no plan, or one without JSON.
        ArtifactError: the plan is not the one that its JSON describes.
    """
    if _is_bare(directory):
        message = (
            f"{directory / PLAN_FILE} has no {PLAN_MANIFEST} beside it: nothing is known of what "
            "it would run. Build it with ptame build, or look into it with ptame inspect --layers "
            "--trust --runtime NAME."
        )
        raise InvalidInputError(message)
    return read_manifest(directory, PLAN_MANIFEST, PlanManifest)


def read_trusted_plan(directory: Path) -> PlanManifest | None:
    """Read a plan as `read_plan` does; None for one without JSON, of which nothing is checked."""
    return None if _is_bare(directory) else read_plan(directory)


def _is_bare(directory: Path) -> bool:
    settle(directory)
    return (directory / PLAN_FILE).is_file() and not (directory / PLAN_MANIFEST).exists()


def check_flavour(manifest: PlanManifest, flavour: Flavour) -> None:
    """Compare the TensorRT that a plan needs with one that is here; needs no GPU.

    Raises:
        ArtifactError: another TensorRT, or another version.
    """
    if manifest.flavour != flavour.name:
        message = f"This plan is for {manifest.flavour}, not for {flavour.name}: build one for it."
        raise ArtifactError(message)
    if not _version_fits(manifest, flavour.version):
        message = (
            f"This plan was built by {manifest.flavour} {manifest.flavour_version}, here is "
            f"{flavour.version}: build it again, or with --version-compatible."
        )
        raise ArtifactError(message)


def check_runs_here(manifest: PlanManifest, flavour: Flavour, gpu: Gpu) -> None:
    """Compare what a plan needs with this machine, before the plan is deserialised.

    Args:
        manifest: the plan's.
        flavour: the TensorRT that would run it.
        gpu: the GPU that would.

    Raises:
        ArtifactError: another TensorRT, another version, another compute capability, or a driver
            that is too old.
        MissingRequirementError: the TensorRT runs no plan on such a GPU.
    """
    check_flavour(manifest, flavour)
    if gpu.compute_capability not in manifest.compute_capabilities:
        check_supports(flavour, gpu)  # or it would be built there in vain
        message = (
            f"This plan runs on compute capability {', '.join(manifest.compute_capabilities)}; "
            f"{gpu.name} has {gpu.compute_capability}: build it on such a GPU."
        )
        raise ArtifactError(message)
    if manifest.driver is not None and _major(gpu.driver) < _major(manifest.driver):
        message = (
            f"This plan was built with a driver for CUDA {manifest.driver}, here it is "
            f"{gpu.driver}: update the driver, or build the plan here."
        )
        raise ArtifactError(message)


def _version_fits(manifest: PlanManifest, version: str) -> bool:
    if version == manifest.flavour_version:
        return True
    if not manifest.version_compatible or _major(version) != _major(manifest.flavour_version):
        return False
    return _numbers(version) >= _numbers(manifest.flavour_version)


def _major(version: str) -> int:
    return _numbers(version)[0]


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()] or [0]
