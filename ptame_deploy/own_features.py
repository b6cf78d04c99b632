"""The auxiliary ``self``: feature maps of the explained classifier itself, no second network.

The authors' earlier idea (Ntrougkas, Gkalelis, Mezaris, "TAME", ISM 2022). The classifier must be
at hand as a PyTorch module; in the fused graph the explainer then costs next to nothing beside it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.fused import NormalisedClassifier
from ptame_deploy.part_records import OWN_AUXILIARY
from ptame_deploy.spatial import Reshape, SpatialLayer, layer_outputs, spatial_layer
from ptame_deploy.synthetic import synthetic_images

MAX_TAPS = 4
FINEST = 4  # times smaller than the image, at least: earlier layers know edges alone
_TOLERANCE = 1e-3  # of the largest logit: a head is a weighted mean of the tap, or it is not


class OwnFeatures(Auxiliary):
    """Taps on a classifier's own layers: the last one at each resolution, fine to coarse."""

    def __init__(self, backbone: Backbone) -> None:
        """Find the layers, on a classifier that is not kept.

        Args:
            backbone: the explained classifier.

        Raises:
            InvalidInputError: it has no layer with places.
        """
        classifier = NormalisedClassifier(backbone).eval()
        height, width = backbone.preprocessing.input_size
        images = torch.from_numpy(synthetic_images(2, height, width)).to(classifier.mean.device)
        layers = _find_taps(classifier, images, backbone.name)
        self._taps: list[tuple[str, Reshape | None]] = [(one.name, one.reshape) for one in layers]
        super().__init__(
            OWN_AUXILIARY,
            embedding=_pooled_head(classifier, images, layers[-1]),
            class_names=backbone.class_names,
            weights=backbone.weights,
        )
        self.input_sizes = (height,)
        self.channels = [layer.channels for layer in layers]
        self.tap_sizes = [layer.size for layer in layers]
        self.deepest_taps = (len(layers) - 1,)

    def observe(self, classifier: nn.Module, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Classify and extract in one pass; see `Auxiliary.observe`."""
        with _outputs_of(classifier, [name for name, _ in self._taps]) as outputs:
            logits: Tensor = classifier(image)
        features = [
            outputs[name] if reshape is None else reshape(outputs[name])
            for name, reshape in self._taps
        ]
        return logits, features


def _find_taps(classifier: nn.Module, images: Tensor, name: str) -> list[SpatialLayer]:
    """Return the last layer at each of the coarser resolutions, fine to coarse."""
    modules = dict(classifier.named_modules())
    height = images.shape[2]
    found: dict[tuple[int, int], SpatialLayer] = {}
    for layer_name, shape in layer_outputs(classifier, images).items():
        layer = spatial_layer(layer_name, modules[layer_name], shape)
        if layer is not None:
            found[layer.size] = layer  # a later layer of the same resolution knows more
    if not found:
        message = (
            f"{name} has no layer whose output has places (B, C, h, w) or square patches: its own "
            "features cannot be mapped. Choose an auxiliary network instead of 'self'."
        )
        raise InvalidInputError(message)
    sizes = sorted(found, reverse=True)
    coarse = [size for size in sizes if size[0] * FINEST <= height] or sizes[-1:]
    return [found[size] for size in coarse[-MAX_TAPS:]]


def _pooled_head(
    classifier: NormalisedClassifier, images: Tensor, deepest: SpatialLayer
) -> Tensor | None:
    """Return the head's weights where the logits are linear in the deepest tap's mean.

    Args:
        classifier: from images in [0, 1] to logits.
        images: (2, 3, H, W); what differs between their answers is compared, so that a bias is not.
        deepest: the tap.

    Returns:
        (classes, channels), or None.
    """
    heads = [module for module in classifier.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad(), _outputs_of(classifier, [deepest.name]) as outputs:
        logits = classifier(images)
    pooled = deepest.features(outputs[deepest.name]).mean(dim=(2, 3))
    for head in reversed(heads):
        if head.weight.shape != (logits.shape[1], pooled.shape[1]):
            continue
        expected, found = (pooled[0] - pooled[1]) @ head.weight.T, logits[0] - logits[1]
        if classifier.head == "softmax":  # it does not see what all classes have in common
            expected, found = expected - expected.mean(), found - found.mean()
        if (expected - found).abs().max() < _TOLERANCE * found.abs().max():
            return head.weight.detach()
    return None


@contextmanager
def _outputs_of(classifier: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect what layers give while the classifier runs; no hook is left behind.

    By name, and hooked for one pass alone: copies of a classifier are tapped like the original.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        outputs[name] = output

    handles = [
        classifier.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: keep(name, output)
        )
        for name in names
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
