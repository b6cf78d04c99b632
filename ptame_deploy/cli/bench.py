"""``ptame bench``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ptame_deploy.cli import bench_sources as sources
from ptame_deploy.cli import console, options
from ptame_deploy.cli.explain import ProviderKind


class RuntimeKind(StrEnum):
    """What runs the graphs."""

    onnxruntime = "onnxruntime"
    pytorch = "pytorch"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


class TorchModeKind(StrEnum):
    """How PyTorch runs."""

    eager = "eager"
    compile = "compile"
    cuda_graphs = "cuda-graphs"


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
    engine: Annotated[
        sources.EngineKind | None,
        typer.Option(
            help="Precision of everything that is measured; the graph's own by default. An FP32 "
            "graph is lowered on the way (give --photos) and stands beside it. bf16: PyTorch only."
        ),
    ] = None,
    runtime: Annotated[
        RuntimeKind,
        typer.Option(help="What runs the graphs; never another one silently. pytorch: --backbone."),
    ] = RuntimeKind.onnxruntime,
    provider: Annotated[
        ProviderKind, typer.Option(help="Where ONNX Runtime or PyTorch computes.")
    ] = ProviderKind.cpu,
    torch_mode: Annotated[
        TorchModeKind, typer.Option(help="How PyTorch runs.")
    ] = TorchModeKind.eager,
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            help="Photos to lower the graph with, and to measure what precision and runtime "
            "change; every fourth is held out for that. Repeatable."
        ),
    ] = None,
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
    explainer: options.ExplainerOption = None,
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
    the all-class form needs --backbone. Two runs are compared by: ptame bench compare A.json B.json
    """
    from tempfile import TemporaryDirectory

    from bench.options import BenchOptions
    from bench.report import speed_table, summary_lines
    from bench.runtimes import RuntimeChoice
    from bench.speed import bench_model
    from bench.timing import Sampling

    bench_options = BenchOptions(
        batches=batch_sizes(batch),
        mode=mode.value,
        sampling=Sampling(seconds=seconds, iterations=iterations),
        rise_masks=rise_masks,
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
    sources.check_source(
        model, backbone, [name for name, value in given.items() if value is not None]
    )
    if backbone is not None and lowered:
        message = "--lowered: only with the folder of the graph that they were made of."
        raise typer.BadParameter(message)
    choice = RuntimeChoice(
        name=runtime.value, provider=provider.value, torch_mode=torch_mode.value, threads=threads
    )
    sources.check_engine(engine, choice, backbone, photos)
    choice.check()
    if json is not None:
        sources.check_report_file(json)
    with TemporaryDirectory(prefix="ptame-bench-") as folder:
        workspace = Path(folder)
        if model is not None:
            from bench.graphs import graphs_of_artifact

            graphs = graphs_of_artifact(model, workspace / "source")
        else:
            assert backbone is not None
            graphs = sources.export_graphs(
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
        variants = sources.collect_variants(
            graphs, choice, engine, photos or [], lowered or [], workspace
        )
        report = bench_model(variants, bench_options, say=console.info)
    console.table(speed_table(report))
    for line in summary_lines(report):
        console.result(line)
    for text in [*report.subject.cautions, *report.warnings]:
        console.warn(text)
    if json is not None:
        from ptame_deploy.artifact_files import manifest_json
        from ptame_deploy.storage import write_text

        write_text(json, manifest_json(report))
        console.result(f"Wrote {json}")


def batch_sizes(text: str) -> list[int]:
    """Read batch sizes with commas between."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        message = f"--batch takes numbers with commas between (1,8), got {text!r}."
        raise typer.BadParameter(message) from None
