"""Classifier, auxiliary and explainer as one module: what is exported."""

from collections.abc import Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptame_deploy.artifacts import Contrast
from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.explainer import FoldedExplainer
from ptame_deploy.heads import Head
from ptame_deploy.superpixels import Superpixels

MapSize = Literal["native", "input"]
# Smallest value range of a map that is stretched to [0, 1]: a flat map becomes 0, not NaN, nor
# does the rounding noise of a large constant become a map. Both are representable in float16.
MIN_RANGE, MIN_RELATIVE_RANGE = 1e-6, 1e-5


def min_max_normalise(maps: Tensor) -> Tensor:
    """Stretch each map to [0, 1]; a flat one becomes 0.

    Args:
        maps: (B, K, h, w), raw fusion logits (no sigmoid at inference, as in the paper).
    """
    maps = maps.float()  # under autocast too: a flat map's range is beyond half precision
    low = maps.amin(dim=(2, 3), keepdim=True)
    high = maps.amax(dim=(2, 3), keepdim=True)
    flat = torch.maximum(low.abs(), high.abs()) * MIN_RELATIVE_RANGE + MIN_RANGE
    return (maps - low) / torch.maximum(high - low, flat)


class NormalisedClassifier(nn.Module):
    """A classifier that takes images as they are, in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone) -> None:
        """Put the backbone's normalisation in front of it; the module itself is shared."""
        super().__init__()
        self.module = backbone.module
        self.head: Head = backbone.head
        preprocessing = backbone.preprocessing
        weights = chain(self.module.parameters(), self.module.buffers())
        device = next(weights, torch.empty(0)).device
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values, device=device).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Map RGB (B, 3, H, W) in [0, 1] to logits (B, classes)."""
        logits: Tensor = self.module((image - self.mean) / self.std)
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities (B, classes) in float32."""
        return logits.float().sigmoid() if self.head == "sigmoid" else logits.float().softmax(dim=1)


class FusedModel(nn.Module):
    """From an image to class and explanation in one forward pass."""

    targets: Tensor | None  # (1, K) int64

    def __init__(
        self,
        backbone: Backbone,
        auxiliary: Auxiliary,
        explainer: FoldedExplainer,
        *,
        top_k: int = 1,
        targets: Sequence[int] = (),
        uint8_input: bool = False,
        map_size: MapSize = "native",
        contrast: Contrast | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: the classifier.
            auxiliary: gives the features.
            explainer: makes maps of them.
            top_k: classes to explain where the caller names none.
            targets: explain these classes instead, whatever the answer.
            uint8_input: take uint8 (B, H, W, 3) instead of float (B, 3, H, W) in [0, 1].
            map_size: maps at their `native_size`, or resized bilinearly to the input's.
            contrast: maps say why this class and not another one; None for why this class.

        Raises:
            InvalidInputError: the auxiliary's taps are too coarse for the explainer's superpixels.
        """
        super().__init__()
        self.classifier = NormalisedClassifier(backbone)
        self.num_classes = backbone.num_classes
        self.auxiliary: Auxiliary = auxiliary
        self.explainer = explainer
        self.top_k = top_k
        given = torch.tensor([list(targets)]) if targets else None
        self.register_buffer("targets", given, persistent=False)
        self.uint8_input = uint8_input
        self.map_size = map_size
        self.contrast = contrast
        record = explainer.superpixels
        self.superpixels = None if record is None else Superpixels(record, auxiliary.map_size)
        self.eval()

    @property
    def native_size(self) -> tuple[int, int]:
        """Height and width of the maps: the finest tap's, or finer with superpixels."""
        return self.auxiliary.map_size if self.superpixels is None else self.superpixels.size

    def choose(self, logits: Tensor) -> Tensor:
        """Return the classes to explain (B, K): the targets, or the ``top_k`` best."""
        if self.targets is not None:
            return self.targets.expand(logits.shape[0], -1)  # len() would freeze the batch
        return torch.topk(logits, self.top_k, dim=1).indices

    def _rivals(self, logits: Tensor, class_index: Tensor) -> Tensor | None:
        """Return the classes (B, K) that the explained ones are held against."""
        if self.contrast is None:
            return None
        if self.contrast == "given":  # the last one against the first
            return torch.cat([class_index[:, 1:], class_index[:, :1]], dim=1)
        best, second = torch.topk(logits, 2, dim=1).indices.split(1, dim=1)
        return torch.where(class_index == best, second, best)

    def forward(
        self, image: Tensor, class_index: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Classify and explain.

        Args:
            image: (B, 3, H, W) RGB in [0, 1], or uint8 (B, H, W, 3).
            class_index: (B, K) int64, the classes to explain; None for what `choose` says.

        Returns:
            logits (B, classes), class_index (B, K), saliency (B, K, h, w) in [0, 1].
        """
        if self.uint8_input:
            # Cast first: TensorRT moves no bytes that are not yet numbers of its own.
            image = image.to(torch.float32).permute(0, 3, 1, 2) / 255.0
        logits, features = self.auxiliary.observe(self.classifier, image)
        if class_index is None:
            class_index = self.choose(logits)
        maps = self.explainer(features, class_index, self._rivals(logits, class_index))
        if self.superpixels is not None:
            maps = self.superpixels(image, maps)
        saliency = min_max_normalise(maps)
        if self.map_size == "input":
            saliency = functional.interpolate(
                saliency, size=image.shape[-2:], mode="bilinear", align_corners=False
            )
        return logits, class_index, saliency
