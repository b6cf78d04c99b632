"""The JSON beside every artifact: what it is, what it was made from, and how well it held.

`ptame_deploy.artifact_files` reads and writes it, and checks the files that it names.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, computed_field, model_validator

from ptame_deploy.cautions import of_classifier, of_explainer
from ptame_deploy.part_records import ClassifierRecord, ExplainerRecord
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.provenance import Provenance
from ptame_deploy.records import Precision, PrecisionRecord, Record

SCHEMA_VERSION = 1
FEW_PHOTOS = 20  # under so many, a comparison of precisions shows nothing that could be relied on
GRAPH_FILE, GRAPH_MANIFEST = "model.onnx", "model.json"
EXPLAINER_FILE, EXPLAINER_MANIFEST = "explainer.safetensors", "explainer.json"

# What a class is held against: the best other class, or the one that was given after it.
Contrast = Literal["best", "given"]
# Of an explainer's file: all its weights, or what training changed of an activation map.
Form = Literal["weights", "shared-terms"]


class FileRecord(Record):
    """One file of an artifact.

    Attributes:
        bytes: its size.
        sha256: of its bytes, 64 hexadecimal digits.
    """

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class TensorRecord(Record):
    """A graph's input or output.

    Attributes:
        name: ``image``, ``class_index``, ``logits`` or ``saliency``.
        dtype: NumPy's name of it.
        shape: names in it are dynamic dimensions.
    """

    name: str
    dtype: str
    shape: list[int | str]


class ParityRecord(Record):
    """The largest difference between ONNX Runtime and PyTorch, by output and batch size.

    Attributes:
        output: of the graph, or ``probabilities``.
        batch: photos in it.
        measure: of the difference: ``absolute``, ``relative`` to the largest value, or the
            ``count`` of values that differ.
        difference: the largest that was found.
        tolerance: the largest that passes.
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
    """``model.json``: a fused graph of classifier and explainer.

    The file holds `cautions` too, for readers that do not know the rules; they are told anew
    whenever it is read.

    Attributes:
        files: size and hash of each file of the artifact, by name.
        schema_version: of this document; newer ones are refused.
        kind: ``fused-graph``.
        provenance: when, with what and by which command it was made.
        classifier: what is explained.
        explainer: what explains it.
        preprocessing: from a photo to the graph's input; mean and std are inside the graph.
        inputs: ``image``, and ``class_index`` where the caller says which classes.
        outputs: ``logits``, ``class_index`` where the graph chooses, ``saliency``.
        map_size: height and width of the maps.
        top_k: how many classes are explained; None where the caller says which.
        targets: indices that are explained whatever the answer, instead of the best.
        contrast: what each class is held against; None for nothing.
        precision: of the arithmetic.
        opset: ONNX's.
        parity: how ONNX Runtime's answers differed from PyTorch's at export.
        quantisation: how the precision was lowered, and what that cost; None in FP32.
    """

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
    targets: list[int] | None = None
    contrast: Contrast | None = None
    precision: Precision = "fp32"
    opset: int
    parity: list[ParityRecord]
    quantisation: PrecisionRecord | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_cautions(cls, found: Any) -> Any:
        """Leave away what is written for other readers: it is told anew, by all that is known."""
        if not isinstance(found, dict):
            return found
        return {name: value for name, value in found.items() if name != "cautions"}

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

    @computed_field  # type: ignore[prop-decorator]
    @property
    def cautions(self) -> list[str]:
        """What every reader of this graph's maps must be told."""
        of_others = not (self.top_k == 1 and self.targets is None and self.contrast is None)
        found = of_classifier(self.classifier)
        found += of_explainer(self.classifier, self.explainer, of_others=of_others)
        if self.quantisation is not None and self.quantisation.misses:
            misses = "; ".join(self.quantisation.misses)
            found.append(f"{self.precision} DRIFTS from the FP32 graph: {misses}")
        if self.quantisation is not None and self.quantisation.drift.photos < FEW_PHOTOS:
            found.append(
                f"{self.precision} was compared with FP32 on {self.quantisation.drift.photos} "
                "photos only"
            )
        return found


class AnswerRecord(Record):
    """A classifier's best classes of one image that anybody can make again, best first.

    Attributes:
        class_index: of the classes.
        probability: of each.
    """

    class_index: list[Annotated[int, Field(ge=0)]]
    probability: list[Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not len(self.class_index) == len(self.probability) > 0:
            message = "class_index and probability must be as long, and not empty"
            raise ValueError(message)
        return self


class ExplainerManifest(ArtifactManifest):
    """``explainer.json``: the trained part, to be fused with its classifier and auxiliary.

    Attributes:
        files: size and hash of each file of the artifact, by name.
        schema_version: of this document; newer ones are refused.
        kind: ``explainer``.
        provenance: when, with what and by which command it was made.
        classifier: what it was trained for.
        explainer: what it is.
        preprocessing: from a photo to the classifier's input.
        channels: of the auxiliary's taps, fine to coarse.
        form: all weights, or what training changed of an activation map.
        answers: the classifier's best classes of a few made images, so that it is known again
            where its code changed, or where it was but a function.
        training: settings and outcome, as the recipe told them.
    """

    main_file = EXPLAINER_FILE
    schema_version: Literal[1] = 1
    kind: Literal["explainer"] = "explainer"
    provenance: Provenance
    classifier: ClassifierRecord
    explainer: ExplainerRecord
    preprocessing: Preprocessing
    channels: list[int]
    form: Form = "weights"
    answers: list[AnswerRecord] | None = None
    training: dict[str, Any] | None = None

    @property
    def cautions(self) -> list[str]:
        """What whoever fuses it must be told."""
        found = of_classifier(self.classifier)
        return found + of_explainer(self.classifier, self.explainer, of_others=True)

    @model_validator(mode="after")
    def _check_answers(self) -> Self:
        indices = [index for answer in self.answers or [] for index in answer.class_index]
        if self.answers == [] or max(indices, default=0) >= self.classifier.num_classes:
            message = f"answers do not fit {self.classifier.num_classes} classes"
            raise ValueError(message)
        return self
