"""``ptame export``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console, loading, options

if TYPE_CHECKING:
    from ptame_deploy.backbones import Backbone
    from ptame_deploy.parity import ParityReport


class InputKind(StrEnum):
    """The image input's type."""

    float = "float"
    uint8 = "uint8"


class MapSizeKind(StrEnum):
    """The size of the maps."""

    native = "native"
    input = "input"


class ClassesKind(StrEnum):
    """Who says which classes are explained."""

    top = "top"
    input = "input"


def export(
    *,
    backbone: options.BackboneOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the artifact.")],
    explainer: options.ExplainerOption = None,
    auxiliary: options.AuxiliaryOption = None,
    weights: options.WeightsOption = None,
    auxiliary_weights: options.AuxiliaryWeightsOption = None,
    auxiliary_size: options.AuxiliarySizeOption = None,
    superpixels: Annotated[
        bool,
        typer.Option(
            "--superpixels",
            help="Average maps over regions of like colour; explainers of --preset few do so by "
            "themselves.",
        ),
    ] = False,
    top_k: Annotated[int, typer.Option(help="Explain the K best classes.")] = 1,
    classes: Annotated[
        ClassesKind, typer.Option(help="The best classes, or those given as a second input.")
    ] = ClassesKind.top,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Explain this class, by name or index, whatever the answer; repeatable.",
        ),
    ] = None,
    input_kind: Annotated[
        InputKind,
        typer.Option("--input", help="float: (B,3,H,W) in [0,1]; uint8: (B,H,W,3)."),
    ] = InputKind.float,
    map_size: Annotated[
        MapSizeKind, typer.Option(help="Maps as fine as the features, or as large as the input.")
    ] = MapSizeKind.native,
    contrast: Annotated[
        bool,
        typer.Option(
            "--contrast",
            help="Maps say why this class and not the best other one; with --classes input, not "
            "the one given after it.",
        ),
    ] = False,
    opset: Annotated[int, typer.Option(help="ONNX opset, 18 to 23.")] = 18,
    class_names: options.ClassNamesOption = None,
    head: options.HeadOption = None,
    input_size: options.InputSizeOption = None,
    resize: options.ResizeOption = None,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    interpolation: options.InterpolationOption = None,
    seed: options.SeedOption = 0,
) -> None:
    """Export classifier and explainer as one ONNX graph, checked against PyTorch.

    Without --explainer the explainer starts as the auxiliary's class activation map, which is
    useful before any training where the classifier's classes are ImageNet's.
    """
    from ptame_deploy.errors import InvalidInputError
    from ptame_deploy.graph_options import GraphOptions
    from ptame_deploy.onnx_export import check_exportable
    from ptame_deploy.onnx_export import export as export_artifact
    from ptame_deploy.storage import check_writable

    options.refuse_plan_folder(output)
    check_writable(output)
    takes_classes = classes is ClassesKind.input
    if takes_classes and top_k != 1:
        message = "--top-k and --classes input exclude each other: the caller chooses the classes."
        raise InvalidInputError(message)
    if target and (takes_classes or top_k != 1):
        message = "--target says which classes are explained: leave out --top-k and --classes."
        raise InvalidInputError(message)
    classifier = loading.load_classifier(
        backbone,
        weights=weights,
        preprocessing=options.preprocessing_overrides(input_size, resize, mean, std, interpolation),
        class_names=class_names,
        head=head,
        explainer=explainer,
        seed=seed,
    )
    check_exportable(classifier)
    parts = loading.load_parts(
        classifier,
        explainer=explainer,
        auxiliary=auxiliary,
        auxiliary_weights=auxiliary_weights,
        auxiliary_size=auxiliary_size,
        superpixels=superpixels,
        seed=seed,
    )
    graph_options = GraphOptions(
        top_k=top_k,
        takes_classes=takes_classes,
        targets=_find_targets(parts.backbone, target or []),
        uint8_input=input_kind is InputKind.uint8,
        map_size=map_size.value,
        contrastive=contrast,
        opset=opset,
    )
    graph_options.check(parts.backbone.num_classes)
    console.info("Exporting and checking against PyTorch ...")
    manifest = export_artifact(
        parts.backbone,
        parts.auxiliary,
        parts.explainer,
        parts.record,
        output,
        options=graph_options,
        seed=seed,
        report=print_parity,
    )
    for caution in manifest.cautions:
        console.warn(caution)
    size = sum(record.bytes for record in manifest.files.values())
    console.result(
        f"Wrote {output / 'model.onnx'} ({size / 1e6:.1f} MB) and {output / 'model.json'}"
    )


def _find_targets(classifier: "Backbone", texts: list[str]) -> tuple[int, ...]:
    """Return the classes that were named, each once."""
    from ptame_deploy.classes import find_class

    record = classifier.record()
    return tuple(dict.fromkeys(find_class(record, text) for text in texts))


def print_parity(report: "ParityReport") -> None:
    """Print one line an output and batch: did it hold, and by how much."""
    for record in report.records:
        verdict = "FAILED" if record in report.failures else "ok"
        if record.output == "class_index":
            text = f"{record.difference:.0f} differ"
        else:
            text = f"largest difference {record.difference:.1e}"
        console.info(f"  batch {record.batch}  {record.output:<13} {verdict:<6} {text}")
