"""``ptame inspect``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console
from ptame_deploy.cli.build import RuntimeKind

if TYPE_CHECKING:
    from engines.flavours import FlavourName
    from engines.plan import PlanManifest
    from engines.tensorrt.layers import Layer
    from ptame_deploy.artifacts import (
        ArtifactManifest,
        ExplainerManifest,
        GraphManifest,
        TensorRecord,
    )
    from ptame_deploy.part_records import ClassifierRecord, ExplainerRecord

_NAME_WIDTH = 100  # of a layer in the table; names of fused layers can be endless


def inspect(
    artifact: Annotated[
        Path, typer.Argument(help="Folder of a graph, engine or explainer.", show_default=False)
    ],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest itself; with --layers, the layers.")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also list an engine's layers; needs a GPU.")
    ] = False,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Take an engine without its JSON. Loading one runs code that is in it.",
        ),
    ] = False,
    runtime: Annotated[
        RuntimeKind | None,
        typer.Option(help="TensorRT that loads it; the one in its JSON by default."),
    ] = None,
) -> None:
    """Show what an artifact is: inputs, outputs, precision, hashes, parity, size, cautions."""
    from engines.plan import holds_plan
    from ptame_deploy.artifact_files import manifest_json, read_manifest
    from ptame_deploy.artifacts import (
        EXPLAINER_MANIFEST,
        GRAPH_MANIFEST,
        ExplainerManifest,
        GraphManifest,
    )
    from ptame_deploy.errors import InvalidInputError

    if (trust or runtime is not None) and not layers and not _is_bare_plan(artifact):
        message = "--trust and --runtime say how --layers loads an engine: give --layers too."
        raise InvalidInputError(message)
    if holds_plan(artifact):
        _inspect_plan(artifact, runtime, as_json=as_json, layers=layers, trust=trust)
        return
    if layers:
        message = f"{artifact} holds no engine: only that has layers of TensorRT."
        raise InvalidInputError(message)
    if (artifact / EXPLAINER_MANIFEST).is_file():
        explainer = read_manifest(artifact, EXPLAINER_MANIFEST, ExplainerManifest)
        if as_json:
            console.result(manifest_json(explainer).rstrip())
        else:
            _show_explainer(artifact, explainer)
        return
    graph = read_manifest(artifact, GRAPH_MANIFEST, GraphManifest)
    if as_json:
        console.result(manifest_json(graph).rstrip())
        return
    _show_graph(artifact, graph)


def _is_bare_plan(directory: Path) -> bool:
    """Whether there is a plan without JSON, which only --trust takes."""
    from engines.plan import PLAN_FILE, PLAN_MANIFEST

    return (directory / PLAN_FILE).exists() and not (directory / PLAN_MANIFEST).exists()


def _inspect_plan(
    directory: Path, runtime: RuntimeKind | None, *, as_json: bool, layers: bool, trust: bool
) -> None:
    from engines.plan import PLAN_MANIFEST, read_plan, read_trusted_plan
    from ptame_deploy.artifact_files import manifest_json
    from ptame_deploy.errors import InvalidInputError

    plan = read_trusted_plan(directory) if trust else read_plan(directory)
    found = _read_layers(directory, runtime, trust=trust) if layers else []
    if as_json and layers:
        import json
        from dataclasses import asdict

        console.result(json.dumps([asdict(layer) for layer in found], indent=2))
        return
    if as_json:
        if plan is None:
            message = f"{directory} has no {PLAN_MANIFEST} to print."
            raise InvalidInputError(message)
        console.result(manifest_json(plan).rstrip())
        return
    if plan is None:
        _show_unknown_plan(directory)
    else:
        _show_plan(directory, plan)
    if layers:
        _show_layers(found)
        return
    from engines.gpu import find_gpu

    need = "" if find_gpu() else ", which needs an NVIDIA GPU (here is none)"
    console.result(f"  layers             shown by --layers{need}")


def _read_layers(directory: Path, runtime: RuntimeKind | None, *, trust: bool) -> "list[Layer]":
    from engines.tensorrt.layers import read_layers
    from engines.tensorrt.open_plan import open_plan

    flavours: dict[RuntimeKind, FlavourName] = {
        RuntimeKind.tensorrt: "tensorrt",
        RuntimeKind.tensorrt_rtx: "tensorrt-rtx",
    }
    flavour = None if runtime is None else flavours[runtime]
    _, engine = open_plan(directory, trust=trust, flavour=flavour)
    return read_layers(engine.loaded)


def _show_layers(layers: "list[Layer]") -> None:
    from collections import Counter

    from rich.table import Table
    from rich.text import Text

    counts = Counter(precision for layer in layers for precision in layer.precisions)
    listed = ", ".join(f"{count} {precision}" for precision, count in counts.most_common())
    console.result(f"  layers             {len(layers)}; outputs: {listed or 'not told'}")
    table = Table("layer", "type", "outputs")
    for layer in layers:
        name = layer.name
        if len(name) > _NAME_WIDTH:
            name = f"{name[: _NAME_WIDTH - 4]} ..."
        table.add_row(Text(name), layer.kind, ", ".join(layer.precisions))
    console.table(table)


def _show_unknown_plan(directory: Path) -> None:
    from engines.plan import PLAN_FILE
    from ptame_deploy.storage import sha256_of_file

    path = directory / PLAN_FILE
    console.result(f"{directory}: engine of which nothing is known")
    size = path.stat().st_size / 1e6
    console.result(f"  {PLAN_FILE:<18} {size:.1f} MB, sha256 {sha256_of_file(path)}")


def _show_graph(directory: Path, manifest: "GraphManifest") -> None:
    console.result(f"{directory}: fused graph, {manifest.precision}, opset {manifest.opset}")
    _show_common(manifest)
    _show_files(manifest)
    _show_operators(directory)
    worst = max(manifest.parity, key=lambda record: record.difference, default=None)
    if worst is not None:
        console.result(
            f"  parity with PyTorch (FP32): {len(manifest.parity)} comparisons, largest "
            f"{worst.difference:.1e} ({worst.output}, {worst.measure}, batch {worst.batch})"
        )
    if manifest.quantisation is not None:
        from ptame_deploy.cli.quantize import report_lines

        for line in report_lines(manifest.quantisation):
            console.result(f"  {line}")


def _show_explainer(directory: Path, manifest: "ExplainerManifest") -> None:
    explainer = manifest.explainer
    console.result(f"{directory}: explainer, to be fused by ptame export --explainer {directory}")
    lines = [
        *_parts_lines(manifest.classifier, explainer),
        ("photos", str(manifest.preprocessing).removeprefix("photos: ")),
        *_agreement_lines(explainer),
        ("made", _made(manifest)),
        *(("caution", caution) for caution in manifest.cautions),
    ]
    for name, text in lines:
        console.result(f"  {name:<18} {text}")
    _show_files(manifest)


def _agreement_lines(explainer: "ExplainerRecord") -> list[tuple[str, str]]:
    """Say what photos told that the judged explainer had not seen."""
    measured = (
        ("gain", "better than its start by", explainer.gain),
        ("answers' maps", "agree with the classifier by", explainer.own_answers),
        ("other maps", "agree with the classifier by", explainer.other_classes),
    )
    return [
        (name, f"{told} {found.mean:.3g} ({found.low:.3g} to {found.high:.3g})")
        for name, told, found in measured
        if found is not None
    ]


def _show_plan(directory: Path, manifest: "PlanManifest") -> None:
    profile = manifest.profile
    console.result(
        f"{directory}: engine, {manifest.precision}, {manifest.flavour} {manifest.flavour_version}"
    )
    _show_common(manifest.graph)
    console.result(
        f"  batch              {profile.min_batch} to {profile.max_batch}, tuned for "
        f"{profile.opt_batch}"
    )
    console.result(f"  runs on            {', '.join(manifest.compute_capabilities)}")
    console.result(f"  built on           {manifest.gpu or 'no GPU'}")
    console.result(f"  built by           {_made(manifest)}")
    _show_files(manifest)


def _made(manifest: "GraphManifest | ExplainerManifest | PlanManifest") -> str:
    return f"{manifest.provenance.created}: {manifest.provenance.command}"


def _show_common(manifest: "GraphManifest") -> None:
    lines = [
        *_parts_lines(manifest.classifier, manifest.explainer),
        ("explains", manifest.explained),
        ("photos", str(manifest.preprocessing).removeprefix("photos: ")),
        *(("input", _tensor(tensor)) for tensor in manifest.inputs),
        *(("output", _tensor(tensor)) for tensor in manifest.outputs),
        ("made", _made(manifest)),
        *(("caution", caution) for caution in manifest.cautions),
    ]
    for name, text in lines:
        console.result(f"  {name:<18} {text}")


def _parts_lines(
    classifier: "ClassifierRecord", explainer: "ExplainerRecord"
) -> list[tuple[str, str]]:
    """Say what an artifact was put together of."""
    pooled = "" if explainer.superpixels is None else ", with superpixels"
    return [
        ("classifier", f"{classifier.name}, {classifier.num_classes} classes, {classifier.head}"),
        ("", f"weights: {classifier.weights.source}, {classifier.weights.sha256[:12]}"),
        ("explainer", f"{explainer.auxiliary}, {explainer.state} ({explainer.start}){pooled}"),
    ]


def _show_files(manifest: "ArtifactManifest") -> None:
    for name, record in manifest.files.items():
        console.result(f"  {name:<18} {record.bytes / 1e6:.1f} MB, sha256 {record.sha256}")


def _show_operators(directory: Path) -> None:
    """Say what the graph computes with; needs the package onnx, which production may lack."""
    try:
        from ptame_deploy.graph_summary import summarise
    except ModuleNotFoundError as error:
        console.result(f"  operators          not read: pip install {error.name}")
        return
    for line in summarise(directory / "model.onnx"):
        console.result(f"  {line}")


def _tensor(tensor: "TensorRecord") -> str:
    return f"{tensor.name}: {tensor.dtype} ({', '.join(map(str, tensor.shape))})"
