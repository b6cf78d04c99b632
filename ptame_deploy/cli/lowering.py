"""Lowering a graph on the way to something else, as ``ptame quantize`` would."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ptame_deploy.cli import console

if TYPE_CHECKING:
    from ptame_deploy.records import Target


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
    lowered = quantize(model, find_photos(list(photos)), output, options, say=console.info)
    assert lowered.quantisation is not None
    for line in report_lines(lowered.quantisation):
        console.info(line)
