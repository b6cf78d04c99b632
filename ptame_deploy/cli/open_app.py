"""``ptame app``."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from ptame_deploy.cli import console, loading, options


def open_app(
    model: Annotated[
        Path, typer.Argument(help="Folder of an exported graph.", show_default=False)
    ],
    *,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", "-b", help="The classifier's source: Grad-CAM needs it.",
            show_default=False,
        ),
    ] = None,
    weights: options.WeightsOption = None,
    head: options.HeadOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine reach 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 7860,
) -> None:  # fmt: skip
    """Open a page in the browser: drop a photo, pick a class or a contrast, compare methods.

    The photos stay on this machine.
    """
    from bench.app import build_app, serve_app
    from bench.desk import Desk
    from ptame_deploy.artifact_files import read_manifest
    from ptame_deploy.artifacts import GRAPH_MANIFEST, GraphManifest

    manifest = read_manifest(model, GRAPH_MANIFEST, GraphManifest)
    source = None
    if backbone is not None:
        source = loading.load_classifier(
            backbone,
            weights=weights,
            preprocessing=manifest.preprocessing.model_dump(),
            head=head or manifest.classifier.head,
            seed=manifest.provenance.seed,
        )
    with TemporaryDirectory(prefix="ptame-app-") as workspace:
        page = build_app(Desk(model, Path(workspace), source))
        console.result(f"Open http://{host}:{port} (Ctrl-C ends it)")
        serve_app(page, host, port)
