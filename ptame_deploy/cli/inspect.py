"""``ptame inspect``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console

if TYPE_CHECKING:
    from engines.plan import PlanManifest
    from ptame_deploy.artifacts import GraphManifest, TensorRecord


def inspect(
    artifact: Annotated[
        Path, typer.Argument(help="Folder of a graph or an engine.", show_default=False)
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest itself.")] = False,
) -> None:
    """Show what an artifact is: inputs, outputs, precision, hashes, parity, size, multiply-adds."""
    from engines.plan import PLAN_FILE, PLAN_MANIFEST, read_plan
    from ptame_deploy.artifacts import (
        GRAPH_MANIFEST,
        GraphManifest,
        manifest_json,
        read_manifest,
    )

    if (artifact / PLAN_FILE).exists() or (artifact / PLAN_MANIFEST).exists():
        plan = read_plan(artifact)
        assert plan is not None
        if as_json:
            console.result(manifest_json(plan).rstrip())
            return
        _show_plan(artifact, plan)
        return
    graph = read_manifest(artifact, GRAPH_MANIFEST, GraphManifest)
    if as_json:
        console.result(manifest_json(graph).rstrip())
        return
    _show_graph(artifact, graph)


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
    _show_files(manifest)


def _show_common(manifest: "GraphManifest") -> None:
    classifier, explainer = manifest.classifier, manifest.explainer
    lines = [
        ("classifier", f"{classifier.name}, {classifier.num_classes} classes"),
        ("", f"weights: {classifier.weights.source}, {classifier.weights.sha256[:12]}"),
        ("explainer", f"{explainer.auxiliary}, {explainer.state} ({explainer.start})"),
        ("photos", str(manifest.preprocessing).removeprefix("photos: ")),
        *(("input", _tensor(tensor)) for tensor in manifest.inputs),
        *(("output", _tensor(tensor)) for tensor in manifest.outputs),
        ("made", f"{manifest.provenance.created}: {manifest.provenance.command}"),
        *(("caution", caution) for caution in manifest.cautions),
    ]
    for name, text in lines:
        console.result(f"  {name:<18} {text}")


def _show_files(manifest: "GraphManifest | PlanManifest") -> None:
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
