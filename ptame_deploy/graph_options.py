"""What an exported graph takes and gives."""

from dataclasses import dataclass

from ptame_deploy.artifacts import Contrast
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.fused import MapSize

DEFAULT_OPSET = 18
# The exporter writes this range: under it operators would have to be converted down.
OPSETS = range(18, 24)


@dataclass(frozen=True)
class GraphOptions:
    """What the exported graph takes and gives.

    Attributes:
        top_k: so many of the best classes are explained, where nobody says which.
        takes_classes: the caller says which classes to explain: an input ``class_index``.
        targets: classes that are explained whatever the answer; empty for the best ones.
        uint8_input: uint8 (B, H, W, 3) instead of float32 (B, 3, H, W).
        map_size: of the maps: as fine as the features, or as large as the image.
        contrastive: each map tells what speaks for its class and not for another.
        opset: of ONNX.
    """

    top_k: int = 1
    takes_classes: bool = False
    targets: tuple[int, ...] = ()
    uint8_input: bool = False
    map_size: MapSize = "native"
    contrastive: bool = False
    opset: int = DEFAULT_OPSET

    @property
    def explained_count(self) -> int | None:
        """How many classes a graph explains; None where the caller says which."""
        return None if self.takes_classes else len(self.targets) or self.top_k

    @property
    def contrast(self) -> Contrast | None:
        """What a class is held against."""
        if not self.contrastive:
            return None
        return "given" if self.takes_classes else "best"

    def check(self, num_classes: int) -> None:
        """Refuse what cannot be exported.

        Raises:
            InvalidInputError: a value is out of range.
        """
        if not 1 <= self.top_k <= num_classes:
            message = f"top-k must be 1 to {num_classes} (all its classes), got {self.top_k}."
            raise InvalidInputError(message)
        if self.contrastive and num_classes < 2:
            message = "A contrast needs two classes; the classifier has one."
            raise InvalidInputError(message)
        if self.opset not in OPSETS:
            message = f"opset must be {OPSETS.start} to {OPSETS.stop - 1}, got {self.opset}."
            raise InvalidInputError(message)
