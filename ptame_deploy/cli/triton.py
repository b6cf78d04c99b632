"""``ptame triton``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ptame_deploy.cli import console, options


class BackendKind(StrEnum):
    """Triton's backends."""

    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"
    python = "python"


def triton(
    models: Annotated[
        list[Path],
        typer.Argument(help="Folders of exported graphs or engines.", show_default=False),
    ],
    *,
    repository: Annotated[
        Path, typer.Option("--repository", "-o", help="Folder that Triton is given.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Of the model (its folder's name).", show_default=False)
    ] = None,
    backend: Annotated[
        BackendKind | None,
        typer.Option(
            help="onnxruntime for graphs and tensorrt for engines are the defaults; python runs "
            "graphs where Triton has no onnxruntime backend.",
            show_default=False,
        ),
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="Photos that run together at most (8, or an engine's).")
    ] = None,
    instances: Annotated[
        int | None, typer.Option(help="Copies of the model that run at once (1).")
    ] = None,
    gpu: Annotated[bool | None, typer.Option("--gpu/--cpu", help="Where graphs run (cpu).")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of one instance on a CPU; 0 for one a core (0).")
    ] = None,
    queue_delay: Annotated[
        str, typer.Option(help="How long a request may wait for others to run with: 2ms, 0ms.")
    ] = "1ms",
    batching: Annotated[
        bool, typer.Option("--batching/--no-batching", help="Run requests together.")
    ] = True,
    warmup: Annotated[
        bool,
        typer.Option(
            "--warmup/--no-warmup", help="Run the smallest and the largest batch before ready."
        ),
    ] = True,
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble", help="Also NAME-photo, which takes the bytes of photo files (JPEG, PNG)."
        ),
    ] = False,
    also_classifier: Annotated[
        bool,
        typer.Option(
            "--also-classifier", help="Also NAME-classifier, for requests that need no map."
        ),
    ] = False,
    model_version: Annotated[int | None, typer.Option(help="Version to write (1).")] = None,
) -> None:
    """Write a Triton model repository: configuration, labels, warm-up, and the files it serves.

    Everything in it comes from the artifact: inputs and outputs, batch sizes, class names. What
    clients need to prepare photos and to read answers is in the configuration too (ptame client).
    """
    from engines.artifact import Artifact
    from engines.triton.repository import Wanted, serving_of, write_models
    from ptame_deploy.storage import check_writable

    if name is not None and len(models) > 1:
        message = "--name: for one model only; several take their folders' names."
        raise typer.BadParameter(message)
    check_writable(repository, "choose another --repository")
    given = {
        "backend": None if backend is None else backend.value,
        "max_batch": max_batch,
        "instances": instances,
        "gpu": gpu,
        "threads": threads,
        "version": model_version,
        "batching": batching,
        "queue_delay": options.seconds("--queue-delay", queue_delay),
        "warm_up": warmup,
    }
    wanted = []
    for directory in models:
        artifact = Artifact.read(directory)
        serving = serving_of(artifact, given)
        wanted.append(Wanted(artifact, name or directory.resolve().name, serving))
    written = write_models(wanted, repository, ensemble=ensemble, also_classifier=also_classifier)
    for one in wanted:
        for caution in one.artifact.graph.cautions:
            console.warn(f"{one.artifact.directory}: {caution}")
    console.result(f"Wrote {', '.join(written)} in {repository}")
    console.info(f"  tritonserver --model-repository {repository.resolve()}")
