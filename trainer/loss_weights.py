"""The paper's settings for three classifiers: loss weights, exponents and weight decay."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from ptame_deploy.errors import ArtifactError, InvalidInputError, reason_of
from ptame_deploy.storage import write_text


@dataclass(frozen=True)
class LossWeights:
    """Weights and constants of the loss (see `trainer.losses`)."""

    cross_entropy: float
    area: float
    variation: float
    area_power: float  # exponent p; under 1 it prefers masks that are 0 or 1 to grey ones
    border_weight: float  # b: how much a border value counts against a difference of neighbours

    def __post_init__(self) -> None:
        """Refuse what cannot be minimised.

        Raises:
            InvalidInputError: a weight is negative or not finite, all are 0, or p is not positive.
        """
        weights = (self.cross_entropy, self.area, self.variation)
        values = (*weights, self.area_power, self.border_weight)
        if not all(math.isfinite(value) and value >= 0 for value in values):
            message = f"Loss weights must be finite and not negative, got {self}."
            raise InvalidInputError(message)
        if not any(weights):
            message = (
                "At least one of the weights of cross-entropy, area and variation must be positive."
            )
            raise InvalidInputError(message)
        if self.area_power == 0:
            message = "The area term's exponent must be positive: with 0 the term is constant."
            raise InvalidInputError(message)


@dataclass(frozen=True)
class Loss:
    """Everything that the paper tunes for one classifier."""

    name: str
    weights: LossWeights
    weight_decay: float

    def __post_init__(self) -> None:
        """Refuse a weight decay that cannot be used.

        Raises:
            InvalidInputError: it is negative or not finite.
        """
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            message = f"Weight decay must be finite and not negative, got {self.weight_decay}."
            raise InvalidInputError(message)


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("vgg16", LossWeights(0.07278, 0.977712, 1e-4, 0.3, 0.3), weight_decay=0.13324),
        Loss("resnet50", LossWeights(0.161429, 0.838571, 0.0, 0.3, 0.3), weight_decay=2.4267e-4),
        Loss("vit_b_16", LossWeights(0.131292, 0.838571, 0.0, 0.5, 0.0), weight_decay=1.3309e-4),
    )
}
DEFAULT_LOSS = "resnet50"


def loss_for(backbone: str, asked: str | None = None) -> Loss:
    """Choose loss weights.

    Args:
        backbone: the classifier's name; its own are taken where it has some.
        asked: the name that the user gave, a file of `write_loss`, or None.

    Raises:
        InvalidInputError: no loss weights have the name that was asked for, or no such file.
        ArtifactError: the file is corrupt.
    """
    if asked is not None and asked.endswith(".json"):
        return read_loss(Path(asked))
    name = asked or (backbone if backbone in LOSSES else DEFAULT_LOSS)
    if name not in LOSSES:
        message = (
            f"No loss weights are called {name!r}. There are: {', '.join(LOSSES)}, and files that "
            "ptame tune writes (loss.json)."
        )
        raise InvalidInputError(message)
    return LOSSES[name]


def write_loss(path: Path, loss: Loss) -> None:
    """Write loss weights for ``ptame train --loss``.

    Raises:
        InvalidInputError: the file cannot be written.
        MissingRequirementError: the disk is full.
    """
    write_text(path, json.dumps(asdict(loss), indent=2) + "\n")


def read_loss(path: Path) -> Loss:
    """Read what `write_loss` wrote.

    Raises:
        InvalidInputError: no such file, or weights that cannot be minimised.
        ArtifactError: it is corrupt.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        numbers = {name: float(value) for name, value in found["weights"].items()}
        weights = LossWeights(**numbers)
        return Loss(str(found["name"]), weights, float(found["weight_decay"]))
    except OSError as error:
        message = f"The loss weights {path} cannot be read: {reason_of(error)}."
        raise InvalidInputError(message) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{path} holds no loss weights as ptame tune writes them ({error})."
        raise ArtifactError(message) from error
