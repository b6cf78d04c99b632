"""The committed benchmark: ResNet-50 with each auxiliary, and the demo's pair.

What `make bench` runs. Holds the figures of bench/figures.py and writes one JSON file; exit 1
where a figure is missed.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import (
    fast_form_figures,
    figure_line,
    memory_figures,
    rise_figures,
    time_figures,
)
from bench.graphs import BenchGraphs, graphs_of_parts, make_inputs
from bench.operators import operator_costs
from bench.options import BenchOptions
from bench.report import speed_table, summary_lines
from bench.results import Figure, SpeedReport
from bench.runtimes import RuntimeChoice
from bench.speed import bench_model
from bench.suite import exit_code, finish_suite
from bench.timing import Sampling
from bench.variants import Variant
from ptame_deploy.auxiliaries import AUXILIARIES
from ptame_deploy.cli import console
from ptame_deploy.cli.loading import load_parts
from ptame_deploy.pretrained import PACKAGED
from ptame_deploy.sources.load import load_backbone

PAPER_AUXILIARY = "resnet18"
DEMO_BACKBONE, DEMO_AUXILIARY = "timm:tf_efficientnet_lite2", "efficientnet_lite0"
BATCHES = (1, 8)
SHOWN_OPERATORS = 8


def main() -> int:
    """Run the benchmark and return the exit code."""
    arguments = _arguments()
    return exit_code(lambda: _run(arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet50", help="the ResNet-50 to measure")
    parser.add_argument(
        "--weights",
        help="its weights; 'random' is the default for a torchvision name, since weights do not "
        "change the speed",
    )
    parser.add_argument(
        "--auxiliary-weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="weights of an auxiliary; random without them, but for efficientnet_lite0's package",
    )
    parser.add_argument("--auxiliaries", default=",".join(AUXILIARIES))
    parser.add_argument("--no-demo", action="store_true", help=f"leave {DEMO_BACKBONE} out")
    parser.add_argument("--rise-masks", type=int, default=1000, help="with the first auxiliary")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row, at least")
    parser.add_argument("--iterations", type=int, default=20, help="of each row, at least")
    parser.add_argument("--rounds", type=int, default=50, help="turns; more cancel more noise")
    parser.add_argument("--mode", default="latency", choices=("latency", "throughput", "both"))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("bench-work/bench.json"))
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> None:
    weights = arguments.weights
    if weights is None and ":" not in arguments.backbone:
        weights = "random"
    given = dict(pair.partition("=")[::2] for pair in arguments.auxiliary_weights)
    pairs = [(arguments.backbone, weights, name) for name in arguments.auxiliaries.split(",")]
    if not arguments.no_demo:
        demo = None if PACKAGED[DEMO_BACKBONE.removeprefix("timm:")].is_installed() else "random"
        pairs.append((DEMO_BACKBONE, demo, DEMO_AUXILIARY))
    reports: list[SpeedReport] = []
    figures: list[Figure] = []
    for number, (backbone, backbone_weights, auxiliary) in enumerate(pairs):
        with TemporaryDirectory(prefix="ptame-bench-") as folder:
            graphs = _graphs(
                backbone, backbone_weights, auxiliary, given.get(auxiliary), Path(folder), arguments
            )
            masks = arguments.rise_masks if number == 0 else 0
            variant = Variant(graphs, RuntimeChoice(threads=arguments.threads))
            report = bench_model([variant], _options(arguments, masks), say=console.info)
            of_figures = _figures(report, is_demo=backbone == DEMO_BACKBONE)
            _show(report, of_figures)
            if not all(figure.passed for figure in of_figures):
                _show_operators(graphs, arguments.threads)
        reports.append(report)
        figures += of_figures
    finish_suite(reports, figures, arguments.json, seed=arguments.seed)


def _graphs(
    backbone: str,
    weights: str | None,
    auxiliary: str,
    auxiliary_weights: str | None,
    workspace: Path,
    arguments: argparse.Namespace,
) -> BenchGraphs:
    console.info(f"\n{backbone} with {auxiliary}: exporting ...")
    if auxiliary_weights is None and not _has_packaged_weights(auxiliary):
        auxiliary_weights = "random"
    parts = load_parts(
        load_backbone(backbone, weights=weights, seed=arguments.seed),
        explainer=None,
        auxiliary=auxiliary,
        auxiliary_weights=auxiliary_weights,
        auxiliary_size=None,
        seed=arguments.seed,
    )
    return graphs_of_parts(
        parts.backbone,
        parts.auxiliary,
        parts.explainer,
        parts.record,
        workspace,
        seed=arguments.seed,
        all_class_reason=None
        if auxiliary == PAPER_AUXILIARY
        else f"run with {PAPER_AUXILIARY} only, the paper's auxiliary",
    )


def _has_packaged_weights(auxiliary: str) -> bool:
    packaged = PACKAGED.get(f"tf_{auxiliary}")
    return packaged is not None and packaged.is_installed()


def _options(arguments: argparse.Namespace, masks: int) -> BenchOptions:
    return BenchOptions(
        batches=BATCHES,
        mode=arguments.mode,
        sampling=Sampling(
            seconds=arguments.seconds, iterations=arguments.iterations, rounds=arguments.rounds
        ),
        rise_masks=masks,
        seed=arguments.seed,
    )


def _figures(report: SpeedReport, *, is_demo: bool) -> list[Figure]:
    if is_demo:  # shown, not held to the limits, which are for ResNet-50
        return []
    figures = [*time_figures(report), *memory_figures(report), *rise_figures(report)]
    if report.subject.auxiliary == PAPER_AUXILIARY:
        figures += fast_form_figures(report)
    return figures


def _show(report: SpeedReport, figures: list[Figure]) -> None:
    console.table(speed_table(report))
    for line in [*summary_lines(report), *(figure_line(figure) for figure in figures)]:
        console.result(line)
    for text in [*report.subject.cautions, *report.warnings]:
        console.warn(text)


def _show_operators(graphs: BenchGraphs, threads: int) -> None:
    console.result("Operators that take more of the time than of the multiply-adds, at batch 8:")
    costs = operator_costs(graphs.fused, make_inputs(graphs.manifest, 8), threads=threads)
    costs.sort(key=lambda cost: cost.time_share - cost.macs_share, reverse=True)
    for cost in costs[:SHOWN_OPERATORS]:
        console.result(
            f"  {cost.operator:<14} {cost.name:<32} {cost.time_ms:8.2f} ms  "
            f"{cost.time_share:6.1%} of the time, {cost.macs_share:6.1%} of the multiply-adds"
        )


if __name__ == "__main__":
    sys.exit(main())
