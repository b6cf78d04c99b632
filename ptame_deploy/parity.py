"""Does the exported graph answer as PyTorch does? Compared output by output, batch by batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ptame_deploy.artifacts import ParityRecord
from ptame_deploy.errors import CheckFailedError
from ptame_deploy.fused import FusedModel
from ptame_deploy.synthetic import synthetic_images

BATCHES = (1, 2, 5)
TOLERANCE = 1e-4
# Of maps that are averaged over superpixels: where a pixel lies as near to one region as to
# another, FP32's rounding of the distances alone moves it by 1e-4 (1e-6 in the mean).
SUPERPIXEL_TOLERANCE = 1e-3
_MEASURES: dict[str, Literal["absolute", "relative", "count"]] = {
    "logits": "relative",
    "probabilities": "absolute",
    "saliency": "absolute",
    "class_index": "count",
}

GraphCall = Callable[
    [NDArray[np.generic], NDArray[np.int64] | None], dict[str, NDArray[np.generic]]
]


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of one graph."""

    records: list[ParityRecord]

    @property
    def failures(self) -> list[ParityRecord]:
        """The comparisons out of tolerance."""
        return [r for r in self.records if not r.difference <= r.tolerance]


def compare(
    graph: GraphCall,
    model: FusedModel,
    input_size: tuple[int, int],
    *,
    classes: int | None,
    num_classes: int,
    seed: int = 0,
) -> ParityReport:
    """Compare an exported graph with its PyTorch model.

    Logits are compared relative to the largest one, probabilities and maps absolutely; maps of
    superpixels to `SUPERPIXEL_TOLERANCE` at least. The class
    must be identical; where the reference itself is tied within the tolerance, either is right,
    and maps are always compared for the class that the graph chose.

    Args:
        graph: runs the graph: images and, with ``classes``, the classes to explain.
        model: the reference.
        input_size: height and width.
        classes: how many classes to ask for where the graph takes them as an input, else None.
        num_classes: the classifier's.
        seed: of the images.

    Raises:
        CheckFailedError: the comparison would pass trivially, since logits or maps do not depend
            on the image.
    """
    records: list[ParityRecord] = []
    generator = np.random.default_rng(seed)
    images = synthetic_images(max(BATCHES), *input_size, uint8=model.uint8_input, seed=seed)
    asked_all = None
    if classes is not None:
        asked_all = generator.integers(0, num_classes, (max(BATCHES), classes), dtype=np.int64)
    with torch.no_grad():
        given = None if asked_all is None else torch.from_numpy(asked_all)
        logits, _, saliency = model(torch.from_numpy(images), given)
    _refuse_trivial(logits, saliency)
    allowed = dict.fromkeys(_MEASURES, TOLERANCE)
    if model.superpixels is not None:
        allowed["saliency"] = max(TOLERANCE, SUPERPIXEL_TOLERANCE)
    for batch in BATCHES:
        image = images[:batch]
        asked = None if asked_all is None else asked_all[:batch]
        got = graph(image, asked)
        chosen = got["class_index"] if asked is None else asked
        with torch.no_grad():
            logits, _, saliency = model(torch.from_numpy(image), torch.from_numpy(chosen))
        differences = {
            "logits": _largest(got["logits"] - logits.numpy()) / float(logits.abs().max()),
            "probabilities": _largest(
                (
                    model.classifier.probabilities(torch.from_numpy(got["logits"]))
                    - model.classifier.probabilities(logits)
                ).numpy()
            ),
            "saliency": _largest(got["saliency"] - saliency.numpy()),
        }
        if asked is None:
            differences["class_index"] = _wrong(model, logits, torch.from_numpy(chosen))
        records += [
            ParityRecord(
                output=output,
                batch=batch,
                measure=_MEASURES[output],
                difference=value,
                tolerance=allowed[output],
            )
            for output, value in differences.items()
        ]
    return ParityReport(records)


def _wrong(model: FusedModel, logits: torch.Tensor, chosen: torch.Tensor) -> float:
    """Return how many chosen classes are wrong: not the reference's, and not tied with them."""
    expected = model.choose(logits)
    differ = expected != chosen
    if model.targets is None:
        gap = (logits.gather(1, expected) - logits.gather(1, chosen)).abs() / logits.abs().max()
        differ &= gap > TOLERANCE
    return float(differ.sum())


def _refuse_trivial(logits: torch.Tensor, saliency: torch.Tensor) -> None:
    spread = (logits.amax(dim=0) - logits.amin(dim=0)).max()
    if not spread > 1e-5 * logits.abs().max():
        message = (
            "The logits do not depend on the image, so that parity would pass trivially: is the "
            "classifier's head untrained (all zeros)? Load its weights."
        )
        raise CheckFailedError(message)
    if not (saliency.amax(dim=0) - saliency.amin(dim=0)).max() > 1e-3:
        message = (
            "The maps do not depend on the image, so that parity would pass trivially: "
            "the explainer is degenerate. Train it, or start it anew."
        )
        raise CheckFailedError(message)


def _largest(difference: NDArray[np.generic]) -> float:
    value = float(np.abs(difference).max())
    return value if np.isfinite(value) else float("inf")
