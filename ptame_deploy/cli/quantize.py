"""``ptame quantize``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console, options

if TYPE_CHECKING:
    from ptame_deploy.records import DropIncreaseRecord, PrecisionRecord, Tolerance

_SHOWN_BLOCKS = 10


class PrecisionKind(StrEnum):
    """What the graph is lowered to."""

    fp16 = "fp16"
    int8 = "int8"


class TargetKind(StrEnum):
    """What will run an INT8 graph."""

    cpu = "cpu"
    tensorrt = "tensorrt"


class MethodKind(StrEnum):
    """How ranges of activations are found."""

    minmax = "minmax"
    percentile = "percentile"
    entropy = "entropy"
    sweep = "sweep"


def quantize(
    model: Annotated[
        Path, typer.Argument(help="Folder of an exported FP32 graph.", show_default=False)
    ],
    photos: Annotated[
        list[Path],
        typer.Argument(
            help="Photos and folders to judge by; every fourth, unless --calibration gives others "
            "to tune on.",
            show_default=False,
        ),
    ],
    *,
    precision: Annotated[
        PrecisionKind, typer.Option("--precision", "-p", help="fp16 or int8.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new artifact.")],
    target: Annotated[
        TargetKind,
        typer.Option(help="What runs an INT8 graph: its form differs, and with it the speed."),
    ] = TargetKind.cpu,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(help="Photos or a folder to calibrate and search on; may be repeated."),
    ] = None,
    method: Annotated[
        MethodKind, typer.Option(help="Of calibration (INT8); sweep tries all, keeps the best.")
    ] = MethodKind.percentile,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="A block that stays in FP32, as --sensitivity names it; repeatable."),
    ] = None,
    max_kept: Annotated[
        int, typer.Option(min=0, help="Blocks the search may leave in FP32; 0 for no search.")
    ] = 8,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Measure what every block costs, in any case.")
    ] = False,
    calibration_photos: Annotated[
        int, typer.Option(min=1, help="To calibrate on, at most; as many others to search on.")
    ] = 128,
    report_photos: Annotated[int, typer.Option(min=1, help="Photos to judge by, at most.")] = 400,
    min_agreement: Annotated[
        float | None, typer.Option(min=0, max=1, help="Top-1 agreement to hold (0.998; INT8 0.97).")
    ] = None,
    max_map_difference: Annotated[
        float | None, typer.Option(min=0, help="Mean map difference to hold (FP16: 0.02).")
    ] = None,
    min_pearson: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Pearson of maps to hold (INT8: 0.98).")
    ] = None,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="Keep the graph also where it drifts too far.")
    ] = False,
    cache: Annotated[
        bool, typer.Option(help="Keep calibrations, by graph, photos, method and tools.")
    ] = True,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 for one a core.")] = 0,
) -> None:
    """Lower a graph's precision, and prove on real photos that it still says the same.

    Out of tolerance is exit 1 and nothing is written, unless --allow-drift. Photos that cannot be
    read are named and left out, and the exit code is 2.
    """
    from ptame_deploy.errors import InvalidInputError
    from ptame_deploy.photos import find_photos
    from ptame_deploy.precision.calibration import CACHE
    from ptame_deploy.precision.options import QuantizeOptions
    from ptame_deploy.precision.passes import quantize as quantize_artifact
    from ptame_deploy.storage import cache_folder, check_writable

    options.refuse_plan_folder(output)
    if output.resolve() == model.resolve():
        message = f"-o {output} is the graph itself, which would be lost: choose another folder."
        raise InvalidInputError(message)
    check_writable(output)
    skipped: list[str] = []
    manifest = quantize_artifact(
        model,
        find_photos(photos),
        output,
        QuantizeOptions(
            precision=precision.value,
            target=target.value,
            method=method.value,
            keep=keep or (),
            most_kept=max_kept,
            sensitivity=sensitivity,
            calibration_photos=calibration_photos,
            report_photos=report_photos,
            tolerance=_tolerance(precision, min_agreement, max_map_difference, min_pearson),
            allow_drift=allow_drift,
            threads=threads,
            cache=cache_folder(CACHE) if cache else None,
        ),
        calibration_photos=None if calibration is None else find_photos(calibration),
        say=console.info,
        progress=console.steps,
        unreadable=skipped.append,
    )
    record = manifest.quantisation
    assert record is not None
    for line in report_lines(record):
        console.result(line)
    for caution in manifest.cautions:
        console.warn(caution)
    size = sum(file.bytes for file in manifest.files.values())
    console.result(f"Wrote {output / 'model.onnx'} ({size / 1e6:.1f} MB, {precision.value})")
    if skipped:
        message = f"Photos that were skipped ({len(skipped)}):\n{console.bullet_list(skipped)}"
        raise InvalidInputError(message)


def report_lines(record: "PrecisionRecord") -> list[str]:
    """Say how far a graph drifts from FP32, and what its maps are worth beside FP32's."""
    drift = record.drift
    probability = (
        f"differs by {drift.probability_mean:.4f} on average (top class), "
        f"{drift.probability_max:.3f} at most (any class)"
    )
    maps = (
        f"{drift.maps} compared: differ by {drift.map_mean:.4f} on average, "
        f"Pearson {drift.pearson:.4f} (lowest {drift.pearson_min:.3f}), "
        f"Spearman {drift.spearman:.4f}"
    )
    kept = f": {', '.join(record.kept_blocks)}" if record.kept_blocks else ""
    lines = [
        f"Against FP32, on {drift.photos} photos:",
        f"  top-1 agreement  {drift.top1_agreement:.2%}",
        f"  probability      {probability}",
        f"  maps             {maps}",
        *(_faithfulness_line(row) for row in record.faithfulness),
        f"  {record.lowered_nodes} layers lowered, {record.kept_nodes} left in FP32{kept}",
    ]
    if record.sensitivity:
        lines.append("Error saved by leaving a block in FP32 (probability + map), the most first:")
        lines += [
            f"  {row.gain:+.4f}  {row.block} ({row.nodes} layers)"
            for row in record.sensitivity[:_SHOWN_BLOCKS]
        ]
    return lines


def _faithfulness_line(row: "DropIncreaseRecord") -> str:
    return (
        f"  AD / IC at {row.percent:>3} %, {row.form:<16} "
        f"FP32 {row.reference_drop:5.1f} / {row.reference_increase:5.1f}   "
        f"this {row.drop:5.1f} / {row.increase:5.1f}   ({row.photos} photos)"
    )


def _tolerance(
    precision: PrecisionKind,
    agreement: float | None,
    map_difference: float | None,
    pearson: float | None,
) -> "Tolerance":
    from ptame_deploy.precision.options import TOLERANCES

    given = {"top1_agreement": agreement, "map_mean": map_difference, "pearson": pearson}
    return TOLERANCES[precision.value].model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
