"""Lowering a graph on the way to something else, as ``ptame quantize`` would."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from ptame_deploy.cli import console

if TYPE_CHECKING:
    from ptame_deploy.precision.options import Lowered
    from ptame_deploy.records import Precision, Target


class EngineKind(StrEnum):
    """The precision that is built or served."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def lower(
    model: Path,
    precision: Literal["fp16", "int8"],
    target: "Target",
    photos: Sequence[Path],
    output: Path,
) -> None:
    """Lower an FP32 graph with the usual options, and tell how far it drifts.

    Args:
        model: folder of the graph.
        precision: what it becomes.
        target: what will run it.
        photos: files and folders; every fourth photo is held out to judge by.
        output: folder of the new graph.

    Raises:
        PtameError: see `ptame_deploy.precision.passes.quantize`.
    """
    from ptame_deploy.cli.quantize import report_lines
    from ptame_deploy.photos import find_photos
    from ptame_deploy.precision.options import QuantizeOptions
    from ptame_deploy.precision.passes import quantize

    options = QuantizeOptions(precision=precision, target=target)
    found = find_photos(list(photos))
    lowered = quantize(
        model, found, output, options, say=console.info, progress=console.steps,
        unreadable=_warn_of_photo,
    )  # fmt: skip
    assert lowered.quantisation is not None
    for line in report_lines(lowered.quantisation):
        console.info(line)


def _warn_of_photo(reason: str) -> None:
    console.warn(f"skipped {reason}")


def graph_of_precision(
    model: Path,
    engine: EngineKind | None,
    photos: Sequence[Path],
    target: "Target",
    folder: Path,
    *,
    may_lower: bool = True,
) -> Path:
    """Return the folder of a graph in the precision that was asked for.

    Args:
        model: folder of a graph, or of an engine, which stays what it is.
        engine: the precision; None for the graph's own.
        photos: to lower an FP32 graph with; files and folders.
        target: what will run an INT8 graph.
        folder: where a lowered graph may be written.
        may_lower: whether there is time for it.

    Raises:
        InvalidInputError: another precision than can be had, or photos that nothing needs.
        PtameError: see `lower`.
    """
    from ptame_deploy.errors import InvalidInputError

    own = _precision_of(model)
    if engine is None or engine.value == own:
        if photos:
            message = f"--photos: {model} is {own} already, nothing is lowered."
            if engine is None:
                message += " Say what it becomes: --engine fp16 or int8."
            raise InvalidInputError(message)
        return model
    if own != "fp32" or engine is EngineKind.fp32 or _holds_plan(model):
        message = f"{model} is {own}: it cannot become {engine.value}."
        raise InvalidInputError(message)
    if not photos or not may_lower:
        form = f" --target {target}" if engine is EngineKind.int8 else ""
        message = (
            f"{model} is fp32. Lower it first (ptame quantize {model} PHOTOS --precision "
            f"{engine.value}{form} -o DIR) and take that, or give --photos."
        )
        raise InvalidInputError(message)
    lower(model, cast("Lowered", engine.value), target, photos, folder / engine.value)
    return folder / engine.value


def _precision_of(model: Path) -> "Precision":
    from ptame_deploy.artifact_files import read_manifest
    from ptame_deploy.artifacts import GRAPH_MANIFEST, GraphManifest

    if _holds_plan(model):
        from engines.plan import read_plan

        return read_plan(model).precision
    return read_manifest(model, GRAPH_MANIFEST, GraphManifest).precision


def _holds_plan(model: Path) -> bool:
    from engines.plan import holds_plan

    return holds_plan(model)
