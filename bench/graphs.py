"""The graphs that are compared: the fused one, its classifier alone, and the all-class form."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.results import MapDifference
from engines.onnx_runtime import OnnxRuntime
from engines.plan import holds_plan
from engines.runtime import Arrays, Runtime
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST, GraphManifest
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.graph_parts import extract_classifier
from ptame_deploy.synthetic import synthetic_images

if TYPE_CHECKING:
    from torch import nn

    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone
    from ptame_deploy.explainer import ExplainerNet
    from ptame_deploy.part_records import ExplainerRecord

Role = Literal["alone", "fused", "all-class"]

MAP_TOLERANCE = 1e-5
HALF_PRECISION_TOLERANCE = 0.1  # of one pixel: the two forms round differently
NEEDS_SOURCE = (
    "an exported graph holds only the classes that are asked for; "
    "give --backbone, so that the all-class form can be exported too"
)


@dataclass(frozen=True)
class BenchGraphs:
    """Files of one model's graphs in one precision, and its modules where there is the source.

    Attributes:
        manifest: describes the fused graph.
        fused: classifier and explainer.
        classifier: the same classifier alone.
        all_class: computes every class's map and gives the asked ones; None where it is not there,
        all_class_reason: which then says why.
        modules: the same three in PyTorch, by role; empty without the source.
    """

    manifest: GraphManifest
    fused: Path
    classifier: Path
    all_class: Path | None = None
    all_class_reason: str | None = None
    modules: Mapping[Role, "nn.Module"] = field(default_factory=dict)


def graphs_of_artifact(directory: Path, workspace: Path) -> BenchGraphs:
    """Take an exported graph, of any precision, and cut its classifier out; needs no torch.

    Args:
        directory: what ``ptame export`` or ``ptame quantize`` wrote.
        workspace: a folder for what is made.

    Raises:
        InvalidInputError: there is no artifact.
        ArtifactError: it is corrupt.
    """
    if holds_plan(directory):
        message = (
            f"{directory} holds an engine. Give the folder of the graph that it was built from: an "
            "engine is built for each batch size, of the classifier alone as well (--runtime)."
        )
        raise InvalidInputError(message)
    manifest = read_manifest(directory, GRAPH_MANIFEST, GraphManifest)
    OnnxRuntime(directory / GRAPH_FILE).check_border(manifest)
    workspace.mkdir(parents=True, exist_ok=True)
    classifier = workspace / "classifier.onnx"
    extract_classifier(directory / GRAPH_FILE, classifier)
    return BenchGraphs(manifest, directory / GRAPH_FILE, classifier, all_class_reason=NEEDS_SOURCE)


def check_made_of(lowered: GraphManifest, source: GraphManifest, name: str) -> None:
    """See that a graph was made of another one, so that their figures may stand side by side.

    Raises:
        InvalidInputError: it was not.
    """
    record = lowered.quantisation
    if record is None or record.source_graph_sha256 != source.files[GRAPH_FILE].sha256:
        message = (
            f"{name} was not made of this graph: their figures must not stand side by side. "
            "Give what ptame quantize made of it."
        )
        raise InvalidInputError(message)


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
    from ptame_deploy.graph_options import GraphOptions
    from ptame_deploy.onnx_export import GraphOutputs, export, export_graph, fuse

    options = GraphOptions()
    export(backbone, auxiliary, explainer, record, workspace / "fused", options=options, seed=seed)
    graphs = graphs_of_artifact(workspace / "fused", workspace)
    fused = fuse(backbone, auxiliary, explainer, options)
    modules: dict[Role, nn.Module] = {
        "alone": fused.classifier,
        "fused": GraphOutputs(fused, takes_classes=False),
    }
    if all_class_reason is not None:
        return replace(graphs, all_class_reason=all_class_reason, modules=modules)
    path = workspace / "all-class.onnx"
    model = fuse(backbone, auxiliary, explainer, options, all_classes=True)
    export_graph(model, backbone.preprocessing.input_size, path, options)
    modules["all-class"] = GraphOutputs(model, takes_classes=False)
    return replace(graphs, all_class=path, all_class_reason=None, modules=modules)


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


def compare_maps(
    fused: Runtime, all_class: Runtime, inputs: Arrays, tolerance: float = MAP_TOLERANCE
) -> MapDifference:
    """Compare the maps of the fast form with those of the all-class form.

    Args:
        fused: the fused graph.
        all_class: the all-class form, with the same inputs and outputs.
        inputs: a batch of images.
        tolerance: largest difference of a pixel with which the maps count as equal.

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
        tolerance=tolerance,
        equal=same_classes and largest <= tolerance,
    )
