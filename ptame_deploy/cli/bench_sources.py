"""What ``ptame bench`` measures: from its options to graphs, runtimes and precisions."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from ptame_deploy.cli import console, loading, options

if TYPE_CHECKING:
    from bench.graphs import BenchGraphs
    from bench.runtimes import RuntimeChoice
    from bench.variants import Variant
    from engines.torch_runtime import TorchPrecision
    from ptame_deploy.precision.options import Lowered
    from ptame_deploy.records import Target


class EngineKind(StrEnum):
    """The precision that is measured."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


def check_engine(
    engine: EngineKind | None,
    choice: "RuntimeChoice",
    backbone: str | None,
    photos: list[Path] | None,
) -> None:
    """Refuse what cannot be, before anything is exported."""
    is_torch = choice.name == "pytorch"
    if choice.torch_mode != "eager" and not is_torch:
        message = "--torch-mode is for --runtime pytorch."
        raise typer.BadParameter(message)
    if choice.threads and not choice.on_cpu:
        message = "--threads are the CPU's: leave them away on a GPU."
        raise typer.BadParameter(message)
    if is_torch and backbone is None:
        message = "--runtime pytorch runs a classifier's source, not its graph: give --backbone."
        raise typer.BadParameter(message)
    if engine is EngineKind.bf16 and not is_torch:
        message = "--engine bf16 is PyTorch's autocast: give --runtime pytorch."
        raise typer.BadParameter(message)
    if engine is EngineKind.int8 and is_torch:
        message = "--engine int8 is a graph: give --runtime onnxruntime, tensorrt or tensorrt-rtx."
        raise typer.BadParameter(message)
    lowers = engine in (EngineKind.fp16, EngineKind.int8) and not is_torch
    if backbone is not None and lowers and not photos:
        message = (
            f"--engine {engine}: give --photos, since a speed without its drift from FP32 says "
            "nothing."
        )
        raise typer.BadParameter(message)


def check_report_file(path: Path) -> None:
    """See before anything is measured that the report can be written, over none but a report.

    Raises:
        InvalidInputError: a folder, somebody else's file, or a place that cannot be written.
        MissingRequirementError: the disk is full.
    """
    from bench.compare_runs import read_reports
    from ptame_deploy.errors import InvalidInputError
    from ptame_deploy.storage import check_writable

    if path.is_dir():
        message = f"--json {path}: that is a folder. Name a file."
        raise InvalidInputError(message)
    check_writable(path.parent)
    if path.exists():
        try:
            read_reports(path)
        except InvalidInputError as error:
            message = f"--json {path}: the file there is not a report. Name another one."
            raise InvalidInputError(message) from error


def collect_variants(
    graphs: "BenchGraphs",
    choice: "RuntimeChoice",
    engine: EngineKind | None,
    photos: list[Path],
    lowered: list[Path],
    workspace: Path,
) -> "list[Variant]":
    """Collect what is measured: the asked precision first, then what it is compared with."""
    from bench.graphs import check_made_of, graphs_of_artifact
    from bench.variants import Variant, form_of, recorded_drift, with_measured_drift
    from ptame_deploy.photos import find_photos
    from ptame_deploy.precision.prepared_photos import HELD_OUT, split

    own = graphs.manifest.precision
    if photos and own != "fp32":
        message = (
            f"--photos: the graph is {own}, and the FP32 graph to compare it with is not here. Its "
            "own record of the drift is shown; for another, give the FP32 graph and --lowered."
        )
        raise typer.BadParameter(message)
    others: list[Variant] = []
    for number, folder in enumerate(lowered):
        other = graphs_of_artifact(folder, workspace / f"lowered-{number}")
        check_made_of(other.manifest, graphs.manifest, str(folder))
        drift = recorded_drift(other.manifest, choice)
        others.append(Variant(other, choice, form_of(other.manifest), *drift))
    if choice.name == "pytorch" and engine not in (None, EngineKind.fp32):
        others.insert(0, Variant(graphs, choice, "fp32"))
        found = [
            Variant(graphs, replace(choice, torch_precision=cast("TorchPrecision", engine.value))),
            *others,
        ]
    elif engine is None or engine.value == own:
        found = [Variant(graphs, choice, "", *recorded_drift(graphs.manifest, choice)), *others]
    else:
        subject = _lowered(graphs, engine, choice, photos, workspace)
        drift = recorded_drift(subject.manifest, choice)
        found = [Variant(subject, choice, "", *drift), Variant(graphs, choice, "fp32"), *others]
    if not photos:
        return found
    found_photos = find_photos(photos)
    if len(found_photos) < HELD_OUT:
        message = f"--photos: give at least {HELD_OUT}; every fourth is held out to judge by."
        raise typer.BadParameter(message)
    _, judged = split(found_photos)  # lowering tunes on the others
    return with_measured_drift(found, judged, say=console.info)


def _lowered(
    graphs: "BenchGraphs",
    engine: EngineKind,
    choice: "RuntimeChoice",
    photos: list[Path],
    workspace: Path,
) -> "BenchGraphs":
    from bench.graphs import graphs_of_artifact
    from ptame_deploy.cli.lowering import lower

    if graphs.manifest.precision != "fp32" or engine not in (EngineKind.fp16, EngineKind.int8):
        message = f"--engine: the graph is {graphs.manifest.precision}, it cannot become {engine}."
        raise typer.BadParameter(message)
    if not photos:
        message = (
            f"--engine {engine}: the graph is fp32. Give --photos to lower it with, or what "
            "ptame quantize made of it."
        )
        raise typer.BadParameter(message)
    target: Target = "cpu" if choice.on_cpu else "tensorrt"
    lower(
        graphs.fused.parent, cast("Lowered", engine.value), target, photos, workspace / engine.value
    )
    return graphs_of_artifact(workspace / engine.value, workspace / f"{engine.value}-alone")


def export_graphs(
    backbone: str,
    workspace: Path,
    *,
    explainer: Path | None,
    auxiliary: str | None,
    weights: str | None,
    auxiliary_weights: str | None,
    auxiliary_size: str | None,
    input_size: str | None,
    seed: int,
) -> "BenchGraphs":
    """Load a classifier and export everything that is compared."""
    from bench.graphs import graphs_of_parts

    overrides = options.preprocessing_overrides(input_size, None, None, None, None)
    classifier = loading.load_classifier(
        backbone, weights=weights, preprocessing=overrides, explainer=explainer, seed=seed
    )
    parts = loading.load_parts(
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


def check_source(model: Path | None, backbone: str | None, given: list[str]) -> None:
    """See that there is one source, and no options that are for the other."""
    if (model is None) == (backbone is None):
        message = "Give either the folder of an exported graph, or --backbone."
        raise typer.BadParameter(message)
    if model is not None and given:
        message = f"{', '.join(given)}: only with --backbone; {model} already holds its networks."
        raise typer.BadParameter(message)
