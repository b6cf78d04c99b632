"""The classifiers that are explained: a library's by name, the user's code, or a file."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.heads import Head
from ptame_deploy.part_records import ClassifierRecord, WeightsRecord
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.records import first_fault
from ptame_deploy.vision import import_torchvision

IMAGENET_CLASSES = 1000
# What a file or a module does not say of how photos are prepared for it; a function's are plain.
RESIZING = ("resize", "interpolation")
PREPARATION = (*RESIZING, "mean", "std")


@dataclass(frozen=True)
class Backbone:
    """A frozen classifier with what a caller must know to feed it.

    Attributes:
        name: how the user named it.
        module: maps normalised images (B, 3, H, W) to logits (B, classes).
        preprocessing: from photo to normalised image.
        num_classes: length of the logits.
        class_names: a name for each class, or None.
        weights: where the weights came from, with their hash.
        head: what makes probabilities of the logits.
        assumed: fields of the preprocessing that nobody said: ImageNet's habits.
        doubts: what looks wrong about it, for the user to judge.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    num_classes: int
    class_names: tuple[str, ...] | None
    weights: WeightsRecord
    head: Head = "softmax"
    assumed: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def record(self) -> ClassifierRecord:
        """Describe the classifier for a manifest."""
        names = None if self.class_names is None else list(self.class_names)
        return ClassifierRecord(
            name=self.name,
            num_classes=self.num_classes,
            class_names=names,
            weights=self.weights,
            head=self.head,
            assumed=list(self.assumed),
            doubts=list(self.doubts),
        )


def imagenet_class_names() -> tuple[str, ...]:
    """Return ImageNet's 1000 class names in their usual order."""
    models = import_torchvision().models
    return tuple(models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def preprocessing_of(fields: dict[str, Any]) -> Preprocessing:
    """Check fields of a preprocessing.

    Raises:
        InvalidInputError: a field that is not usable.
    """
    from pydantic import ValidationError

    try:
        return Preprocessing.model_validate(fields)
    except ValidationError as error:
        message = f"Preprocessing is not usable: {first_fault(error)}."
        raise InvalidInputError(message) from error
