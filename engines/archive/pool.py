"""How many workers there are, and what each of them gets."""

from dataclasses import dataclass

from ptame_deploy.errors import InvalidInputError, MissingRequirementError


@dataclass(frozen=True)
class Pool:
    """Workers of one size.

    Attributes:
        workers: how many; each holds a model.
        threads: cores of each.
        gpus: GPUs of each; a fraction where several share one.
    """

    workers: int
    threads: int
    gpus: float


def size_pool(
    *,
    cores: int,
    node_cores: int,
    gpus: float,
    workers: int = 0,
    threads: int = 0,
    gpus_per_worker: float = 0.0,
) -> Pool:
    """Size workers so that workers times threads are the cores, and no GPU is shared unasked.

    Args:
        cores: there are.
        node_cores: of them, on the largest machine: a worker is on one.
        gpus: there are.
        workers: asked for; 0 for as many as there is room for.
        threads: of each, asked for; 0 for one where workers are not asked for either, else for what
            is left to each.
        gpus_per_worker: that each needs.

    Raises:
        MissingRequirementError: there is no GPU for any worker.
        InvalidInputError: workers for which there is no room.
    """
    if gpus_per_worker > gpus:
        message = f"A worker needs {gpus_per_worker:g} GPU, there are {gpus:g}."
        raise MissingRequirementError(message)
    if gpus_per_worker:
        workers = workers or int(gpus / gpus_per_worker)
    workers = workers or max(1, cores // (threads or 1))
    threads = threads or max(1, min(cores // workers, node_cores))
    if threads > node_cores or workers * threads > cores or workers * gpus_per_worker > gpus:
        needed = f"{workers} workers of {threads} cores"
        needed += f" and {gpus_per_worker:g} GPU" if gpus_per_worker else ""
        message = (
            f"There is no room for {needed}: there are {cores} cores ({node_cores} on the largest "
            f"machine) and {gpus:g} GPU. Lower --workers, --threads or --gpus-per-worker."
        )
        raise InvalidInputError(message)
    return Pool(workers, threads, gpus_per_worker)
