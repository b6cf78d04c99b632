"""The rows of a bench: a model's networks, in a precision, on a runtime."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.graphs import BenchGraphs, Role
from bench.runtimes import RuntimeChoice
from engines.runtime import Runtime
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.drift import Answers, ask, ask_reference, compare
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.onnx_session import Graph, Outputs, open_graph
from ptame_deploy.precision.prepared_photos import read_photos
from ptame_deploy.records import DriftRecord

NAMES: dict[Role, str] = {
    "alone": "classifier alone", "fused": "fused graph", "all-class": "all-class form",
}  # fmt: skip
DRIFT_PHOTOS = 400
ALONE, FUSED, ALL_CLASS = NAMES["alone"], NAMES["fused"], NAMES["all-class"]


@dataclass(frozen=True)
class Variant:
    """One model in one precision on one runtime.

    Attributes:
        graphs: its networks.
        choice: the runtime.
        label: tells its rows from other variants'; empty for the one that a bench is about.
        drift: against the FP32 graph; None where it is that, or nobody measured.
        drift_on: what the drift was measured on, where that is not this runtime.
    """

    graphs: BenchGraphs
    choice: RuntimeChoice
    label: str = ""
    drift: DriftRecord | None = None
    drift_on: str | None = None

    @property
    def precision(self) -> str:
        """The graph's, or that of PyTorch's autocast."""
        if self.choice.name == "pytorch":
            return self.choice.torch_precision
        return self.graphs.manifest.precision

    @property
    def is_reference(self) -> bool:
        """Whether it is what every other variant is compared with: FP32 in ONNX Runtime, CPU."""
        return self.precision == "fp32" and self.choice.name == "onnxruntime" and self.choice.on_cpu

    def row(self, role: Role) -> str:
        """Name one of its rows."""
        return f"{NAMES[role]}, {self.label}" if self.label else NAMES[role]

    def open(self, role: Role, say: Callable[[str], None] = lambda _: None) -> Runtime:
        """Open one of its networks on its runtime.

        Raises:
            InvalidInputError: the runtime cannot take what there is.
            MissingRequirementError: the runtime is not there.
        """
        manifest = self.graphs.manifest
        inputs = manifest.inputs[:1] if role == "alone" else manifest.inputs
        if self.choice.name == "pytorch":
            if not self.graphs.modules:
                message = "PyTorch runs a classifier's source, not its graph: give --backbone."
                raise InvalidInputError(message)
            outputs = [tensor.name for tensor in manifest.outputs]
            names = outputs[:1] if role == "alone" else outputs
            return self.choice.open_module(self.graphs.modules[role], inputs, names)
        return self.choice.open_graph(self.path(role), inputs, say=say)

    def path(self, role: Role) -> Path:
        """Return the ONNX file of one of its networks, whatever runs it."""
        found = {
            "alone": self.graphs.classifier,
            "fused": self.graphs.fused,
            "all-class": self.graphs.all_class,
        }[role]
        assert found is not None
        return found

    def roles(self) -> list[Role]:
        """List what can be measured; the all-class form for the bench's own variant alone."""
        found: list[Role] = ["alone", "fused"]
        if self.graphs.all_class is not None and not self.label:
            found.append("all-class")
        return found


def with_measured_drift(
    variants: Sequence[Variant], judged: Sequence[Path], *, say: Callable[[str], None]
) -> list[Variant]:
    """Measure, on its own runtime, how far each variant's answers are from the FP32 graph's.

    Args:
        variants: one of them has an FP32 graph, or nothing is measured.
        judged: photos that nothing was tuned on.
        say: is told what is happening.

    Raises:
        InvalidInputError: none of the photos can be read.
        CheckFailedError: the graphs' maps cannot be compared.
    """
    reference = next((v for v in variants if v.graphs.manifest.precision == "fp32"), None)
    if reference is None:
        return list(variants)
    manifest = reference.graphs.manifest
    photos = read_photos(judged, manifest, most=DRIFT_PHOTOS)
    images, takes_classes = photos.images(slice(None), manifest), manifest.takes_classes
    head = manifest.classifier.head
    truth: Answers | None = None
    found = []
    for variant in variants:
        what = variant.label or variant.precision
        if variant.is_reference:
            found.append(variant)
            continue
        if variant.drift is not None and variant.drift_on is None:
            say(f"The drift of {what} was measured on this runtime when it was made.")
            found.append(variant)
            continue
        say(f"Comparing {what} with the FP32 graph on {len(photos)} photos ...")
        if truth is None:
            graph = open_graph(reference.path("fused"), threads=reference.choice.threads)
            truth = ask_reference(graph, images, takes_classes=takes_classes, head=head)
        asked = truth.top[:, None] if takes_classes else None
        drift = compare(truth, ask(_as_graph(variant.open("fused")), images, asked, head=head))
        found.append(replace(variant, drift=drift, drift_on=None))
    return found


def _as_graph(runtime: Runtime) -> Graph:
    def run(images: NDArray[np.generic], classes: NDArray[np.int64] | None) -> Outputs:
        return runtime.run(
            {"image": images} | ({} if classes is None else {"class_index": classes})
        )

    return run


def form_of(manifest: GraphManifest) -> str:
    """Name a graph's precision, and its form where there are two: ``int8, cpu form``."""
    record = manifest.quantisation
    form = f", {record.target} form" if record is not None and record.target else ""
    return f"{manifest.precision}{form}"


def recorded_drift(
    manifest: GraphManifest, choice: RuntimeChoice
) -> tuple[DriftRecord | None, str | None]:
    """Return the drift of a graph's own record, and where it was measured if not on the choice."""
    record = manifest.quantisation
    if record is None:
        return None, None
    here = choice.name == "onnxruntime" and choice.on_cpu
    return record.drift, None if here else "ONNX Runtime's CPU provider"


def check_variants(variants: Sequence[Variant]) -> None:
    """See that rows can be told apart and every runtime is there.

    Raises:
        InvalidInputError: two variants of one name, or options that contradict each other.
        MissingRequirementError: a runtime is not there.
    """
    labels = [variant.label for variant in variants]
    for label in labels:
        if labels.count(label) > 1:
            message = f"Two graphs would both be called {label!r} in the table: give one of them."
            raise InvalidInputError(message)
    for variant in variants:
        variant.choice.check()
