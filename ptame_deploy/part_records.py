"""Parts of manifests: what a graph was put together of (classifier, auxiliary, explainer)."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from ptame_deploy.bootstrap import Interval
from ptame_deploy.errors import ArtifactError
from ptame_deploy.heads import Head
from ptame_deploy.records import Record

OWN_AUXILIARY = "self"  # the explained classifier's own features
State = Literal["initialised", "trained"]
Start = Literal["activation-map", "fit", "random", "imported"]
Preset = Literal["few", "paper"]
MAX_NAME_LENGTH = 500


def auxiliary_label(name: str, input_sizes: Sequence[int]) -> str:
    """Describe an auxiliary for readers: ``resnet18 at 224 + 448 pixels``."""
    if name == OWN_AUXILIARY:
        return "the classifier's own features"
    return f"{name} at {' + '.join(map(str, input_sizes))} pixels"


class WeightsRecord(Record):
    """Where weights came from.

    Attributes:
        source: a library's name for them, a package, a file, or ``random``.
        sha256: of names, shapes and values, not of the file's format.
        random: whether they were never trained.
    """

    source: str
    sha256: str
    random: bool = False


def is_class_name(name: str) -> bool:
    """Whether text can be a class name: not endless, without the half characters JSON can hold."""
    return len(name) <= MAX_NAME_LENGTH and not any("\ud800" <= sign <= "\udfff" for sign in name)


class ClassifierRecord(Record):
    """The explained classifier.

    Attributes:
        name: as ``--backbone`` was given it.
        num_classes: how many logits it gives.
        class_names: by index; None where nobody said them.
        weights: where they came from.
        head: how logits become probabilities.
        assumed: fields of the preprocessing that neither its source nor the user said, and that
            were taken to be ImageNet's.
        doubts: what looks wrong about it.
    """

    name: str
    num_classes: int = Field(ge=1)
    class_names: list[str] | None = None
    weights: WeightsRecord
    head: Head = "softmax"
    assumed: list[str] = Field(default_factory=list)
    doubts: list[str] = Field(default_factory=list)

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

    def check_same_weights(self, weights: WeightsRecord) -> None:
        """Refuse another classifier's source beside a graph of this one.

        Args:
            weights: of what ``--backbone`` named.

        Raises:
            ArtifactError: they are others.
        """
        if weights.sha256 != self.weights.sha256:
            message = (
                f"--backbone has other weights than the classifier in the graph ({self.name}): "
                "their maps must not stand side by side."
            )
            raise ArtifactError(message)


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
    """The explainer inside a fused graph.

    The last three were measured on photos that the judged explainer had not seen; None where they
    were not.

    Attributes:
        auxiliary: whose features the maps are made of; ``self`` for the classifier's own.
        auxiliary_input_sizes: side of the image that it sees; one or several.
        auxiliary_weights: where they came from.
        state: trained or not.
        start: what training begins with, or what it is where it is not trained.
        training_preset: the recipe.
        training_steps: of the recipe ``paper``.
        training_photos: that were given, those left out included.
        weights_sha256: of its parameters' names, shapes and values.
        superpixels: what its maps are averaged over; None for nothing.
        gain: by how much training made it better than its start, in the recipe's own measure.
        own_answers: how maps of the answers predict the answers' scores of masked copies: the mean
            cosine, 0 is chance.
        other_classes: the same of the second-best class.
    """

    auxiliary: str
    auxiliary_input_sizes: list[int]
    auxiliary_weights: WeightsRecord
    state: State
    start: Start
    training_preset: Preset | None = None
    training_steps: int | None = None
    training_photos: int | None = None
    weights_sha256: str
    superpixels: SuperpixelRecord | None = None
    gain: Interval | None = None
    own_answers: Interval | None = None
    other_classes: Interval | None = None

    @property
    def auxiliary_label(self) -> str:
        """The auxiliary and its input sizes, for readers."""
        return auxiliary_label(self.auxiliary, self.auxiliary_input_sizes)
