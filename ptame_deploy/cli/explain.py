"""``ptame explain``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console, options

if TYPE_CHECKING:
    from engines.beside import Beside
    from engines.explainer import Explainer
    from ptame_deploy.artifacts import GraphManifest


class ColorMapKind(StrEnum):
    """Colours of the overlay."""

    inferno = "inferno"
    viridis = "viridis"
    jet = "jet"


class ProviderKind(StrEnum):
    """Where the graph runs."""

    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"


def explain(
    model: Annotated[
        Path, typer.Argument(help="Folder of an exported graph or an engine.", show_default=False)
    ],
    photos: options.PhotosArgument,
    *,
    output: options.PicturesOption,
    classes: options.ClassesOption = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            help="Another graph or engine of the same classifier, whose maps are drawn beside: "
            "an untrained start, another precision.",
            show_default=False,
        ),
    ] = None,
    save_maps: options.SaveMapsOption = False,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=99,
            help="Outline the best N % of the pixels, and say how sure the classifier is of only "
            "these, and without them.",
        ),
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="Also write index.html.")] = False,
    colormap: Annotated[ColorMapKind, typer.Option(help="Colours.")] = ColorMapKind.inferno,
    opacity: options.OpacityOption = 0.6,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Photos that run together; fewer where an engine takes fewer."),
    ] = 8,
    provider: Annotated[
        ProviderKind, typer.Option(help="Where ONNX Runtime runs; never another one silently.")
    ] = ProviderKind.cpu,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 for one a core.")] = 0,
) -> None:
    """Explain photos: an overlay for each, and a table of classes and probabilities.

    A file that cannot be decoded is named and skipped; the others are done, and the exit code is 2.
    """
    from engines.beside import Beside
    from engines.explainer import Explainer
    from ptame_deploy.onnx_session import PROVIDERS
    from ptame_deploy.storage import check_writable

    check_writable(output)
    explainer = Explainer.load(
        model, providers=PROVIDERS[provider.value], threads=threads, batch_size=batch_size
    )
    other = None
    if beside is not None:
        opened = Explainer.load(
            beside, providers=PROVIDERS[provider.value], threads=threads, batch_size=batch_size
        )
        other = Beside(opened, beside.resolve().name)
    explain_with(
        explainer,
        photos,
        output,
        classes=classes,
        save_maps=save_maps,
        colormap=colormap,
        opacity=opacity,
        beside=other,
        keep=keep,
        page=page,
    )


def explain_with(
    explainer: "Explainer",
    photos: list[Path],
    output: Path,
    *,
    classes: list[str] | None,
    save_maps: bool,
    colormap: ColorMapKind,
    opacity: float,
    beside: "Beside | None" = None,
    keep: int | None = None,
    page: bool = False,
) -> None:
    """Explain photos by what was opened, and say what came of it.

    Args:
        explainer: a graph, a plan, or a served model.
        photos: files and folders.
        output: folder for pictures and tables.
        classes: to explain, by name or index, where the graph takes them.
        save_maps: see `engines.explain_folder.explain_folder`.
        colormap: of the pictures.
        opacity: of the map over the photo.
        beside: another graph, whose maps are drawn beside.
        keep: see `engines.explain_folder.explain_folder`.
        page: likewise.

    Raises:
        InvalidInputError: no photos, some that cannot be read (the others are done), or classes
            that do not exist.
    """
    from engines.explain_folder import explain_folder
    from ptame_deploy.photos import find_photos

    asked = asked_classes(explainer.manifest, classes)
    found = find_photos(photos)
    for caution in explainer.manifest.cautions:
        console.warn(caution)
    with console.progress("Explaining", total=len(found)) as bar:
        summary = explain_folder(
            explainer,
            found,
            output,
            class_index=asked,
            save_maps=save_maps,
            colormap=colormap.value,
            opacity=opacity,
            beside=beside,
            keep=keep,
            page=page,
            advance=lambda count: bar.advance(bar.task_ids[0], count),
        )
    for row in summary.rows:
        if row.rank == 0:
            console.detail(f"  {row.photo}: {row.class_name} {row.probability:.3f}")
    console.result(
        f"Explained {len(found) - len(summary.skipped)} of {len(found)} photos: pictures and "
        f"results.csv, results.json in {output}"
    )
    if summary.others:
        console.warn(
            f"{output} holds {summary.others} other pictures and maps (of earlier runs?): the "
            "tables tell of this run alone."
        )
    console.detail(f"  the model ran {summary.model_share:.0%} of the time")
    if summary.skipped:
        from ptame_deploy.errors import InvalidInputError

        listed = console.bullet_list(summary.skipped)
        message = f"{len(summary.skipped)} of {len(found)} files were skipped:\n{listed}"
        raise InvalidInputError(message)


def asked_classes(manifest: "GraphManifest", classes: list[str] | None) -> list[int] | None:
    """Return the classes to explain by their index; None where the graph chooses them itself.

    Raises:
        BadParameter: classes for a graph that takes none, or none for one that does.
        InvalidInputError: a class that does not exist.
    """
    if classes is None:
        if manifest.takes_classes:
            message = "This graph was exported with --classes input: say which with --class."
            raise typer.BadParameter(message)
        return None
    if not manifest.takes_classes:
        message = (
            f"This graph explains {manifest.explained}; export with --classes input to choose."
        )
        raise typer.BadParameter(message)
    from ptame_deploy.classes import find_class

    return [find_class(manifest.classifier, text) for text in classes]
