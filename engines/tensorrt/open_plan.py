"""From a plan's folder to a runtime: everything is checked before the plan is deserialised."""

import hashlib
from pathlib import Path

from engines.device_memory import DeviceMemory
from engines.flavours import FlavourName, load_flavour
from engines.gpu import require_gpu
from engines.open_memory import open_device_memory
from engines.plan import (
    PLAN_FILE,
    PLAN_MANIFEST,
    PlanManifest,
    check_runs_here,
    read_plan,
    read_trusted_plan,
)
from engines.tensorrt.runtime import TensorRtRuntime
from ptame_deploy.errors import ArtifactError, InvalidInputError


def open_plan(
    directory: Path,
    *,
    memory: DeviceMemory | None = None,
    trust: bool = False,
    flavour: FlavourName | None = None,
) -> tuple[PlanManifest | None, TensorRtRuntime]:
    """Open a plan.

    The order is: its JSON, size and hash; its TensorRT; a GPU; version, compute capability and
    driver; a package for GPU memory. Only then is it deserialised, and compared with its JSON.

    Args:
        directory: holds ``model.plan`` and ``model.plan.json``.
        memory: of the GPU; by default that of the first package that is installed.
        trust: take a plan without JSON too, of which nothing can be checked.
        flavour: the TensorRT to use; by default the one that the JSON names.

    Returns:
        What the JSON says, or None where it is missing and that is trusted; and the runtime.

    Raises:
        InvalidInputError: there is no plan, or one without JSON that is not trusted or whose
            TensorRT was not named.
        ArtifactError: it is not the plan that its JSON describes, or not for this machine.
        MissingRequirementError: TensorRT, a GPU, its driver or a package for its memory is missing.
    """
    manifest = read_trusted_plan(directory) if trust else read_plan(directory)
    name = flavour or (manifest.flavour if manifest else None)
    if name is None:
        message = (
            f"{directory / PLAN_FILE} has no {PLAN_MANIFEST} that tells which TensorRT it is for: "
            "say --runtime tensorrt or tensorrt-rtx."
        )
        raise InvalidInputError(message)
    chosen = load_flavour(name)
    gpu = require_gpu("Running a plan")
    if manifest is not None:
        check_runs_here(manifest, chosen, gpu)
    if memory is None:
        memory = open_device_memory()
    plan = (directory / PLAN_FILE).read_bytes()
    # The file could have been replaced since it was hashed; these bytes cannot.
    if manifest and hashlib.sha256(plan).hexdigest() != manifest.files[PLAN_FILE].sha256:
        message = f"{directory / PLAN_FILE} was replaced while it was being opened."
        raise ArtifactError(message)
    host_code = manifest is not None and manifest.version_compatible
    runtime = TensorRtRuntime(plan, chosen, memory, device=gpu.name, host_code=host_code)
    if manifest is not None:
        runtime.check_border(manifest)
    return manifest, runtime
