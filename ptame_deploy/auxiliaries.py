"""Auxiliaries: where the feature maps come from that the explainer reads.

Most are frozen ImageNet classifiers of their own. The deepest tap of each is what its own
classification head pools, so that the head's weights, applied to that tap, are the auxiliary's
class activation map (Zhou et al. 2016). An auxiliary may look at the image in several sizes at
once: each size gives taps of its own. ``self`` takes the features of the explained classifier
(`ptame_deploy.own_features`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptame_deploy.backbones import imagenet_class_names
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.part_records import OWN_AUXILIARY, WeightsRecord, auxiliary_label
from ptame_deploy.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from ptame_deploy.pretrained import build_timm, build_torchvision
from ptame_deploy.weights import override_weights, record_weights

DEFAULT_INPUT_SIZES = (224,)
MIN_INPUT_SIZE, MAX_INPUT_SIZE = 32, 2048
MAX_INPUT_SIZES = 3


class Auxiliary(nn.Module):
    """Frozen source of feature maps.

    Attributes:
        name: its name in the registry.
        input_sizes: sides in pixels of the squares that images are resized to.
        channels: channels of the taps, fine to coarse.
        tap_sizes: heights and widths of the taps.
        deepest_taps: positions of the deepest taps, one an input size.
        embedding: (classes, channels), a classification head's weights over each of those, or None.
        class_names: what the embedding's rows stand for.
        weights: where the weights came from.
    """

    embedding: Tensor | None
    input_sizes: tuple[int, ...]
    channels: list[int]
    tap_sizes: list[tuple[int, int]]
    deepest_taps: tuple[int, ...]

    def __init__(
        self,
        name: str,
        *,
        embedding: Tensor | None,
        class_names: tuple[str, ...] | None,
        weights: WeightsRecord,
    ) -> None:
        """Keep what all auxiliaries have; whoever derives from this sets the taps."""
        super().__init__()
        self.name = name
        self.class_names = class_names
        self.weights = weights
        self.register_buffer("embedding", None if embedding is None else embedding.detach().clone())

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the finest tap, and so of the maps."""
        return self.tap_sizes[0]

    @property
    def label(self) -> str:
        """Name and input sizes, for readers."""
        return auxiliary_label(self.name, self.input_sizes)

    def train(self, mode: bool = True) -> "Auxiliary":  # noqa: ARG002, FBT001, FBT002
        """Stay in eval mode: the statistics of a frozen network never move."""
        return super().train(mode=False)

    def extract(self, classifier: nn.Module, image: Tensor) -> list[Tensor]:
        """Extract an image's feature maps alone, as `observe` does."""
        return self.observe(classifier, image)[1]

    def observe(self, classifier: nn.Module, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Classify an image and extract its feature maps.

        Args:
            classifier: from images in [0, 1] to logits.
            image: (B, 3, H, W) RGB in [0, 1], of the classifier's size.

        Returns:
            Logits (B, classes), and (B, C_l, h_l, w_l) by depth, fine to coarse.
        """
        raise NotImplementedError


class NetworkAuxiliary(Auxiliary):
    """A network of its own, with its own normalisation, in one or several input sizes."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        stages: Sequence[nn.Module],
        *,
        input_sizes: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        embedding: Tensor | None,
        class_names: tuple[str, ...] | None,
        weights: WeightsRecord,
    ) -> None:
        """Chain ``stages``; the output of each is a tap in each input size."""
        super().__init__(name, embedding=embedding, class_names=class_names, weights=weights)
        self.stages = nn.ModuleList(stages)
        self.input_sizes = tuple(input_sizes)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.requires_grad_(requires_grad=False)
        self.eval()
        with torch.no_grad():
            taps = self._taps(torch.zeros(1, 3, input_sizes[0], input_sizes[0]))
        # Fine to coarse; of equal taps the one of the earlier size comes first.
        self._order = sorted(range(len(taps)), key=lambda tap: -taps[tap].shape[2])
        self.channels = [taps[tap].shape[1] for tap in self._order]
        self.tap_sizes = [(taps[tap].shape[2], taps[tap].shape[3]) for tap in self._order]
        deepest = range(len(stages) - 1, len(taps), len(stages))
        self.deepest_taps = tuple(sorted(self._order.index(tap) for tap in deepest))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Extract feature maps.

        Args:
            image: (B, 3, H, W) RGB in [0, 1], of any size.

        Returns:
            (B, C_l, h_l, w_l) by depth, fine to coarse.
        """
        taps = self._taps(image)
        return [taps[tap] for tap in self._order]

    def extract(self, classifier: nn.Module, image: Tensor) -> list[Tensor]:  # noqa: ARG002
        """Extract without asking the classifier; see `Auxiliary.extract`."""
        return self(image)  # type: ignore[no-any-return]

    def observe(self, classifier: nn.Module, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Classify and extract; see `Auxiliary.observe`."""
        return classifier(image), self(image)

    def _taps(self, image: Tensor) -> list[Tensor]:
        taps = []
        for side in self.input_sizes:
            resized = image
            if image.shape[-2:] != (side, side):
                resized = functional.interpolate(
                    image, size=(side, side), mode="bilinear", align_corners=False
                )
            x = (resized - self.mean) / self.std
            for stage in self.stages:
                x = stage(x)
                taps.append(x)
        return taps


@dataclass(frozen=True)
class _Network:
    """How to make an auxiliary: its classifier, and how that falls into stages."""

    library_name: str
    split: Callable[[Any], tuple[list[nn.Module], Tensor]]
    timm: bool = False


def _resnet(net: Any) -> tuple[list[nn.Module], Tensor]:
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1)
    return [stem, net.layer2, net.layer3, net.layer4], net.fc.weight


class _DenseHead(nn.Module):
    """A head's hidden layer applied at every position instead of to the pooled features."""

    def __init__(self, hidden: nn.Linear, activation: nn.Module) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(hidden.in_features, hidden.out_features, 1)
        self.hidden.weight = nn.Parameter(hidden.weight[:, :, None, None])
        self.hidden.bias = hidden.bias
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.activation(self.hidden(x)))


def _mobilenet_v3_small(net: Any) -> tuple[list[nn.Module], Tensor]:
    layers = list(net.features)
    hidden, activation, _, last = net.classifier
    dense_head = _DenseHead(hidden, activation)
    stages = [layers[:2], layers[2:4], layers[4:9], [*layers[9:], dense_head]]
    return [nn.Sequential(*stage) for stage in stages], last.weight


def _mnasnet(net: Any) -> tuple[list[nn.Module], Tensor]:
    layers = list(net.layers)
    stages = [layers[:9], layers[9:10], layers[10:12], layers[12:]]
    return [nn.Sequential(*stage) for stage in stages], net.classifier[-1].weight


def _efficientnet_lite(net: Any) -> tuple[list[nn.Module], Tensor]:
    blocks = list(net.blocks)
    stages = [
        [net.conv_stem, net.bn1, *blocks[:2]],
        blocks[2:3],
        blocks[3:5],
        [*blocks[5:], net.conv_head, net.bn2],
    ]
    return [nn.Sequential(*stage) for stage in stages], net.classifier.weight


_NETWORKS = {
    "resnet18": _Network("resnet18", _resnet),
    "mobilenet_v3_small": _Network("mobilenet_v3_small", _mobilenet_v3_small),
    "mnasnet0_5": _Network("mnasnet0_5", _mnasnet),
    "efficientnet_lite0": _Network("tf_efficientnet_lite0", _efficientnet_lite, timm=True),
}
AUXILIARIES = tuple(_NETWORKS)
DEFAULT_AUXILIARY = "efficientnet_lite0"


def load_auxiliary(
    name: str,
    *,
    weights: str | None = None,
    input_sizes: Sequence[int] = DEFAULT_INPUT_SIZES,
    seed: int = 0,
) -> NetworkAuxiliary:
    """Load an auxiliary network, frozen.

    Args:
        name: one of ``AUXILIARIES``.
        weights: a file (safetensors, or a checkpoint of tensors alone), ``random``, or None for
            the ImageNet weights.
        input_sizes: sides of the squares that the auxiliary sees, in pixels, in rising order.
        seed: for random weights.

    Raises:
        InvalidInputError: no such auxiliary, sizes that are not usable, or weights that do not fit.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: a corrupt file of weights.
    """
    if name not in _NETWORKS:
        known = ", ".join((*AUXILIARIES, OWN_AUXILIARY))
        message = f"No auxiliary is called {name!r}. There are: {known}."
        raise InvalidInputError(message)
    _check_sizes(input_sizes)
    network = _NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build = build_timm if network.timm else build_torchvision
        module, source = build(network.library_name, pretrained=weights is None)
        side = input_sizes[0]
        source = override_weights(module, weights, (side, side), fresh=True) or source
    module.eval()
    stages, embedding = network.split(module)
    if network.timm:
        config = cast("dict[str, Any]", module.pretrained_cfg)
        mean, std = config["mean"], config["std"]
    else:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    return NetworkAuxiliary(
        name,
        stages,
        input_sizes=input_sizes,
        mean=mean,
        std=std,
        embedding=embedding,
        class_names=imagenet_class_names(),
        weights=record_weights(module, source),
    )


def _check_sizes(sizes: Sequence[int]) -> None:
    rising = all(low < high for low, high in pairwise(sizes))
    usable = all(MIN_INPUT_SIZE <= size <= MAX_INPUT_SIZE for size in sizes)
    if not (rising and usable and 1 <= len(sizes) <= MAX_INPUT_SIZES):
        message = (
            f"The auxiliary takes 1 to {MAX_INPUT_SIZES} input sizes of {MIN_INPUT_SIZE} to "
            f"{MAX_INPUT_SIZE} pixels in rising order, got {', '.join(map(str, sizes)) or 'none'}."
        )
        raise InvalidInputError(message)
