"""Shards through Ray Data: an actor is a worker, and one that dies is started again.

Ray starts a killed worker anew and gives it its shard again; which parts there are is not Ray's to
know but the archive's. So a shard that is done twice gives one part all the same.
"""

import logging
import os
import secrets
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from engines.archive.explain_archive import Runner
from engines.archive.pool import Pool, size_pool
from engines.archive.shards import Shard
from engines.archive.worker import ArchiveWorker, Report, Task
from ptame_deploy.errors import MissingRequirementError, reason_of
from ptame_deploy.machine import usable_cores

OBJECT_STORE_BYTES = 100 * 2**20  # shards' names and reports alone pass through it
REPORT_BYTES = 2**20
TRIES = 4  # of a shard whose worker dies under it
# Nothing is sent home; the second keeps Ray off the network, on Linux too; the last keeps its
# workings out of what is printed.
_LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


@dataclass(frozen=True)
class Asked:
    """Of workers; see `engines.archive.pool.size_pool`.

    Attributes:
        address: of a cluster to join; None for this machine alone.
        workers: 0 for as many as there is room for.
        threads: of each; 0 for what is left to each.
        gpus_per_worker: that each needs.
    """

    address: str | None = None
    workers: int = 0
    threads: int = 0
    gpus_per_worker: float = 0.0


@contextmanager
def ray_runner(
    asked: Asked, task: Task, tell: Callable[[Pool], None] = lambda _: None
) -> Iterator[Runner]:
    """Start Ray here, or join a cluster, and give what runs shards on it.

    Args:
        asked: how many workers, of which size.
        task: of each; its number of threads is set here.
        tell: called with how many there are.

    Raises:
        MissingRequirementError: Ray cannot be started or joined, or has no GPU that is needed.
        InvalidInputError: workers for which there is no room.
    """
    room = max(usable_cores(), asked.workers * max(asked.threads, 1))
    with local_ray(room) if asked.address is None else joined_ray(asked.address):
        import ray

        found = ray.cluster_resources()
        nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        pool = size_pool(
            cores=int(found.get("CPU", 0)),
            node_cores=int(max(nodes, default=0)),
            gpus=float(found.get("GPU", 0)),
            workers=asked.workers,
            threads=asked.threads,
            gpus_per_worker=asked.gpus_per_worker,
        )
        tell(pool)
        yield partial(run_shards, task=replace(task, threads=pool.threads), pool=pool)


@contextmanager
def local_ray(cores: int) -> Iterator[None]:
    """Start Ray on this machine, for this process alone; it ends with it, however it ends.

    It listens at localhost, and to those who have a secret that only its own processes are given.

    Args:
        cores: that workers are given.

    Raises:
        MissingRequirementError: it does not start.
    """
    if "ray" not in sys.modules:  # which reads them once
        os.environ.update(_LOCAL | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    with _ray(
        address="local",  # whatever RAY_ADDRESS says
        num_cpus=cores,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
    ):
        yield


@contextmanager
def joined_ray(address: str) -> Iterator[None]:
    """Join a cluster that runs.

    Args:
        address: of its head, as ``ray start`` tells it: ``HOST:6379``.

    Raises:
        MissingRequirementError: it cannot be reached, or runs another version of Ray or Python.
    """
    with _ray(address=address):
        yield


@contextmanager
def _ray(**options: Any) -> Iterator[None]:
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    import ray

    try:
        with _unheard():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # it raises Exception itself, and much else
        ray.shutdown()
        reason = reason_of(error)
        message = (
            f"Ray could not be started on this machine: {reason} Where the machine is busy, try "
            "again when it is less so."
            if options["address"] == "local"
            else f"Ray at {options['address']} cannot be joined: {reason}"
        )
        raise MissingRequirementError(message) from error
    try:
        for number, handler in handlers.items():  # Ray takes SIGTERM for its own
            signal.signal(number, handler)
        with redirect_stdout(sys.stderr):  # what Ray tells of killed workers is no result
            yield
    except BaseException as error:
        # An executor of Ray's that a frame still holds would end after Ray, with a traceback.
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        ray.shutdown()


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep off standard error what Ray's own libraries print there as they start."""
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def run_shards(shards: Sequence[Shard], task: Task, pool: Pool) -> Generator[Report]:
    """Give shards to workers, and tell of each that is done, in the order in which they are.

    A shard whose worker was killed every time is not told of.

    Args:
        shards: to be done.
        task: what is done with them.
        pool: of workers.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    # Reports are small; of the usual size, the object store would have room for one at a time.
    context.target_max_block_size = REPORT_BYTES
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    rows = [{"shard": shard} for shard in shards]
    with warnings.catch_warnings():
        # Ray 2.64 is to take no such settings; until it is there, nothing takes their place.
        warnings.simplefilter("ignore")
        reports = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            cast("Callable[[dict[str, Any]], dict[str, Any]]", ArchiveWorker),  # one an actor
            fn_constructor_args=[task],
            # One shard at a time: the others stay free for whoever is ready first.
            compute=ray.data.ActorPoolStrategy(
                size=min(pool.workers, len(rows)), max_tasks_in_flight_per_actor=1
            ),
            num_cpus=pool.threads,
            num_gpus=pool.gpus or None,
            max_restarts=-1,
            max_task_retries=TRIES - 1,
        )
    for row in reports.iter_rows():
        yield Report(**row)
