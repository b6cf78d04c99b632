"""What ``ptame evaluate`` compares: from its options to graphs, engines and PyTorch modules."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ptame_deploy.cli import console, loading

if TYPE_CHECKING:
    from bench.graphs import BenchGraphs
    from bench.methods.registry import Source, Subject
    from bench.runtimes import RuntimeChoice
    from engines.runtime import Runtime
    from ptame_deploy.artifacts import GraphManifest
    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone
    from ptame_deploy.explainer import ExplainerNet
    from ptame_deploy.part_records import ExplainerRecord


@dataclass(frozen=True)
class Networks:
    """The options that say which networks ``--backbone`` stands for."""

    explainer: Path | None = None
    auxiliary: str | None = None
    weights: str | None = None
    auxiliary_weights: str | None = None
    auxiliary_size: str | None = None
    class_names: str | None = None
    head: str | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


def check(
    models: Sequence[Path] | None, backbone: str | None, explainer: Path | None, given: list[str]
) -> None:
    """Refuse what does not go together, before anything is loaded."""
    if not models and backbone is None:
        message = "Give --model (the folder of an exported graph), --backbone, or both."
        raise typer.BadParameter(message)
    if models and given:
        message = f"{', '.join(given)}: only without --model; the graph already holds its networks."
        raise typer.BadParameter(message)
    if backbone is None and explainer is not None:
        message = "--explainer: only with --backbone; the graph already holds its explainer."
        raise typer.BadParameter(message)


def open_subject(
    models: Sequence[Path],
    backbone: str | None,
    networks: Networks,
    choice: "RuntimeChoice",
    workspace: Path,
    *,
    batch: int,
) -> "Subject":
    """Open everything that is compared.

    Args:
        models: folders of graphs and engines; the FP32 graph may stand anywhere.
        backbone: the classifier's source, or None.
        networks: which networks it stands for.
        choice: what runs the graphs.
        workspace: of the evaluation; exported graphs stay there for the next run.
        batch: of the judge.

    Raises:
        PtameError: see the parts.
    """
    from bench.measures.judge import Judge
    from bench.methods.registry import Subject

    source: Source | None = None
    runtime: Runtime
    engines: list[Path] = []
    if models:
        graphs, engines = _open_models(models, workspace)
        if backbone is not None:
            source = _source_of(backbone, networks, graphs[0].manifest, workspace, choice)
    else:
        assert backbone is not None
        graphs, source = _export(backbone, networks, workspace, choice)
    reference = graphs[0]
    image = reference.manifest.inputs[:1]
    if choice.name == "pytorch":
        if source is None or source.explainer is None:
            message = (
                "--runtime pytorch runs the networks' source: give --backbone, and --explainer "
                "where it was trained."
            )
            raise typer.BadParameter(message)
        if reference.manifest.takes_uint8:
            message = "--runtime pytorch: give a graph that was exported with float input."
            raise typer.BadParameter(message)
        runtime = choice.open_module(source.classifier.module, image, ["logits"])
    else:
        runtime = choice.open_graph(reference.classifier, image)
    manifest = reference.manifest
    judge = Judge(
        runtime, batch=batch, takes_uint8=manifest.takes_uint8, head=manifest.classifier.head
    )
    return Subject(graphs, judge, choice, workspace, engines, source)


def _open_models(models: Sequence[Path], workspace: Path) -> "tuple[list[BenchGraphs], list[Path]]":
    from bench.graphs import check_made_of, graphs_of_artifact
    from engines.plan import holds_plan
    from ptame_deploy.artifact_files import read_manifest
    from ptame_deploy.artifacts import GRAPH_MANIFEST, GraphManifest
    from ptame_deploy.errors import InvalidInputError
    from ptame_deploy.graph_parts import refuse_contrast

    engines = [folder for folder in models if holds_plan(folder)]
    folders = [folder for folder in models if folder not in engines]
    if not folders:
        message = "--model: give the folder of the FP32 graph too; its classifier is the judge."
        raise InvalidInputError(message)
    for folder in folders:  # before anything is written
        refuse_contrast(read_manifest(folder, GRAPH_MANIFEST, GraphManifest))
    opened = [
        (folder, graphs_of_artifact(folder, workspace / "graphs" / str(number)))
        for number, folder in enumerate(folders)
    ]
    # The FP32 graph is the reference, wherever it stands in the command.
    opened.sort(key=lambda one: one[1].manifest.precision != "fp32")
    first = opened[0][1].manifest
    for folder, other in opened[1:]:
        check_made_of(other.manifest, first, str(folder))
    return [graphs for _, graphs in opened], engines


def _source_of(
    name: str,
    networks: Networks,
    manifest: "GraphManifest",
    workspace: Path,
    choice: "RuntimeChoice",
) -> "Source":
    """Load the source of a graph's networks, and see that they are the same ones."""
    from ptame_deploy.errors import ArtifactError
    from ptame_deploy.explainer import start_explainer
    from ptame_deploy.explainer_store import load_explainer
    from ptame_deploy.shipped import find_explainer
    from ptame_deploy.weights import state_sha256

    backbone = loading.load_classifier(
        name,
        weights=networks.weights,
        preprocessing=manifest.preprocessing.model_dump(),
        head=networks.head or manifest.classifier.head,
        seed=networks.seed,
    )
    manifest.classifier.check_same_weights(backbone.weights)
    record = manifest.explainer
    auxiliary = loading.auxiliary_of(record, backbone, networks.auxiliary_weights, networks.seed)
    explainer: ExplainerNet | None = None
    if networks.explainer is not None:
        folder = find_explainer(networks.explainer, backbone.name)
        explainer = load_explainer(folder, backbone, auxiliary)
    elif record.state == "initialised":
        explainer, _ = start_explainer(
            auxiliary, backbone.num_classes, backbone.class_names, seed=manifest.provenance.seed
        )
    if explainer is not None and state_sha256(explainer) != record.weights_sha256:
        message = (
            "The explainer's weights are not those in the graph. Give the --explainer that the "
            "graph was exported with, or export it again."
        )
        raise ArtifactError(message)
    return _source(backbone, auxiliary, explainer, record, workspace, choice, networks.seed)


def _source(
    backbone: "Backbone",
    auxiliary: "Auxiliary",
    explainer: "ExplainerNet | None",
    record: "ExplainerRecord",
    workspace: Path,
    choice: "RuntimeChoice",
    seed: int,
) -> "Source":
    """Put the networks together; only a trained explainer has a start besides itself."""
    from bench.methods.registry import Source
    from bench.methods.source import ClassifierSource

    start = None
    if record.state != "initialised":
        start = _start_maker(backbone, auxiliary, workspace, seed)
    device = "cpu" if choice.on_cpu else "cuda"
    return Source(ClassifierSource(backbone, device), auxiliary, explainer, start)  # type: ignore[arg-type]


def _export(
    name: str, networks: Networks, workspace: Path, choice: "RuntimeChoice"
) -> "tuple[list[BenchGraphs], Source]":
    backbone = loading.load_classifier(
        name,
        weights=networks.weights,
        preprocessing=networks.preprocessing,
        class_names=networks.class_names,
        head=networks.head,
        explainer=networks.explainer,
        seed=networks.seed,
    )
    parts = loading.load_parts(
        backbone,
        explainer=networks.explainer,
        auxiliary=networks.auxiliary,
        auxiliary_weights=networks.auxiliary_weights,
        auxiliary_size=networks.auxiliary_size,
        seed=networks.seed,
    )
    graphs = _exported(parts, workspace, networks.seed)
    source = _source(
        parts.backbone,
        parts.auxiliary,
        parts.explainer,
        parts.record,
        workspace,
        choice,
        networks.seed,
    )
    return [graphs], source


def _start_maker(backbone: "Backbone", auxiliary: "Auxiliary", workspace: Path, seed: int) -> Any:
    """Return what exports the untrained start, when it is asked for."""
    from ptame_deploy.explainer import start_explainer
    from ptame_deploy.explainer_store import record_explainer

    def make() -> "BenchGraphs":
        net, start = start_explainer(
            auxiliary, backbone.num_classes, backbone.class_names, seed=seed
        )
        record = record_explainer(net, auxiliary, state="initialised", start=start)
        return _exported(loading.Parts(backbone, auxiliary, net, record), workspace, seed)

    return make


def _exported(parts: loading.Parts, workspace: Path, seed: int) -> "BenchGraphs":
    """Export a graph that takes the classes, or take the one of an earlier run."""
    from bench.evaluation.store import fingerprint
    from bench.graphs import graphs_of_artifact
    from ptame_deploy.errors import PtameError
    from ptame_deploy.graph_options import GraphOptions
    from ptame_deploy.onnx_export import export
    from ptame_deploy.provenance import package_versions

    key = fingerprint(
        parts.backbone.record().model_dump(),
        parts.backbone.preprocessing.model_dump(),
        parts.record.model_dump(),
        package_versions(),
    )
    folder = workspace / "graphs" / f"exported-{key}"
    try:
        return graphs_of_artifact(folder, workspace / "graphs" / key)
    except PtameError:  # not there yet, or broken by a kill
        console.info("Exporting the fused graph ...")
    export(
        parts.backbone, parts.auxiliary, parts.explainer, parts.record, folder,
        options=GraphOptions(takes_classes=True), seed=seed,
    )  # fmt: skip
    return graphs_of_artifact(folder, workspace / "graphs" / key)
