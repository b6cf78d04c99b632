"""Servers under load, without and with dynamic batching, in turns."""

import json
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.device import describe_device
from bench.graphs import make_inputs
from bench.load import measure_served, summarise_load
from bench.options import describe_subject
from bench.servers import RunningServer, photos_and_runs, ptame_serve, tritonserver
from bench.serving_results import (
    BatchingGain,
    ServedModel,
    ServedReading,
    ServingReport,
    ServingSettings,
)
from bench.timing import Sampling, summarise_ratios
from engines.artifact import Artifact
from engines.explainer import Explainer
from engines.runtime import Arrays
from engines.triton.client import TritonRuntime
from engines.triton.config import Serving
from engines.triton.repository import Wanted, write_models
from ptame_deploy.errors import CheckFailedError, InvalidInputError
from ptame_deploy.provenance import Provenance

ALONE, TOGETHER = "alone", "together"
TOLERANCE = 1e-4  # of a served answer against the local run


@dataclass(frozen=True)
class LoadOptions:
    """How servers are put under load.

    Attributes:
        clients: that ask at once; measured one after the other.
        sampling: seconds and rounds of each server, with and without batching.
        max_batch: photos that run together at most.
        queue_delay: seconds that a request may wait for others.
        threads: of a graph's run; 0 for one a core.
        seed: of the photo.
    """

    clients: Sequence[int] = (1, 4, 8)
    sampling: Sampling = field(default_factory=Sampling)
    max_batch: int = 8
    queue_delay: float = 0.002
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.clients or min(self.clients) < 1:
            message = f"There must be at least 1 client, got {list(self.clients)}."
            raise InvalidInputError(message)


@dataclass
class _Contender:
    server: RunningServer
    model: str
    readings: list[ServedReading] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)  # by number of clients, by round


def bench_serving(
    model: Path,
    options: LoadOptions,
    workspace: Path,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> ServingReport:
    """Start tritonserver and ``ptame serve`` on a graph, and measure both under load.

    Args:
        model: folder of the graph.
        options: how.
        workspace: an empty folder.
        say: is told what is happening.

    Raises:
        MissingRequirementError: tritonserver's environment was not made.
        CheckFailedError: a server does not start, refuses, or answers otherwise than the local run.
        PtameError: the graph cannot be opened or served.
    """
    explainer = Explainer.load(model, threads=options.threads)
    inputs = make_inputs(explainer.manifest, 1, seed=options.seed)
    with ExitStack() as stack:
        say("Starting tritonserver and ptame serve ...")
        contenders = _start(model, options, workspace, stack)
        for label, one in contenders.items():
            _check_answers(label, one, explainer, inputs)
        del explainer  # its threads are the servers' now
        for clients in options.clients:
            say(f"{clients} clients ...")
            _measure(contenders, inputs, clients, options)
        servers = [
            ServedModel(
                server=_server_name(contenders[f"{kind}, {ALONE}"].server),
                runs=contenders[f"{kind}, {ALONE}"].server.runs or "",
                alone=contenders[f"{kind}, {ALONE}"].readings,
                together=contenders[f"{kind}, {TOGETHER}"].readings,
                gains=_gains(contenders, kind, options.clients),
            )
            for kind in ("triton", "serve")
        ]
    manifest = Artifact.read(model).graph
    return ServingReport(
        provenance=Provenance.here(seed=options.seed),
        device=describe_device(),
        subject=describe_subject(manifest, manifest.precision),
        settings=ServingSettings(
            clients=list(options.clients),
            max_batch=options.max_batch,
            queue_delay_ms=1e3 * options.queue_delay,
            seconds=options.sampling.seconds,
            rounds=options.sampling.rounds,
            threads=options.threads,
            request_bytes=sum(array.nbytes for array in inputs.values()),
            seed=options.seed,
        ),
        servers=servers,
    )


def _start(
    model: Path, options: LoadOptions, workspace: Path, stack: ExitStack
) -> dict[str, _Contender]:
    """Start one tritonserver with two models, and two services."""
    repository, artifact = workspace / "models", Artifact.read(model)
    wanted = [
        Wanted(
            artifact,
            name,
            Serving(
                "python",
                max_batch=options.max_batch,
                batching=name == TOGETHER,
                queue_delay=options.queue_delay,
                threads=options.threads,
            ),
        )
        for name in (ALONE, TOGETHER)
    ]
    write_models(wanted, repository)
    triton = stack.enter_context(tritonserver(repository, _folder(workspace, "triton")))
    found = {f"triton, {name}": _Contender(triton, name) for name in (ALONE, TOGETHER)}
    for name in (ALONE, TOGETHER):
        batch = options.max_batch if name == TOGETHER else 1
        words = ["--name", name, "--max-batch", str(batch), "--threads", str(options.threads)]
        words += ["--queue-delay", f"{options.queue_delay}s"]
        served = ptame_serve(model, _folder(workspace, f"serve-{name}"), words)
        found[f"serve, {name}"] = _Contender(stack.enter_context(served), name)
    return found


def _folder(workspace: Path, name: str) -> Path:
    folder = workspace / name
    folder.mkdir()
    return folder


def _check_answers(label: str, one: _Contender, explainer: Explainer, inputs: Arrays) -> None:
    found = TritonRuntime(one.server.http, one.model).run(inputs)
    for name, expected in explainer.run(inputs).items():
        if not np.allclose(found[name], expected, atol=TOLERANCE):
            apart = float(np.abs(found[name] - expected).max())
            message = f"{label} answers with {name} {apart:.1e} away from the local run."
            raise CheckFailedError(message)


def _measure(
    contenders: dict[str, _Contender], inputs: Arrays, clients: int, options: LoadOptions
) -> None:
    models = {label: (one.server.http, one.model) for label, one in contenders.items()}
    before = {label: photos_and_runs(*where) for label, where in models.items()}
    found = measure_served(models, inputs, clients, options.sampling)
    for label, turns in found.items():
        photos, runs = photos_and_runs(*models[label])
        a_run = (photos - before[label][0]) / (runs - before[label][1])
        contenders[label].readings.append(summarise_load(turns, clients, a_run))
        contenders[label].rates.append([turn.rate for turn in turns])


def _gains(
    contenders: dict[str, _Contender], kind: str, clients: Sequence[int]
) -> list[BatchingGain]:
    alone, together = (contenders[f"{kind}, {name}"].rates for name in (ALONE, TOGETHER))
    return [
        BatchingGain(
            clients=count,
            ratio=summarise_ratios([b / a for a, b in zip(without, having, strict=True)]),
        )
        for count, without, having in zip(clients, alone, together, strict=True)
    ]


def _server_name(server: RunningServer) -> str:
    with urllib.request.urlopen(f"{server.http}/v2", timeout=10) as answer:  # noqa: S310
        told = json.load(answer)
    return f"{told['name']} {told['version']}"
