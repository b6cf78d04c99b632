"""P-TAME as a method: fused graphs of any precision on any runtime, engines, and its source."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.graphs import BenchGraphs
from bench.measures.judge import as_uint8
from bench.methods.cost import Cost
from bench.methods.method import Cascade, Classes, Explain, Images, Maps, Method
from bench.runtimes import RuntimeChoice
from bench.variants import form_of
from engines.explainer import Explainer
from engines.runtime import Runtime
from ptame_deploy.artifacts import GRAPH_FILE, GraphManifest, TensorRecord
from ptame_deploy.graph_parts import choose_classes

if TYPE_CHECKING:
    from bench.methods.source import ClassifierSource
    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.explainer import ExplainerNet

REFERENCE = "p-tame"
START = "p-tame-start"
START_LABEL = "P-TAME, untrained start"
SOURCE, SOURCE_LABEL = "p-tame-pytorch", "P-TAME in PyTorch"


def graph_methods(
    graphs: Sequence[BenchGraphs], choice: RuntimeChoice, workspace: Path
) -> list[Method]:
    """Make a method of each fused graph; the first one is what all others are compared with.

    Args:
        graphs: of one model, in several precisions.
        choice: what runs them.
        workspace: an empty folder for graphs whose class can be chosen.

    Raises:
        MissingRequirementError: the runtime is not there.
        ArtifactError: a graph cannot be loaded.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    methods = []
    for number, one in enumerate(graphs):
        path = choose_classes(one.fused, one.manifest, workspace / f"chosen-{number}.onnx")
        name, label = _named(one.manifest, is_reference=number == 0)
        methods.append(graph_method(name, label, path, one.manifest, choice))
    return methods


def graph_method(
    name: str, label: str, graph: Path, manifest: GraphManifest, choice: RuntimeChoice
) -> Method:
    """Make a method of a fused graph that takes the classes.

    Args:
        name: of the method.
        label: in tables.
        graph: takes ``image`` and ``class_index``, whatever its manifest says.
        manifest: of the graph that it was made of.
        choice: what runs it.
    """
    inputs = [*manifest.inputs[:1], _class_record(manifest)]
    runtime = choice.open_graph(graph, inputs)
    return Method(
        name=name,
        label=label,
        family="p-tame",
        explain=_explain(runtime, manifest),
        cost=Cost(forward=1),
        runtime=runtime.description,
        precision=manifest.precision,
        settings=_told(manifest),
        identity=_identity(manifest),
        cautions=tuple(manifest.cautions),
    )


def engine_method(name: str, label: str, directory: Path) -> Method:
    """Make a method of a TensorRT engine; one that chooses its class itself says which.

    Args:
        name: of the method.
        label: in tables.
        directory: the engine's.

    Raises:
        ArtifactError: it is corrupt, or for another TensorRT or GPU.
        MissingRequirementError: TensorRT or a GPU is not there.
    """
    explainer = Explainer.load(directory)
    manifest = explainer.manifest

    def run(images: Images, asked: Classes) -> tuple[Maps, Classes]:
        given = asked[:, None] if manifest.takes_classes else None
        maps, classes = [], []
        for start in range(0, len(images), explainer.batch_size):
            part = slice(start, start + explainer.batch_size)
            found = explainer.explain_prepared(
                as_uint8(images[part]), None if given is None else given[part]
            )
            hits = found.class_index == asked[part, None]
            rank = hits.argmax(axis=1)  # the first one where the class is not among them
            rows = np.arange(len(rank))
            maps.append(found.saliency[rows, rank])
            classes.append(found.class_index[rows, rank])
        return np.concatenate(maps), np.concatenate(classes)

    assert explainer.plan is not None
    return Method(
        name=name,
        label=label,
        family="p-tame",
        explain=lambda images, index: run(images, index)[0],
        cost=Cost(forward=1),
        runtime=explainer.runtime.description,
        precision=manifest.precision,
        settings=_told(manifest),
        identity=_identity(manifest),
        own_classes=None if manifest.takes_classes else lambda i, index: run(i, index)[1],
        cautions=tuple(manifest.cautions),
    )


def source_method(
    name: str,
    label: str,
    source: "ClassifierSource",
    auxiliary: "Auxiliary",
    explainer: "ExplainerNet",
    manifest: GraphManifest,
) -> Method:
    """Make a method of P-TAME's own source in PyTorch, whose layers can be randomised.

    Args:
        name: of the method.
        label: in tables.
        source: the classifier.
        auxiliary: gives the features.
        explainer: as in the fused graph.
        manifest: of that graph.
    """
    import torch
    from torch import nn

    from ptame_deploy.explainer import FoldedExplainer
    from ptame_deploy.fused import FusedModel

    fused = FusedModel(source.backbone, auxiliary, FoldedExplainer(explainer)).to(source.device)

    def explain_with(module: nn.Module) -> Explain:
        def attribute(images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                saliency: torch.Tensor = module(images, index[:, None])[2]
            return saliency[:, 0]

        return lambda images, index: source.explain(attribute, images, index)

    def with_classifier(classifier: nn.Module) -> Explain:
        model = FusedModel(source.backbone, auxiliary, FoldedExplainer(explainer))
        model.classifier = classifier  # type: ignore[assignment]
        return explain_with(model.to(source.device))

    def with_own(networks: nn.Module) -> Explain:
        model = FusedModel(source.backbone, *networks.children()).to(source.device)  # type: ignore[arg-type]
        return explain_with(model)

    own = nn.ModuleList([fused.auxiliary, fused.explainer])
    return Method(
        name=name,
        label=label,
        family="p-tame",
        explain=explain_with(fused),
        cost=Cost(forward=1),
        runtime=source.runtime,
        settings=_told(manifest),
        identity=f"{manifest.explainer.weights_sha256} {source.identity}",
        classifier_cascade=Cascade(source.module, with_classifier),
        own_cascade=Cascade(own, with_own),
        cautions=tuple(manifest.cautions),
    )


def _explain(runtime: Runtime, manifest: GraphManifest) -> Explain:
    count = manifest.top_k or 1

    def explain(images: Images, class_index: Classes) -> Maps:
        asked = np.repeat(np.asarray(class_index, np.int64)[:, None], count, axis=1)
        given = as_uint8(images) if manifest.takes_uint8 else np.ascontiguousarray(images)
        found = runtime.run({"image": given, "class_index": asked})
        return np.asarray(found["saliency"][:, 0], np.float32)

    return explain


def _class_record(manifest: GraphManifest) -> TensorRecord:
    count = "classes" if manifest.top_k is None else manifest.top_k
    return TensorRecord(name="class_index", dtype="int64", shape=["batch", count])


def reference_label(manifest: GraphManifest) -> str:
    """Name the reference in tables; an untrained one says so."""
    return START_LABEL if manifest.explainer.state == "initialised" else "P-TAME"


def _named(manifest: GraphManifest, *, is_reference: bool) -> tuple[str, str]:
    if is_reference:
        return REFERENCE, reference_label(manifest)
    form = form_of(manifest)  # "int8, cpu form"
    name = "-".join(form.replace(",", "").removesuffix(" form").split())
    return f"{REFERENCE}-{name}", f"P-TAME {form.replace('fp', 'FP').replace('int', 'INT')}"


def _told(manifest: GraphManifest) -> dict[str, float | int | str]:
    explainer = manifest.explainer
    told: dict[str, float | int | str] = {
        "auxiliary": explainer.auxiliary_label,
        "explainer": explainer.state,
    }
    if explainer.superpixels is not None:
        told["superpixels"] = explainer.superpixels.model_dump_json()
    return told


def _identity(manifest: GraphManifest) -> str:
    """Return what makes the maps: the networks' weights, and the graph where it was lowered."""
    explainer = manifest.explainer
    parts = [explainer.weights_sha256, explainer.auxiliary_weights.sha256]
    if manifest.quantisation is not None:
        parts.append(manifest.files[GRAPH_FILE].sha256)
    return " ".join(parts)
