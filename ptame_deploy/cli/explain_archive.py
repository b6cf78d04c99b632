"""``ptame explain-archive``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console, options
from ptame_deploy.cli.explain import ProviderKind, asked_classes

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines.archive.explain_archive import Summary
    from engines.archive.pool import Pool
    from engines.archive.worker import Report


class MapDtypeKind(StrEnum):
    """How maps are kept."""

    uint8 = "uint8"
    float16 = "float16"


def explain_archive(
    model: Annotated[
        Path, typer.Argument(help="Folder of an exported graph or an engine.", show_default=False)
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders of photos, WebDataset shards (.tar), Parquet files with photos; paths or "
            "URLs (s3://, gs://, hf://, ...).",
            show_default=False,
        ),
    ],
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder or URL for the Parquet files.")
    ],
    classes: options.ClassesOption = None,
    map_dtype: Annotated[
        MapDtypeKind, typer.Option(help="Of the maps' values; uint8 is half as large.")
    ] = MapDtypeKind.uint8,
    maps: Annotated[bool, typer.Option(help="Keep the maps, not only the classes.")] = True,
    image_column: Annotated[
        str | None,
        typer.Option(
            help="Column of Parquet files that holds the photos' bytes (found by itself)."
        ),
    ] = None,
    key_column: Annotated[
        str | None, typer.Option(help="Column that names their photos (the number of the row).")
    ] = None,
    shard_size: Annotated[
        int, typer.Option(min=1, help="Photos of a Parquet file; a kill loses no more a worker.")
    ] = 1000,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes with a model each; 0 for as many as fit.")
    ] = 0,
    threads: Annotated[
        int, typer.Option(min=0, help="Cores of each; 0 so that workers x threads = cores.")
    ] = 0,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs of each (1 where one is needed); 0.5 lets two share one."),
    ] = None,
    provider: Annotated[
        ProviderKind, typer.Option(help="Where ONNX Runtime runs; never another one silently.")
    ] = ProviderKind.cpu,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Photos that run together; fewer where an engine takes fewer."),
    ] = 8,
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster to join (HOST:6379); none: this machine alone."),
    ] = None,
) -> None:
    """Explain millions of photos into Parquet, by Ray Data; a killed run goes on where it was.

    A photo that cannot be read is a row with the reason, and the exit code is 2. For folders that
    are done in minutes, and for pictures, there is ptame explain.
    """
    from engines.archive.requirements import require_packages

    require_packages()
    from engines.archive import explain_archive as archive
    from engines.archive.manifest import Settings
    from engines.archive.ray_pool import Asked, ray_runner
    from engines.archive.worker import Task
    from engines.artifact import Artifact
    from ptame_deploy.onnx_session import PROVIDERS

    found = Artifact.read(model)
    settings = Settings(
        map_dtype=map_dtype.value if maps else None,
        class_index=asked_classes(found.graph, classes),
        shard_size=shard_size,
        image_column=image_column,
        key_column=key_column,
    )
    console.info("Looking for photos ...")
    plan = archive.plan_archive(sources, found, output, settings)
    for caution in found.graph.cautions:
        console.warn(caution)
    task = Task(
        model=found.directory.resolve(),  # workers may run in other folders
        graph_sha256=plan.manifest.graph_sha256,
        output=plan.folder.location,
        settings=settings,
        providers=PROVIDERS[provider.value],
        threads=1,
        batch_size=batch_size,
    )
    if gpus_per_worker is None:
        needs_gpu = provider is not ProviderKind.cpu or found.plan_sha256 is not None
        gpus_per_worker = 1.0 if needs_gpu else 0.0
    asked = Asked(address, workers, threads, gpus_per_worker)
    try:
        with console.steps("Explaining, in shards", len(plan.left())) as advance:
            summary = archive.explain_archive(
                plan,
                lambda: ray_runner(asked, task, _tell_pool),
                lambda report: _tell_report(report, advance),
            )
    except BaseException as error:
        if not isinstance(error, Exception):  # Ctrl-C, SIGTERM
            left = len(plan.left())
            console.info(
                f"{len(plan.shards) - left} of {len(plan.shards)} shards are done and kept; the "
                "same command goes on with the others."
            )
        raise
    _tell_summary(summary, plan.folder.name, len(plan.shards))


def _tell_pool(pool: "Pool") -> None:
    gpus = f", GPUs of each: {pool.gpus:g}" if pool.gpus else ""
    console.info(f"Workers: {pool.workers}, threads of each: {pool.threads}{gpus}")


def _tell_report(report: "Report", advance: "Callable[[int], None]") -> None:
    what = report.failure or f"{report.photos} photos, {report.bad} without an explanation"
    console.detail(f"  shard {report.number}: {what}")
    advance(1)


def _tell_summary(summary: "Summary", folder: str, shards: int) -> None:
    console.result(
        f"Explained {summary.photos - summary.bad} of {summary.photos} photos: {shards} Parquet "
        f"files in {folder}"
    )
    if summary.seconds:
        console.result(f"This run: {summary.done} photos, {summary.photos_per_second:.1f} a second")
    if summary.bad:
        from ptame_deploy.errors import InvalidInputError

        listed = console.bullet_list(summary.named)
        more = summary.bad - len(summary.named)
        rest = f"\n  and {more} more" if more else ""
        message = (
            f"{summary.bad} of {summary.photos} photos could not be explained; the column error "
            f"says why:\n{listed}{rest}"
        )
        raise InvalidInputError(message)
