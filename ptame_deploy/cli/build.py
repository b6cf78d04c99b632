"""``ptame build``."""

from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from ptame_deploy.cli import console
from ptame_deploy.cli.lowering import EngineKind, graph_of_precision


class RuntimeKind(StrEnum):
    """Which TensorRT."""

    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


def build(
    model: Annotated[Path, typer.Argument(help="Folder of an exported graph.", show_default=False)],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the engine.")],
    engine: Annotated[
        EngineKind | None,
        typer.Option(
            help="Precision; the graph's own by default. Another one lowers the graph on the way "
            "and needs --photos."
        ),
    ] = None,
    runtime: Annotated[
        RuntimeKind, typer.Option(help="tensorrt needs a GPU to build, tensorrt-rtx does not.")
    ] = RuntimeKind.tensorrt,
    photos: Annotated[
        list[Path] | None,
        typer.Option(help="Photos to lower the graph with (see ptame quantize); repeatable."),
    ] = None,
    min_batch: Annotated[int, typer.Option(help="Smallest batch.")] = 1,
    opt_batch: Annotated[
        int | None,
        typer.Option(help="Batch that is tuned for; 8 by default, as far as the others allow."),
    ] = None,
    max_batch: Annotated[int, typer.Option(help="Largest batch.")] = 32,
    workspace: Annotated[
        int | None, typer.Option(min=1, help="Scratch memory for layers, MiB.")
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File of kernel timings, shared by builds.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option(help="Run on later versions of the same major too.")
    ] = False,
    emit_trtexec: Annotated[
        bool, typer.Option("--emit-trtexec", help="Only print the equal trtexec command.")
    ] = False,
) -> None:
    """Build a TensorRT engine: model.plan, raw, and model.plan.json, what it needs to run.

    The precision is in the graph; the build is strongly typed.
    """
    from pydantic import ValidationError

    from engines.flavours import load_flavour
    from engines.plan import Profile
    from engines.tensorrt.build import build as build_plan
    from engines.tensorrt.build import trtexec_command
    from engines.tensorrt.engine_builder import BuildOptions
    from ptame_deploy.artifacts import GRAPH_MANIFEST
    from ptame_deploy.errors import InvalidInputError
    from ptame_deploy.records import first_fault
    from ptame_deploy.storage import check_writable

    try:
        tuned = max(min_batch, min(8, max_batch)) if opt_batch is None else opt_batch
        profile = Profile(min_batch=min_batch, opt_batch=tuned, max_batch=max_batch)
    except ValidationError as error:
        message = f"Batch sizes cannot be used: {first_fault(error)}."
        raise InvalidInputError(message) from error
    options = BuildOptions(
        profile=profile,
        workspace_mib=workspace,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
    )
    with TemporaryDirectory(prefix="ptame-build-") as folder:
        source = graph_of_precision(
            model, engine, photos or [], "tensorrt", Path(folder), may_lower=not emit_trtexec
        )
        if emit_trtexec:
            console.result(trtexec_command(source, output, options))
            return
        if (output / GRAPH_MANIFEST).exists():
            message = f"{output} holds a graph: an engine needs a folder of its own."
            raise InvalidInputError(message)
        check_writable(output)
        flavour = load_flavour(runtime.value)
        console.info(f"Building with {flavour.name} {flavour.version} ...")
        with console.progress("Building", total=None) as bar:
            manifest = build_plan(
                source,
                output,
                flavour,
                options,
                on_phase=lambda name: bar.update(bar.task_ids[0], description=name),
            )
    for caution in manifest.cautions:
        console.warn(caution)
    size = manifest.files["model.plan"].bytes
    console.result(
        f"Wrote {output / 'model.plan'} ({size / 1e6:.1f} MB, {manifest.precision}, batch "
        f"{min_batch} to {max_batch}) and {output / 'model.plan.json'}; it runs on compute "
        f"capability {', '.join(manifest.compute_capabilities)}"
    )
