"""A classifier's source in PyTorch, for methods that need gradients or inner layers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ptame_deploy.fused import NormalisedClassifier

if TYPE_CHECKING:
    from bench.methods.method import Classes, Images, Maps
    from ptame_deploy.backbones import Backbone


class ClassifierSource:
    """A frozen classifier that takes images in [0, 1], so that every method hides by black."""

    def __init__(self, backbone: "Backbone", device: Literal["cpu", "cuda"] = "cpu") -> None:
        """Put the normalisation in front of a classifier.

        Args:
            backbone: the classifier; the module is shared and stays frozen.
            device: where it computes.
        """
        self.backbone, self.device = backbone, device
        self.module: nn.Module = NormalisedClassifier(backbone).eval().to(device)

    @property
    def runtime(self) -> str:
        """Name, version and device."""
        return f"PyTorch {torch.__version__} {self.device.upper()}"

    @property
    def identity(self) -> str:
        """Hash of the weights."""
        return self.backbone.weights.sha256

    def example(self) -> Tensor:
        """Return one grey image, (1, 3, H, W)."""
        return torch.full((1, 3, *self.backbone.preprocessing.input_size), 0.5, device=self.device)

    def explain(
        self, attribute: "Callable[[Tensor, Tensor], Tensor]", images: "Images", index: "Classes"
    ) -> "Maps":
        """Call a method that works on tensors.

        Args:
            attribute: from images (B, 3, H, W) and classes (B,) to maps (B, h, w).
            images: (B, 3, H, W) in [0, 1].
            index: (B,).
        """
        found = attribute(
            torch.from_numpy(np.ascontiguousarray(images)).to(self.device),
            torch.from_numpy(np.asarray(index, np.int64)).to(self.device),
        )
        return np.asarray(found.detach().cpu().numpy(), np.float32)
