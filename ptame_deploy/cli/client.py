"""``ptame client``."""

from typing import Annotated

import typer

from ptame_deploy.cli import console, options
from ptame_deploy.cli.explain import ColorMapKind, explain_with


def client(
    url: Annotated[
        str,
        typer.Argument(
            help="Address of the server: http://host:8000, grpc://host:8001.", show_default=False
        ),
    ],
    photos: options.PhotosArgument,
    *,
    output: options.PicturesOption,
    name: Annotated[
        str | None,
        typer.Option(help="Of the model; not needed where the server has one that makes maps."),
    ] = None,
    classes: options.ClassesOption = None,
    save_maps: options.SaveMapsOption = False,
    colormap: Annotated[ColorMapKind, typer.Option(help="Colours.")] = ColorMapKind.inferno,
    opacity: options.OpacityOption = 0.6,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Photos a request; fewer where the model takes fewer.")
    ] = 8,
    timeout: Annotated[str, typer.Option(help="How long a request may take.")] = "60s",
) -> None:
    """Explain photos by a server (Triton, ptame serve): the same pictures as ptame explain.

    Photos are prepared here, as the server's own configuration tells; only pixels are sent.
    """
    from engines.triton.client import remote_explainer
    from ptame_deploy.storage import check_writable

    check_writable(output)
    seconds = options.seconds("--timeout", timeout)
    explainer = remote_explainer(url, name, batch_size=batch_size, timeout=seconds)
    console.info(f"{explainer.manifest.classifier.name}: {explainer.runtime.description}")
    explain_with(
        explainer,
        photos,
        output,
        classes=classes,
        save_maps=save_maps,
        colormap=colormap,
        opacity=opacity,
    )
