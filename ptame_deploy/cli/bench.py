"""``ptame bench``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console, options

if TYPE_CHECKING:
    from bench.graphs import BenchGraphs


class ModeKind(StrEnum):
    """What is timed."""

    latency = "latency"
    throughput = "throughput"
    both = "both"


def bench(
    model: Annotated[
        Path | None,
        typer.Argument(help="Folder of an exported graph; or give --backbone.", show_default=False),
    ] = None,
    *,
    lowered: Annotated[
        list[Path] | None,
        typer.Option(
            "--lowered",
            help="Folder that ptame quantize made of the graph: runs in turns with it, and its "
            "drift stands beside its speed. Repeatable.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            help="Classifier, as for ptame export; the all-class form is measured too.",
            show_default=False,
        ),
    ] = None,
    explainer: Annotated[
        Path | None, typer.Option(help="Folder of a trained explainer (from ptame train).")
    ] = None,
    auxiliary: options.AuxiliaryOption = None,
    weights: options.WeightsOption = None,
    auxiliary_weights: options.AuxiliaryWeightsOption = None,
    auxiliary_size: options.AuxiliarySizeOption = None,
    input_size: options.InputSizeOption = None,
    batch: Annotated[str, typer.Option(help="Batch sizes with commas between.")] = "1,8",
    mode: Annotated[
        ModeKind, typer.Option(help="One run at a time, the queue kept full, or both.")
    ] = ModeKind.both,
    rise_masks: Annotated[
        int, typer.Option(min=0, help="Masks of RISE, all of which are run; 0 leaves RISE out.")
    ] = 1000,
    seconds: Annotated[
        float, typer.Option(min=0, help="Measured time of each row and mode at least.")
    ] = 3.0,
    iterations: Annotated[
        int, typer.Option(min=1, help="Measured runs of each row at least.")
    ] = 20,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 for one a core.")] = 0,
    memory: Annotated[bool, typer.Option(help="Measure peak memory, in fresh processes.")] = True,
    json: Annotated[
        Path | None, typer.Option("--json", help="Also write everything to this file.")
    ] = None,
    seed: options.SeedOption = 0,
) -> None:
    """Time the classifier alone, the fused graph, the all-class form and RISE, in one run.

    They take turns, and ratios are the median over the rounds. An exported graph needs no PyTorch;
    the all-class form needs --backbone.
    """
    from tempfile import TemporaryDirectory

    from bench.report import speed_table, summary_lines
    from bench.speed import BenchOptions, bench_model
    from bench.timing import Sampling

    bench_options = BenchOptions(
        batches=_batches(batch),
        mode=mode.value,
        sampling=Sampling(seconds=seconds, iterations=iterations),
        rise_masks=rise_masks,
        threads=threads,
        memory=memory,
        seed=seed,
    )
    given = {
        "--explainer": explainer,
        "--auxiliary": auxiliary,
        "--weights": weights,
        "--auxiliary-weights": auxiliary_weights,
        "--auxiliary-size": auxiliary_size,
        "--input-size": input_size,
    }
    _check_source(model, backbone, [name for name, value in given.items() if value is not None])
    if backbone is not None and lowered:
        message = "--lowered: only with the folder of the graph that they were made of."
        raise typer.BadParameter(message)
    with TemporaryDirectory(prefix="ptame-bench-") as folder:
        workspace = Path(folder)
        if model is not None:
            from bench.graphs import graphs_of_artifact

            graphs = graphs_of_artifact(model, workspace, lowered or ())
        else:
            assert backbone is not None
            graphs = _export(
                backbone,
                workspace,
                explainer=explainer,
                auxiliary=auxiliary,
                weights=weights,
                auxiliary_weights=auxiliary_weights,
                auxiliary_size=auxiliary_size,
                input_size=input_size,
                seed=seed,
            )
        report = bench_model(graphs, bench_options, say=console.info)
    console.table(speed_table(report))
    for line in summary_lines(report):
        console.result(line)
    for text in [*report.subject.cautions, *report.warnings]:
        console.warn(text)
    if json is not None:
        from ptame_deploy.artifacts import manifest_json
        from ptame_deploy.storage import write_text

        write_text(json, manifest_json(report))
        console.result(f"Wrote {json}")


def _export(
    backbone: str,
    workspace: Path,
    *,
    explainer: Path | None,
    auxiliary: str | None,
    weights: str | None,
    auxiliary_weights: str | None,
    auxiliary_size: int | None,
    input_size: int | None,
    seed: int,
) -> "BenchGraphs":
    from bench.graphs import graphs_of_parts

    overrides = options.preprocessing_overrides(input_size, None, None, None, None)
    classifier = options.load_classifier(
        backbone, weights=weights, preprocessing=overrides, seed=seed
    )
    parts = options.load_parts(
        classifier,
        explainer=explainer,
        auxiliary=auxiliary,
        auxiliary_weights=auxiliary_weights,
        auxiliary_size=auxiliary_size,
        seed=seed,
    )
    console.info("Exporting the fused graph and the all-class form ...")
    return graphs_of_parts(
        parts.backbone, parts.auxiliary, parts.explainer, parts.record, workspace, seed=seed
    )


def _check_source(model: Path | None, backbone: str | None, given: list[str]) -> None:
    if (model is None) == (backbone is None):
        message = "Give either the folder of an exported graph, or --backbone."
        raise typer.BadParameter(message)
    if model is not None and given:
        message = f"{', '.join(given)}: only with --backbone; {model} already holds its networks."
        raise typer.BadParameter(message)


def _batches(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        message = f"--batch takes numbers with commas between (1,8), got {text!r}."
        raise typer.BadParameter(message) from None
