"""Auxiliary networks: frozen ImageNet classifiers whose feature maps the explainer reads.

The deepest tap of each is what its own classification head pools, so that the head's weights,
applied to that tap, are the auxiliary's class activation map (Zhou et al. 2016).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptame_deploy.artifacts import WeightsRecord
from ptame_deploy.backbones import imagenet_class_names
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from ptame_deploy.pretrained import build_timm, build_torchvision
from ptame_deploy.weights import override_weights, record_weights

DEFAULT_INPUT_SIZE = 224
MIN_INPUT_SIZE, MAX_INPUT_SIZE = 32, 2048


class Auxiliary(nn.Module):
    """Frozen feature extractor with its own normalisation and input size.

    Attributes:
        name: its name in the registry.
        input_size: pixels of the square that images are resized to.
        channels: channels of the taps, fine to coarse.
        embedding: (classes, channels[-1]), the head's weights over the deepest tap, or None.
        class_names: what the embedding's rows stand for.
        weights: where the weights came from.
    """

    mean: Tensor
    std: Tensor
    embedding: Tensor | None

    def __init__(
        self,
        name: str,
        stages: Sequence[nn.Module],
        *,
        input_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        embedding: Tensor | None,
        class_names: tuple[str, ...] | None,
        weights: WeightsRecord,
    ) -> None:
        """Chain ``stages``; the output of each is a tap."""
        super().__init__()
        self.name = name
        self.stages = nn.ModuleList(stages)
        self.input_size = input_size
        self.class_names = class_names
        self.weights = weights
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.register_buffer("embedding", None if embedding is None else embedding.detach().clone())
        self.requires_grad_(requires_grad=False)
        self.eval()
        with torch.no_grad():
            taps = self(torch.zeros(1, 3, input_size, input_size))
        self.channels = [tap.shape[1] for tap in taps]
        self.map_size = (taps[0].shape[2], taps[0].shape[3])

    def train(self, mode: bool = True) -> "Auxiliary":  # noqa: ARG002, FBT001, FBT002
        """Stay in eval mode: the statistics of a frozen network never move."""
        return super().train(mode=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Extract feature maps.

        Args:
            image: (B, 3, H, W) RGB in [0, 1], of any size.

        Returns:
            (B, C_l, h_l, w_l) by depth, fine to coarse.
        """
        size = (self.input_size, self.input_size)
        if image.shape[-2:] != size:
            image = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
        x = (image - self.mean) / self.std
        taps = []
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
    name: str, *, weights: str | None = None, input_size: int = DEFAULT_INPUT_SIZE, seed: int = 0
) -> Auxiliary:
    """Load an auxiliary, frozen.

    Args:
        name: one of ``AUXILIARIES``.
        weights: a file (safetensors, or a checkpoint of tensors alone), ``random``, or None for
            the ImageNet weights.
        input_size: side of the square that the auxiliary sees, in pixels.
        seed: for random weights.

    Raises:
        InvalidInputError: no such auxiliary, or weights that do not fit.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: a corrupt file of weights.
    """
    if name not in _NETWORKS:
        message = f"No auxiliary is called {name!r}. There are: {', '.join(AUXILIARIES)}."
        raise InvalidInputError(message)
    if not MIN_INPUT_SIZE <= input_size <= MAX_INPUT_SIZE:
        limits = f"{MIN_INPUT_SIZE} to {MAX_INPUT_SIZE} pixels"
        message = f"The auxiliary's input size must be {limits}, got {input_size}."
        raise InvalidInputError(message)
    network = _NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build = build_timm if network.timm else build_torchvision
        module, source = build(network.library_name, pretrained=weights is None)
        source = override_weights(module, weights, (input_size,) * 2, fresh=True) or source
    module.eval()
    stages, embedding = network.split(module)
    if network.timm:
        config = cast("dict[str, Any]", module.pretrained_cfg)
        mean, std = config["mean"], config["std"]
    else:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    return Auxiliary(
        name,
        stages,
        input_size=input_size,
        mean=mean,
        std=std,
        embedding=embedding,
        class_names=imagenet_class_names(),
        weights=record_weights(module, source),
    )
