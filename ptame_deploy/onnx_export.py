"""Exporting classifier and explainer as one ONNX graph that was checked before it was kept."""

import copy
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import onnx
import torch

from ptame_deploy.artifact_files import manifest_json, record_files
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST, GraphManifest
from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import CheckFailedError, InvalidInputError
from ptame_deploy.explainer import ExplainerNet, FoldedExplainer
from ptame_deploy.fused import FusedModel, NormalisedClassifier
from ptame_deploy.graph_border import Border
from ptame_deploy.graph_file import check_graph_file, opset_of, save_graph
from ptame_deploy.graph_options import DEFAULT_OPSET, OPSETS, GraphOptions
from ptame_deploy.onnx_classifier import foreign_graphs
from ptame_deploy.onnx_session import open_graph
from ptame_deploy.parity import ParityReport, compare
from ptame_deploy.part_records import ExplainerRecord
from ptame_deploy.provenance import Provenance
from ptame_deploy.sources.import_string import PythonClassifier
from ptame_deploy.storage import staged_artifact
from ptame_deploy.tracing import trace

TRACE_BATCH = 2  # traced with 1, some graphs would be frozen to it
Module = TypeVar("Module", bound=torch.nn.Module)


def export(
    backbone: Backbone,
    auxiliary: Auxiliary,
    explainer: ExplainerNet,
    record: ExplainerRecord,
    directory: Path,
    *,
    options: GraphOptions | None = None,
    seed: int = 0,
    report: Callable[[ParityReport], None] = lambda _: None,
) -> GraphManifest:
    """Write ``model.onnx`` and ``model.json``, after the graph was checked.

    The checks: the ONNX checker, the border's names and types, and ONNX Runtime against PyTorch
    at batch 1, 2 and 5.

    Args:
        backbone: the classifier.
        auxiliary: the explainer's features.
        explainer: trained or initialised.
        record: describes the explainer in the manifest.
        directory: where the artifact goes.
        options: inputs and outputs of the graph.
        seed: of the images that parity is checked on.
        report: called with the comparison before it is judged.

    Returns:
        The manifest as written.

    Raises:
        InvalidInputError: options that do not fit, or an unwritable folder.
        CheckFailedError: the graph does not hold a check; nothing is kept.
    """
    options = options or GraphOptions()
    options.check(backbone.num_classes)
    check_exportable(backbone)
    model = fuse(backbone, auxiliary, explainer, options)
    with staged_artifact(directory, GRAPH_MANIFEST) as stage:
        path = stage / GRAPH_FILE
        graph = export_graph(model, backbone.preprocessing.input_size, path, options)
        border = Border.of_graph(graph)
        height, width = border.outputs[-1].shape[2:]
        parity = check_graph(path, model, backbone, options, seed=seed)
        report(parity)
        if parity.failures:
            worst = max(parity.failures, key=lambda r: r.difference)
            message = (
                f"The graph does not answer as PyTorch does: {worst.output} differ by "
                f"{worst.difference:.2g} at batch {worst.batch} "
                f"(tolerance {worst.tolerance:g}). Nothing was kept."
            )
            raise CheckFailedError(message)
        manifest = GraphManifest(
            files=record_files(stage),
            provenance=Provenance.here(seed=seed),
            classifier=backbone.record(),
            explainer=record,
            preprocessing=backbone.preprocessing,
            inputs=border.inputs,
            outputs=border.outputs,
            map_size=(int(height), int(width)),
            top_k=options.explained_count,
            targets=list(options.targets) or None,
            contrast=options.contrast,
            opset=opset_of(graph),
            parity=parity.records,
        )
        (stage / GRAPH_MANIFEST).write_text(manifest_json(manifest), encoding="utf-8")
    return manifest


def check_exportable(backbone: Backbone) -> None:
    """Refuse what no graph can hold, before anything is loaded for it.

    Raises:
        InvalidInputError: the classifier is a function.
    """
    if isinstance(backbone.module, PythonClassifier):
        raise InvalidInputError(backbone.module.no_graph)


def fuse(
    backbone: Backbone,
    auxiliary: Auxiliary,
    explainer: ExplainerNet,
    options: GraphOptions,
    *,
    all_classes: bool = False,
) -> FusedModel:
    """Put classifier, auxiliary and folded explainer together, on the CPU.

    Raises:
        InvalidInputError: the explainer is for other features or classes.
    """
    if explainer.num_classes != backbone.num_classes or explainer.channels != auxiliary.channels:
        message = (
            f"The explainer is for {explainer.num_classes} classes and channels "
            f"{explainer.channels}; {backbone.name} has {backbone.num_classes} classes, "
            f"{auxiliary.name} channels {auxiliary.channels}."
        )
        raise InvalidInputError(message)
    model = FusedModel(
        backbone,
        auxiliary,
        FoldedExplainer(explainer, all_classes=all_classes),
        top_k=options.top_k,
        targets=options.targets,
        uint8_input=options.uint8_input,
        map_size=options.map_size,
        contrast=options.contrast,
    )
    return on_cpu(model)


def on_cpu(module: Module) -> Module:
    """Return a module whose tensors are all on the CPU, where graphs are traced and compared.

    Networks that compute elsewhere are copied: they are shared, and stay where they are.
    """
    tensors = chain(module.parameters(), module.buffers())
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return module
    return copy.deepcopy(module).cpu()


class GraphOutputs(torch.nn.Module):
    """The fused model with exactly the inputs and outputs of the graph."""

    def __init__(self, model: FusedModel, *, takes_classes: bool) -> None:
        """Wrap a fused model; ``takes_classes``: the classes to explain are an input."""
        super().__init__()
        self.model = model
        self.takes_classes = takes_classes

    def forward(self, image: torch.Tensor, class_index: torch.Tensor | None = None) -> Any:
        """Return logits, the classes where the model chooses them, and maps."""
        logits, chosen, saliency = self.model(image, class_index)
        return (logits, saliency) if self.takes_classes else (logits, chosen, saliency)


def export_graph(
    model: FusedModel, input_size: tuple[int, int], path: Path, options: GraphOptions
) -> onnx.ModelProto:
    """Trace a fused model and write it as ONNX, with a dynamic batch.

    Args:
        model: what to export.
        input_size: height and width of the image.
        path: the file to write; weights over 2 GB go to ``<path>.data`` beside it.
        options: inputs and outputs.

    Returns:
        The graph, without the weights where they are external.

    Raises:
        CheckFailedError: the exporter fails, or ignores what was asked for.
    """
    shape = (TRACE_BATCH, *input_size, 3) if options.uint8_input else (TRACE_BATCH, 3, *input_size)
    dtype = torch.uint8 if options.uint8_input else torch.float32
    arguments: list[torch.Tensor] = [torch.zeros(shape, dtype=dtype)]
    batch = torch.export.Dim("batch", min=1)
    dynamic: list[dict[int, Any]] = [{0: batch}]
    if options.takes_classes:
        arguments.append(torch.zeros(TRACE_BATCH, 3, dtype=torch.int64))
        dynamic.append({0: batch, 1: torch.export.Dim("classes", min=1)})
    border = Border.of_contract(
        input_size=input_size,
        map_size=input_size if options.map_size == "input" else model.native_size,
        num_classes=model.num_classes,
        top_k=options.explained_count,
        uint8_input=options.uint8_input,
    )
    opset = _opset(model, options.opset)
    graph = trace(
        GraphOutputs(model, takes_classes=options.takes_classes).eval(),
        arguments,
        dynamic,
        [value.name for value in border.inputs],
        [value.name for value in border.outputs],
        opset,
    )
    border.check(graph, opset)
    save_graph(graph, path)
    return graph


def _opset(module: torch.nn.Module, asked: int) -> int:
    """Return the opset of a graph that merges what is in a module: operators are only lifted.

    Raises:
        CheckFailedError: the module holds a graph of an opset that cannot be merged.
    """
    newest = max((graph.opset for graph in foreign_graphs(module).values()), default=asked)
    if newest >= OPSETS.stop:
        message = (
            f"The classifier's graph is of opset {newest}; graphs up to {OPSETS.stop - 1} can be "
            "merged. Export it anew with an older one."
        )
        raise CheckFailedError(message)
    return max(asked, newest)


def export_classifier(backbone: Backbone, path: Path) -> None:
    """Write a classifier alone, from ``image`` (B, 3, H, W) in [0, 1] to ``logits``.

    Args:
        backbone: the classifier.
        path: the file to write; weights over 2 GB go to ``<path>.data`` beside it.

    Raises:
        CheckFailedError: the exporter fails.
    """
    size = backbone.preprocessing.input_size
    classifier = on_cpu(NormalisedClassifier(backbone).eval())
    graph = trace(
        classifier,
        [torch.zeros(TRACE_BATCH, 3, *size)],
        [{0: torch.export.Dim("batch", min=1)}],
        ["image"],
        ["logits"],
        _opset(classifier, DEFAULT_OPSET),
    )
    save_graph(graph, path)


def check_graph(
    path: Path, model: FusedModel, backbone: Backbone, options: GraphOptions, *, seed: int = 0
) -> ParityReport:
    """Run the ONNX checker, then compare ONNX Runtime with PyTorch.

    Raises:
        CheckFailedError: the ONNX checker refuses the graph, or parity would be trivial.
    """
    check_graph_file(path)
    return compare(
        open_graph(path),
        model,
        backbone.preprocessing.input_size,
        classes=min(3, backbone.num_classes) if options.takes_classes else None,
        num_classes=backbone.num_classes,
        seed=seed,
    )
