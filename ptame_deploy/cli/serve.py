"""``ptame serve``."""

import os
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console, options
from ptame_deploy.cli.explain import ProviderKind
from ptame_deploy.cli.lowering import EngineKind, graph_of_precision

if TYPE_CHECKING:
    from ptame_deploy.records import Target

API_KEY = "PTAME_API_KEY"


def serve(
    model: Annotated[
        Path, typer.Argument(help="Folder of an exported graph or an engine.", show_default=False)
    ],
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for every network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="Of the model (its folder's name).", show_default=False)
    ] = None,
    engine: Annotated[
        EngineKind | None,
        typer.Option(
            help="Precision; the graph's own by default, never another one silently. An FP32 graph "
            "is lowered before it is served (give --photos)."
        ),
    ] = None,
    photos: Annotated[
        list[Path] | None,
        typer.Option(help="Photos to lower the graph with (see ptame quantize); repeatable."),
    ] = None,
    provider: Annotated[
        ProviderKind, typer.Option(help="Where ONNX Runtime runs; never another one silently.")
    ] = ProviderKind.cpu,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 for one a core.")] = 0,
    max_batch: Annotated[int, typer.Option(help="Photos that run together at most.")] = 8,
    queue_delay: Annotated[
        str, typer.Option(help="How long a request may wait for others to run with.")
    ] = "2ms",
    max_waiting: Annotated[
        int, typer.Option(help="Photos that may wait or run; more are answered 429.")
    ] = 64,
    max_body: Annotated[
        float,
        typer.Option(help="Megabytes of a request, and of its answer's maps; more are 413."),
    ] = 32,
    max_pixels: Annotated[
        float, typer.Option(help="Megapixels of a photo; more are answered 413.")
    ] = 89,
    timeout: Annotated[
        str, typer.Option(help="How long a request may take; then it is answered 503.")
    ] = "30s",
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File with the key that requests must bring (or the variable {API_KEY}).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve a graph or an engine over HTTP: KServe v2, photos in and pictures out, a web page.

    Requests that arrive together run together. SIGTERM and Ctrl-C answer what has arrived, then
    end.
    """
    from engines.explainer import Explainer
    from engines.serve.settings import ServeSettings
    from ptame_deploy.errors import MissingRequirementError
    from ptame_deploy.onnx_session import PROVIDERS

    settings = ServeSettings(
        name=model.resolve().name if name is None else name,
        max_batch=max_batch,
        delay=options.seconds("--queue-delay", queue_delay),
        max_waiting=max_waiting,
        max_body=_millions("--max-body", max_body),
        max_pixels=_millions("--max-pixels", max_pixels),
        timeout=options.seconds("--timeout", timeout),
        api_key=_api_key(api_key_file),
    )
    try:
        from engines.serve.server import run_server
    except ImportError as error:
        message = 'The server is not installed: pip install "ptame-deploy[serve]".'
        raise MissingRequirementError(message) from error
    with TemporaryDirectory(prefix="ptame-serve-") as folder:
        target: Target = "cpu" if provider is ProviderKind.cpu else "tensorrt"
        source = graph_of_precision(model, engine, photos or [], target, Path(folder))
        explainer = Explainer.load(
            source, providers=PROVIDERS[provider.value], threads=threads, batch_size=max_batch
        )
    for caution in explainer.manifest.cautions:
        console.warn(caution)
    run_server(explainer, settings, host, port, say=console.result)


def _millions(option: str, value: float) -> int:
    from engines.serve.settings import MEGABYTE
    from ptame_deploy.errors import InvalidInputError

    if not isfinite(value):
        message = f"{option} must be a number, got {value}."
        raise InvalidInputError(message)
    return int(value * MEGABYTE)


def _api_key(file: Path | None) -> str | None:
    from ptame_deploy.errors import InvalidInputError

    if file is None:
        return os.environ.get(API_KEY)
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        message = f"The API key in {file} cannot be read: {error}"
        raise InvalidInputError(message) from error
