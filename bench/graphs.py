"""The graphs that are compared: the fused one, its classifier alone, and the all-class form."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.results import MapDifference
from engines.onnx_runtime import OnnxRuntime
from engines.runtime import Arrays, Runtime
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST, GraphManifest, read_manifest
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.synthetic import synthetic_images

if TYPE_CHECKING:
    from ptame_deploy.artifacts import ExplainerRecord
    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone
    from ptame_deploy.explainer import ExplainerNet

MAP_TOLERANCE = 1e-5
NEEDS_SOURCE = (
    "an exported graph holds only the classes that are asked for; "
    "give --backbone, so that the all-class form can be exported too"
)


@dataclass(frozen=True)
class LoweredGraph:
    """The fused graph in another precision.

    Attributes:
        name: of its row.
        path: the file.
        manifest: describes it; `quantisation` says how far it drifts.
    """

    name: str
    path: Path
    manifest: GraphManifest


@dataclass(frozen=True)
class BenchGraphs:
    """Files of one model's graphs.

    Attributes:
        manifest: describes the fused graph.
        fused: classifier and explainer.
        classifier: the same classifier alone.
        all_class: computes every class's map and gives the asked ones; None where it is not there,
        all_class_reason: which then says why.
        lowered: the same graph in other precisions.
    """

    manifest: GraphManifest
    fused: Path
    classifier: Path
    all_class: Path | None = None
    all_class_reason: str | None = None
    lowered: tuple[LoweredGraph, ...] = ()


def graphs_of_artifact(
    directory: Path, workspace: Path, lowered: Sequence[Path] = ()
) -> BenchGraphs:
    """Take an exported graph and cut its classifier out; needs no torch.

    Args:
        directory: what ``ptame export`` wrote.
        workspace: an empty folder for what is made.
        lowered: what ``ptame quantize`` made of it.

    Raises:
        InvalidInputError: there is no artifact, or a lowered one was made of another graph.
        ArtifactError: it is corrupt.
    """
    manifest = read_manifest(directory, GRAPH_MANIFEST, GraphManifest)
    OnnxRuntime(directory / GRAPH_FILE).check_border(manifest)
    classifier = workspace / "classifier.onnx"
    extract_classifier(directory / GRAPH_FILE, classifier)
    return BenchGraphs(
        manifest,
        directory / GRAPH_FILE,
        classifier,
        all_class_reason=NEEDS_SOURCE,
        lowered=tuple(_lowered(folder, manifest) for folder in lowered),
    )


def _lowered(directory: Path, source: GraphManifest) -> LoweredGraph:
    manifest = read_manifest(directory, GRAPH_MANIFEST, GraphManifest)
    record = manifest.quantisation
    if record is None or record.source_graph_sha256 != source.files[GRAPH_FILE].sha256:
        message = (
            f"{directory} was not made of this graph: their figures must not stand side by side. "
            "Give what ptame quantize made of it."
        )
        raise InvalidInputError(message)
    OnnxRuntime(directory / GRAPH_FILE).check_border(manifest)
    form = f", {record.target} form" if record.target else ""
    return LoweredGraph(
        f"fused graph, {manifest.precision}{form}", directory / GRAPH_FILE, manifest
    )


def graphs_of_parts(
    backbone: "Backbone",
    auxiliary: "Auxiliary",
    explainer: "ExplainerNet",
    record: "ExplainerRecord",
    workspace: Path,
    *,
    seed: int = 0,
    all_class_reason: str | None = None,
) -> BenchGraphs:
    """Export everything from PyTorch: the fused graph, its classifier and the all-class form.

    Skip and BatchNorm are folded into the convolutions in both forms, so that they differ in one
    thing alone: whether the maps of classes that nobody asked for are computed.

    Args:
        backbone: the classifier.
        auxiliary: the explainer's features.
        explainer: trained or initialised.
        record: describes the explainer.
        workspace: an empty folder for what is made.
        seed: of the images that parity is checked on.
        all_class_reason: why the all-class form is left out; None to export it.

    Raises:
        CheckFailedError: the fused graph does not hold parity with PyTorch.
    """
    from ptame_deploy.onnx_export import GraphOptions, export, export_graph, fuse

    options = GraphOptions()
    export(backbone, auxiliary, explainer, record, workspace / "fused", options=options, seed=seed)
    graphs = graphs_of_artifact(workspace / "fused", workspace)
    if all_class_reason is not None:
        return replace(graphs, all_class_reason=all_class_reason)
    path = workspace / "all-class.onnx"
    model = fuse(backbone, auxiliary, explainer, options, all_classes=True)
    export_graph(model, backbone.preprocessing.input_size, path, options)
    return replace(graphs, all_class=path, all_class_reason=None)


def extract_classifier(fused: Path, path: Path) -> None:
    """Write the part of a fused graph that leads from ``image`` to ``logits``.

    Args:
        fused: the fused graph; its external weights lie beside it.
        path: the file to write; weights that were external go to ``<path>.data``.
    """
    import onnx
    from onnx.utils import Extractor

    # Weights that lie outside come in last: the extractor cannot handle 2 GB.
    model = onnx.load(fused, load_external_data=False)
    external = any(
        weight.data_location == onnx.TensorProto.EXTERNAL for weight in model.graph.initializer
    )
    for node in model.graph.node:
        # The exporter may ask either input for the batch size, even where only logits need it.
        if node.op_type == "Shape" and node.input[0] == "class_index":
            node.input[0] = "image"
    classifier = Extractor(model).extract_model(["image"], ["logits"])
    if external:
        onnx.load_external_data_for_model(classifier, str(fused.parent))
    onnx.save(classifier, path, save_as_external_data=external, location=f"{path.name}.data")


def make_inputs(manifest: GraphManifest, batch: int, *, seed: int = 0) -> Arrays:
    """Make what a fused graph takes: images with structure at several scales, seeded.

    Args:
        manifest: describes the graph.
        batch: number of images.
        seed: the same images for the same seed, whatever the batch.

    Returns:
        ``image`` and, where the graph takes classes, ``class_index``: one for each image.
    """
    height, width = manifest.preprocessing.input_size
    images = synthetic_images(batch, height, width, uint8=manifest.takes_uint8, seed=seed)
    inputs: Arrays = {"image": images}
    if manifest.takes_classes:
        generator = np.random.default_rng(seed)
        shape = (batch, 1)
        inputs["class_index"] = generator.integers(0, manifest.classifier.num_classes, shape)
    return inputs


def compare_maps(fused: Runtime, all_class: Runtime, inputs: Arrays) -> MapDifference:
    """Compare the maps of the fast form with those of the all-class form.

    Args:
        fused: the fused graph.
        all_class: the all-class form, with the same inputs and outputs.
        inputs: a batch of images.

    Returns:
        The difference over all images. Graphs that explain different classes are not equal,
        however close the maps.
    """
    fast, reference = fused.run(inputs), all_class.run(inputs)
    difference = np.abs(fast["saliency"] - reference["saliency"])
    largest = float(difference.max())
    same_classes = "class_index" in inputs or bool(
        np.array_equal(fast["class_index"], reference["class_index"])
    )
    return MapDifference(
        images=len(inputs["image"]),
        max_abs_difference=largest,
        mean_abs_difference=float(difference.mean()),
        tolerance=MAP_TOLERANCE,
        equal=same_classes and largest <= MAP_TOLERANCE,
    )
