"""The JSON beside every artifact: what it is, what it was made from, and how well it held.

A manifest names the artifact's files with their hashes, so that a file that was cut short, changed
or mixed up with another is found before it is used.
"""

import json
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from ptame_deploy.bootstrap import Interval, excludes_zero
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.heads import Head
from ptame_deploy.photos import printable
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.records import Precision, PrecisionRecord, Record
from ptame_deploy.storage import finish_pending, sha256_of_file

SCHEMA_VERSION = 1
GRAPH_FILE, GRAPH_MANIFEST = "model.onnx", "model.json"
EXPLAINER_FILE, EXPLAINER_MANIFEST = "explainer.safetensors", "explainer.json"

OWN_AUXILIARY = "self"  # the explained classifier's own features
State = Literal["initialised", "trained"]
Start = Literal["activation-map", "fit", "random", "imported"]
Preset = Literal["few", "paper"]
# What a class is held against: the best other class, or the one that was given after it.
Contrast = Literal["best", "given"]
# Of an explainer's file: all its weights, or what training changed of an activation map.
Form = Literal["weights", "shared-terms"]
# Under so many steps a trained explainer is hardly another than its start (the paper: 40,000).
FEW_STEPS = 100
MAX_NAME_LENGTH = 500
_TRACED_PACKAGES = (
    "ptame-deploy", "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime",
    "onnxruntime-gpu", "numpy", "pillow", "lightning",
)  # fmt: skip


def auxiliary_label(name: str, input_sizes: Sequence[int]) -> str:
    """Describe an auxiliary for readers: ``resnet18 at 224 + 448 pixels``."""
    if name == OWN_AUXILIARY:
        return "the classifier's own features"
    return f"{name} at {' + '.join(map(str, input_sizes))} pixels"


class FileRecord(Record):
    """One file of an artifact."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Provenance(Record):
    """When, with what and by which command an artifact was made."""

    created: str
    command: str
    seed: int
    versions: dict[str, str]

    @classmethod
    def here(cls, *, seed: int) -> "Provenance":
        """Describe the running process."""
        return cls(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=" ".join(map(printable, [Path(sys.argv[0]).name, *sys.argv[1:]])),
            seed=seed,
            versions=package_versions(),
        )


class WeightsRecord(Record):
    """Where weights came from; the hash covers names, shapes and values, not the file format."""

    source: str
    sha256: str
    random: bool = False


def is_class_name(name: str) -> bool:
    """Whether text can be a class name: not endless, without the half characters JSON can hold."""
    return len(name) <= MAX_NAME_LENGTH and not any("\ud800" <= sign <= "\udfff" for sign in name)


class ClassifierRecord(Record):
    """The explained classifier."""

    name: str
    num_classes: int = Field(ge=1)
    class_names: list[str] | None = None
    weights: WeightsRecord
    head: Head = "softmax"
    # Fields of the preprocessing that neither its source nor the user said: ImageNet's habits.
    assumed: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_names(self) -> "ClassifierRecord":
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            message = f"{len(self.class_names)} class names for {self.num_classes} classes"
            raise ValueError(message)
        for name in self.class_names or []:
            if not is_class_name(name):
                message = f"class name {name[:50]!r} is not text, or over {MAX_NAME_LENGTH} long"
                raise ValueError(message)
        return self


class SuperpixelRecord(Record):
    """How maps are averaged over regions of their photo; see `ptame_deploy.superpixels`.

    Attributes:
        grid: seeds on each axis.
        compactness: difference of colour (Lab) that weighs as much as one cell of the grid.
        softness: of the borders between regions, relative to ``compactness`` squared.
        iterations: of k-means.
        kept: share of the map as it was that is added to its averages.
        detail: pixels of the averaged map, on each axis, for one pixel of the map as it was.
    """

    grid: int = Field(default=6, ge=2, le=32)
    compactness: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    softness: float = Field(default=0.3, gt=0, allow_inf_nan=False)
    iterations: int = Field(default=3, ge=1, le=20)
    kept: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    detail: int = Field(default=2, ge=1, le=8)


class ExplainerRecord(Record):
    """The explainer inside a fused graph."""

    auxiliary: str
    auxiliary_input_sizes: list[int]
    auxiliary_weights: WeightsRecord
    state: State
    start: Start
    training_preset: Preset | None = None
    training_steps: int | None = None  # of the preset 'paper'
    training_photos: int | None = None
    weights_sha256: str
    superpixels: SuperpixelRecord | None = None
    # Of photos left out: how the map of the class next to the answer predicts that class's scores
    # of masked copies (mean cosine). None where it was not measured.
    other_classes: Interval | None = None

    @property
    def auxiliary_label(self) -> str:
        """The auxiliary and its input sizes, for readers."""
        return auxiliary_label(self.auxiliary, self.auxiliary_input_sizes)


class TensorRecord(Record):
    """A graph's input or output; names in the shape are dynamic dimensions."""

    name: str
    dtype: str
    shape: list[int | str]


class ParityRecord(Record):
    """The largest difference between ONNX Runtime and PyTorch, by output and batch size.

    ``measure`` says what the difference is: ``absolute``, ``relative`` to the largest value, or
    the ``count`` of values that differ.
    """

    output: str
    batch: int
    measure: Literal["absolute", "relative", "count"]
    difference: float
    tolerance: float


class ArtifactManifest(Record):
    """What every artifact's JSON has: its files with their hashes."""

    main_file: ClassVar[str]  # without which there is no artifact
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _check_main_file(self) -> Self:
        if self.main_file not in self.files:
            message = f"files must name {self.main_file}: without its hash it cannot be checked"
            raise ValueError(message)
        return self


class GraphManifest(ArtifactManifest):
    """``model.json``: a fused graph of classifier and explainer."""

    main_file = GRAPH_FILE
    schema_version: Literal[1] = 1
    kind: Literal["fused-graph"] = "fused-graph"
    provenance: Provenance
    classifier: ClassifierRecord
    explainer: ExplainerRecord
    preprocessing: Preprocessing
    inputs: list[TensorRecord]
    outputs: list[TensorRecord]
    map_size: tuple[int, int]
    top_k: int | None
    targets: list[int] | None = None  # explained whatever the answer, instead of the best
    contrast: Contrast | None = None
    precision: Precision = "fp32"
    opset: int
    parity: list[ParityRecord]
    quantisation: PrecisionRecord | None = None

    @model_validator(mode="after")
    def _check_contract(self) -> "GraphManifest":
        if [value.name for value in self.inputs] not in (["image"], ["image", "class_index"]):
            message = "the inputs must be image, or image and class_index"
            raise ValueError(message)
        names = {value.name for value in self.outputs}
        if not {"logits", "saliency"} <= names or ("class_index" in names) == self.takes_classes:
            message = "the outputs must be logits and saliency, with class_index as in- or output"
            raise ValueError(message)
        if (self.precision == "fp32") != (self.quantisation is None):
            message = f"precision {self.precision} does not fit what is told of quantisation"
            raise ValueError(message)
        saliency = next(value.shape for value in self.outputs if value.name == "saliency")
        count = "classes" if self.top_k is None else self.top_k
        if saliency[1:] != [count, *self.map_size] or (self.top_k is None) != self.takes_classes:
            message = (
                f"top_k {self.top_k} and map_size {self.map_size} do not fit the output saliency "
                f"{saliency}"
            )
            raise ValueError(message)
        if self.targets is not None and (
            len(self.targets) != self.top_k
            or not all(0 <= index < self.classifier.num_classes for index in self.targets)
        ):
            message = (
                f"targets {self.targets} do not fit top_k {self.top_k} and "
                f"{self.classifier.num_classes} classes"
            )
            raise ValueError(message)
        return self

    @property
    def takes_uint8(self) -> bool:
        """Whether the graph takes uint8 (B, H, W, 3) rather than float (B, 3, H, W)."""
        return self.inputs[0].dtype == "uint8"

    @property
    def takes_classes(self) -> bool:
        """Whether the caller says which classes to explain."""
        return len(self.inputs) > 1

    @property
    def explained(self) -> str:
        """Which classes the maps are for, in words."""
        if self.targets is not None:
            names = self.classifier.class_names
            listed = ", ".join(str(i) if names is None else names[i] for i in self.targets)
            told = f"{listed}, whatever the answer"
        elif self.top_k is None:
            told = "those that the caller gives"
        else:
            told = "the best class" if self.top_k == 1 else f"the {self.top_k} best classes"
        if self.contrast is None:
            return told
        rival = "the best other one" if self.contrast == "best" else "the one given after it"
        return f"{told}, each against {rival}"

    @property
    def cautions(self) -> list[str]:
        """What every reader of this graph's maps must be told."""
        cautions = []
        if self.classifier.weights.random:
            cautions.append("classifier weights are RANDOM: for latency work only")
        if self.explainer.auxiliary_weights.random:
            cautions.append("auxiliary weights are RANDOM: maps mean nothing")
        if self.explainer.state == "initialised":
            kind = {
                "activation-map": "the auxiliary's class activation map",
                "fit": "a linear fit",
                "random": "RANDOM fusion weights: maps mean nothing",
                "imported": "taken from a checkpoint",
            }[self.explainer.start]
            cautions.append(f"explainer is initialised, not trained: {kind}")
        elif (
            self.explainer.training_preset == "paper"
            and (self.explainer.training_steps or 0) < FEW_STEPS
        ):
            cautions.append(
                f"explainer was trained for {self.explainer.training_steps or 0} steps on "
                f"{self.explainer.training_photos or 0} photos only, "
                f"from start '{self.explainer.start}'"
            )
        cautions += self._other_classes_caution()
        assumed = self.explainer.auxiliary != OWN_AUXILIARY
        if (
            assumed
            and self.classifier.class_names is None
            and self.explainer.start == "activation-map"
        ):
            cautions.append("classes have no names and were taken to be ImageNet's")
        if self.quantisation is not None and self.quantisation.misses:
            misses = "; ".join(self.quantisation.misses)
            cautions.append(f"{self.precision} DRIFTS from the FP32 graph: {misses}")
        return cautions

    def _other_classes_caution(self) -> list[str]:
        """Tell where maps of classes that are not the answer explain nothing, if this has such."""
        found = self.explainer.other_classes
        only_answers = self.top_k == 1 and self.targets is None and self.contrast is None
        if only_answers or found is None or explains(found):
            return []
        caution = (
            "maps of classes that are NOT the answer explain nothing: they agree with the "
            f"classifier by {found.mean:.2f} ({found.low:.2f} to {found.high:.2f}) on "
            f"{found.photos} photos left out of training, where 0 is chance"
        )
        return [caution]


def explains(agreement: Interval) -> bool:
    """Whether maps agree with their classes' scores beyond chance."""
    return excludes_zero(agreement) and agreement.mean > 0


class AnswerRecord(Record):
    """A classifier's best classes of one image that anybody can make again, best first."""

    class_index: list[Annotated[int, Field(ge=0)]]
    probability: list[Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not len(self.class_index) == len(self.probability) > 0:
            message = "class_index and probability must be as long, and not empty"
            raise ValueError(message)
        return self


class ExplainerManifest(ArtifactManifest):
    """``explainer.json``: the trained part, to be fused with its classifier and auxiliary."""

    main_file = EXPLAINER_FILE
    schema_version: Literal[1] = 1
    kind: Literal["explainer"] = "explainer"
    provenance: Provenance
    classifier: ClassifierRecord
    explainer: ExplainerRecord
    preprocessing: Preprocessing
    channels: list[int]
    form: Form = "weights"
    # So that a classifier is known again whose code changed, or that was but a function.
    answers: list[AnswerRecord] | None = None
    training: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_answers(self) -> Self:
        indices = [index for answer in self.answers or [] for index in answer.class_index]
        if self.answers == [] or max(indices, default=0) >= self.classifier.num_classes:
            message = f"answers do not fit {self.classifier.num_classes} classes"
            raise ValueError(message)
        return self


Manifest = TypeVar("Manifest", bound=ArtifactManifest)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that shape results."""
    versions = {"python": platform.python_version()}
    for name in _TRACED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def record_files(directory: Path) -> dict[str, FileRecord]:
    """Hash every file in a folder."""
    return {
        path.name: FileRecord(bytes=path.stat().st_size, sha256=sha256_of_file(path))
        for path in sorted(directory.iterdir())
    }


def manifest_json(manifest: BaseModel) -> str:
    """Return a manifest as the text of its JSON file."""
    return json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def _no_artifact(directory: Path, name: str) -> str:
    """Say what stands where an artifact was expected."""
    if directory.is_file() and (directory.parent / name).is_file():
        return f"{directory} is a file of an artifact: give its folder, {directory.parent}."
    if name == GRAPH_MANIFEST and (directory / EXPLAINER_MANIFEST).is_file():
        return (
            f"{directory} holds an explainer alone: put it and its classifier into one graph first "
            f"(ptame export --explainer {directory})."
        )
    if name == EXPLAINER_MANIFEST and (directory / GRAPH_MANIFEST).is_file():
        return f"{directory} holds a fused graph; an explainer (of ptame train) is expected."
    return f"{directory} holds no {name}: not an artifact, or one that was never completed."


def read_manifest(directory: Path, name: str, model: type[Manifest]) -> Manifest:
    """Read a manifest and check every file that it names: presence, size, hash.

    Args:
        directory: the artifact's folder.
        name: the manifest's file name.
        model: the manifest's class.

    Raises:
        InvalidInputError: there is no such artifact.
        ArtifactError: the manifest cannot be read, or a file is missing or not the one recorded.
    """
    path = directory / name
    if not directory.exists():
        message = f"{directory} does not exist."
        raise InvalidInputError(message)
    with suppress(OSError):  # what a killed writer left, unless the folder cannot be written
        finish_pending(directory)
    if not path.is_file():
        raise InvalidInputError(_no_artifact(directory, name))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path} cannot be read as JSON ({error}). Make the artifact again."
        raise ArtifactError(message) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        message = (
            f"{path} has schema version {version}; this ptame-deploy reads up to {SCHEMA_VERSION}. "
            "Update ptame-deploy."
        )
        raise ArtifactError(message)
    try:
        manifest = model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        message = (
            f"{path} is not a valid manifest: {where}: {first['msg']}. Make the artifact again."
        )
        raise ArtifactError(message) from error
    for file_name, record in manifest.files.items():
        _check_file(directory, file_name, record)
    return manifest


def _check_file(directory: Path, name: str, record: FileRecord) -> None:
    if Path(name).name != name:
        message = f"{directory}: the manifest names {name!r}, which is outside its folder."
        raise ArtifactError(message)
    path = directory / name
    if not path.is_file():
        message = f"{path} is missing. Copy the whole folder, or make the artifact again."
        raise ArtifactError(message)
    size = path.stat().st_size
    if size != record.bytes:
        message = (
            f"{path} has {size} bytes, its manifest says {record.bytes}: cut short or replaced."
        )
        raise ArtifactError(message)
    if sha256_of_file(path) != record.sha256:
        message = f"{path} is not the file that its manifest describes (SHA-256 differs)."
        raise ArtifactError(message)
