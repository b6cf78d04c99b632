"""One photo looked at from all sides: any class, any contrast, and other methods beside.

What the page of ``ptame app`` does, without the page.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.evaluation.collect import as_saliency
from bench.measures.judge import Judge
from bench.methods.method import Method
from bench.methods.perturbation import PerturbationSettings, rise
from engines.onnx_runtime import OnnxRuntime
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST, GraphManifest
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.graph_parts import extract_classifier, take_raw_maps
from ptame_deploy.preprocessing import to_float
from ptame_deploy.rendering import crop_seen, outline, overlay

if TYPE_CHECKING:
    from ptame_deploy.backbones import Backbone

GRAD_CAM, RISE = "Grad-CAM", "RISE"
HEIGHT = 480  # of the pictures, in pixels


@dataclass(frozen=True)
class Drawn:
    """A map over the photo.

    Attributes:
        picture: RGB.
        seconds: that the method took, classifier and drawing apart.
        passes: of the classifier.
    """

    picture: Image.Image
    seconds: float
    passes: int


@dataclass(frozen=True)
class Look:
    """A photo as the classifier sees it.

    Attributes:
        prepared: (1, H, W, 3) uint8.
        seen: for people.
        probability: (classes,).
    """

    prepared: NDArray[np.uint8]
    seen: Image.Image
    probability: NDArray[np.float32]

    def best(self, count: int) -> list[int]:
        """Return the most probable classes, best first."""
        return [int(index) for index in np.argsort(-self.probability, kind="stable")[:count]]


class Desk:
    """A fused graph taken apart, so that any class can be asked for.

    Attributes:
        manifest: describes the graph.
        rivals: names of the methods that run here besides P-TAME.
    """

    def __init__(
        self, directory: Path, workspace: Path, backbone: "Backbone | None" = None
    ) -> None:
        """Open a graph.

        Args:
            directory: holds ``model.onnx`` and ``model.json``.
            workspace: a folder for its parts.
            backbone: the classifier's source, for Grad-CAM.

        Raises:
            InvalidInputError: no artifact, one of contrasts, or a source of other weights.
            ArtifactError: it is corrupt.
        """
        self.manifest = read_manifest(directory, GRAPH_MANIFEST, GraphManifest)
        take_raw_maps(directory / GRAPH_FILE, self.manifest, workspace / "maps.onnx")
        extract_classifier(directory / GRAPH_FILE, workspace / "classifier.onnx")
        self._maps = OnnxRuntime(workspace / "maps.onnx")
        self._judge = Judge(
            OnnxRuntime(workspace / "classifier.onnx"),
            takes_uint8=self.manifest.takes_uint8,
            head=self.manifest.classifier.head,
        )
        self._grad_cam = None
        if backbone is not None:
            self._grad_cam = _grad_cam(backbone, self.manifest, self._judge)
        self.rivals = [RISE] if backbone is None else [GRAD_CAM, RISE]

    def look(self, photo: Image.Image) -> Look:
        """Prepare and classify a photo (upright, RGB)."""
        prepared = self.manifest.preprocessing.apply(photo)[None]
        (chances,) = self._judge.classify(to_float(prepared))
        return Look(prepared, crop_seen(photo, self.manifest.preprocessing, HEIGHT), chances)

    def explain(
        self, look: Look, class_index: int, against: int | None = None, percent: int = 0
    ) -> Drawn:
        """Draw P-TAME's map of a class, or of what speaks for it and not for another one."""
        asked = [class_index] if against is None else [class_index, against]
        each = self.manifest.top_k or len(asked)  # a graph of K classes is told K, no more or less
        inputs, raw = self._inputs(look.prepared), []
        began = time.perf_counter()
        for start in range(0, len(asked), each):
            part = (asked[start : start + each] * each)[:each]
            index = {"class_index": np.array([part], np.int64)}
            raw += list(np.asarray(self._maps.run(inputs | index)["raw"], np.float32)[0])
        seconds = time.perf_counter() - began
        one = raw[0] if against is None else raw[0] - raw[1]
        return Drawn(_draw(look, one, percent), seconds, -(-len(asked) // each))

    def rival(
        self, name: str, look: Look, class_index: int, masks: int = 500, percent: int = 0,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Drawn:  # fmt: skip
        """Draw another method's map of a class.

        Args:
            name: one of `rivals`.
            look: the photo.
            class_index: the class.
            masks: of RISE.
            percent: of the pixels that are outlined; 0 for none.
            advance: called with the passes that were just done.

        Raises:
            InvalidInputError: the method does not run here.
        """
        began, index = time.perf_counter(), np.array([class_index])
        if name == RISE:
            settings = PerturbationSettings(rise_masks=masks)
            image = self._inputs(look.prepared)["image"]
            (found,) = rise(self._judge, settings, seed=0)(image, index, advance=advance)
            passes = masks
        elif name == GRAD_CAM and self._grad_cam is not None:
            (found,) = self._grad_cam.explain(to_float(look.prepared), index)
            passes = self._grad_cam.passes
        else:
            message = f"{name} does not run here: give the classifier's source with --backbone."
            raise InvalidInputError(message)
        return Drawn(_draw(look, found, percent), time.perf_counter() - began, passes)

    def names(self) -> list[str]:
        """Return a name for each class."""
        classifier = self.manifest.classifier
        return classifier.class_names or [f"class {i}" for i in range(classifier.num_classes)]

    def _inputs(self, prepared: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        return {"image": prepared if self.manifest.takes_uint8 else to_float(prepared)}


def _draw(look: Look, raw: NDArray[np.float32], percent: int) -> Image.Image:
    stretched = as_saliency(raw, raw.shape)
    picture = overlay(look.seen, stretched)
    return outline(picture, stretched, percent) if percent else picture


def _grad_cam(backbone: "Backbone", manifest: GraphManifest, judge: Judge) -> Method:
    from bench.methods.cam import cam_methods
    from bench.methods.source import ClassifierSource

    manifest.classifier.check_same_weights(backbone.weights)
    for row in cam_methods(ClassifierSource(backbone), judge):
        if row.name == "grad-cam" and isinstance(row, Method):
            return row
    message = f"Grad-CAM does not run on {backbone.name}: leave --backbone away."
    raise InvalidInputError(message)
