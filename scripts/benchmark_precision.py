"""The committed benchmark of precisions and runtimes: speed and drift side by side.

Part of what `make bench` runs. Every classifier is exported once, lowered to FP16 and to both forms
of INT8, and all of them take turns within one run, on every runtime that was asked for. The drift
is measured on the runtime that is timed, on photos that nothing was tuned on. Exit 1 where a figure
of bench/figures.py is missed.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast, get_args

from bench.figures import figure_line, precision_figures
from bench.graphs import BenchGraphs, graphs_of_artifact, graphs_of_parts
from bench.options import BenchOptions
from bench.report import speed_table, summary_lines
from bench.results import Figure, SpeedReport
from bench.runtimes import RuntimeChoice, RuntimeName
from bench.speed import bench_model
from bench.suite import exit_code, finish_suite, write_suite
from bench.timing import Sampling
from bench.variants import Variant, form_of, recorded_drift, with_measured_drift
from engines.torch_runtime import TorchMode, TorchPrecision
from ptame_deploy.cli import console
from ptame_deploy.cli.bench import batch_sizes
from ptame_deploy.cli.loading import load_parts
from ptame_deploy.cli.quantize import report_lines
from ptame_deploy.errors import (
    InvalidInputError,
    MissingRequirementError,
)
from ptame_deploy.onnx_session import ProviderName
from ptame_deploy.photos import find_photos
from ptame_deploy.precision.options import Lowered, QuantizeOptions
from ptame_deploy.precision.passes import quantize
from ptame_deploy.precision.prepared_photos import split
from ptame_deploy.records import Target
from ptame_deploy.sources.load import load_backbone

FORMS: tuple[tuple[Lowered, Target], ...] = (
    ("fp16", "cpu"), ("int8", "cpu"), ("int8", "tensorrt"),
)  # fmt: skip


def main() -> int:
    """Run the benchmark and return the exit code."""
    arguments = _arguments()
    return exit_code(lambda: _run(arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", action="append", help="repeatable", required=True)
    parser.add_argument("--photos", type=Path, required=True, help="to judge by")
    parser.add_argument(
        "--calibration", type=Path, help="to calibrate on; without it three of four of --photos"
    )
    parser.add_argument(
        "--runtimes",
        default="onnxruntime:cpu,pytorch:cpu:eager:fp32",
        help="with commas between: onnxruntime:PROVIDER, pytorch:DEVICE:MODE:PRECISION, tensorrt, "
        "tensorrt-rtx; the first runs the FP32 graph that all others are compared with",
    )
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each row, at least")
    parser.add_argument("--iterations", type=int, default=20, help="of each row, at least")
    parser.add_argument("--rounds", type=int, default=20, help="turns; more cancel more noise")
    parser.add_argument(
        "--rise-masks", type=int, default=0, help="of RISE on the first runtime's FP32 graph"
    )
    parser.add_argument(
        "--no-memory", action="store_true", help="no peak memory: a process a row takes its time"
    )
    parser.add_argument(
        "--lowered",
        default="fp16,int8",
        help="precisions beside FP32; finding INT8's takes minutes",
    )
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("bench-work/bench-precision.json"))
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> None:
    choices = [_choice(text, arguments.threads) for text in arguments.runtimes.split(",")]
    options = _options(arguments)
    tuned, judged = _photos(arguments)
    reports: list[SpeedReport] = []
    figures: list[Figure] = []
    for backbone in arguments.backbone:
        with TemporaryDirectory(prefix="ptame-bench-") as folder:
            graphs = _export(backbone, Path(folder), arguments.seed)
            lowered = [
                _lower(graphs, precision, target, tuned, judged, Path(folder))
                for precision, target in _forms(choices)
                if precision in arguments.lowered.split(",")
            ]
            variants = list(_variants(choices, graphs, lowered))
            variants = with_measured_drift(variants, judged, say=console.info)
            report = bench_model(variants, options, say=console.info)
        of_figures = precision_figures(report)
        console.table(speed_table(report))
        for line in [*summary_lines(report), *(figure_line(figure) for figure in of_figures)]:
            console.result(line)
        for text in [*report.subject.cautions, *report.warnings]:
            console.warn(text)
        reports.append(report)
        figures += of_figures
        # A machine may be lost before the next one is measured.
        write_suite(reports, figures, arguments.json, seed=arguments.seed)
    finish_suite(reports, figures, arguments.json, seed=arguments.seed)


def _choice(text: str, threads: int) -> RuntimeChoice:
    given = text.split(":")
    kinds = (RuntimeName, ProviderName, TorchMode, TorchPrecision)
    usual = ("onnxruntime", "cpu", "eager", "fp32")
    for word, kind in zip(given, kinds[: 4 if given[0] == "pytorch" else 2], strict=False):
        if word not in get_args(kind):
            message = f"--runtimes {text}: {word!r} is none of {', '.join(get_args(kind))}."
            raise InvalidInputError(message)
    if len(given) > (4 if given[0] == "pytorch" else 2):
        message = f"--runtimes {text}: too many parts."
        raise InvalidInputError(message)
    name, provider, mode, precision = (*given, *usual[len(given) :])
    return RuntimeChoice(
        name=cast("RuntimeName", name),
        provider=cast("ProviderName", provider),
        torch_mode=cast("TorchMode", mode),
        torch_precision=cast("TorchPrecision", precision),
        threads=threads,
    )


def _forms(choices: Sequence[RuntimeChoice]) -> list[tuple[Lowered, Target]]:
    """Return the forms that one of the runtimes is asked to run; lowering takes minutes."""
    if not any(choice.name != "pytorch" for choice in choices):
        return []
    on_cpu = any(choice.name != "pytorch" and choice.on_cpu for choice in choices)
    return [form for form in FORMS if on_cpu or form != ("int8", "cpu")]


def _photos(arguments: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    photos = find_photos([arguments.photos])
    if arguments.calibration is None:
        return split(photos)
    return find_photos([arguments.calibration]), photos


def _export(backbone: str, workspace: Path, seed: int) -> BenchGraphs:
    console.info(f"\n{backbone}: exporting ...")
    parts = load_parts(
        load_backbone(backbone, seed=seed),
        explainer=None,
        auxiliary=None,
        auxiliary_weights=None,
        auxiliary_size=None,
        seed=seed,
    )
    return graphs_of_parts(
        parts.backbone,
        parts.auxiliary,
        parts.explainer,
        parts.record,
        workspace / "fp32",
        seed=seed,
        all_class_reason="in the other benchmark",
    )


def _lower(
    graphs: BenchGraphs,
    precision: Lowered,
    target: Target,
    tuned: list[Path],
    judged: list[Path],
    workspace: Path,
) -> BenchGraphs:
    folder = workspace / f"{precision}-{target}"
    options = QuantizeOptions(precision=precision, target=target, allow_drift=True)
    manifest = quantize(
        graphs.fused.parent,
        judged,
        folder,
        options,
        calibration_photos=tuned,
        say=console.info,
        unreadable=console.warn,
    )
    assert manifest.quantisation is not None
    for line in report_lines(manifest.quantisation):
        console.info(line)
    return graphs_of_artifact(folder, workspace / f"{folder.name}-alone")


def _variants(
    choices: list[RuntimeChoice], graphs: BenchGraphs, lowered: list[BenchGraphs]
) -> Iterator[Variant]:
    """Pair graphs with runtimes; what is not there is said, never replaced by another."""
    for number, choice in enumerate(choices):
        try:
            choice.check()
        except MissingRequirementError as error:
            if number == 0:
                raise
            console.warn(f"{choice.label} not measured: {error}")
            continue
        yield Variant(graphs, choice, choice.label if number else "")
        if choice.name == "pytorch":
            continue
        for lower in lowered:
            record = lower.manifest.quantisation
            assert record is not None
            if record.target == "cpu" and not choice.on_cpu:
                continue  # a form that no GPU's kernels are made for
            form = form_of(lower.manifest)
            label = f"{choice.label}, {form}" if number else form
            yield Variant(lower, choice, label, *recorded_drift(lower.manifest, choice))


def _options(arguments: argparse.Namespace) -> BenchOptions:
    return BenchOptions(
        batches=batch_sizes(arguments.batches),
        mode="latency",
        sampling=Sampling(
            seconds=arguments.seconds, iterations=arguments.iterations, rounds=arguments.rounds
        ),
        rise_masks=arguments.rise_masks,
        memory=not arguments.no_memory,
        seed=arguments.seed,
    )


if __name__ == "__main__":
    sys.exit(main())
