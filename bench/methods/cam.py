"""The CAM family, through the grad-cam package.

Activations of one layer, weighted by gradients or by how the class's score answers to each channel.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bench.methods.cost import Cost
from bench.methods.method import EXTRA, Cascade, Explain, Method, Row, Unavailable
from bench.methods.source import ClassifierSource
from bench.methods.target_layer import find_target_layer
from ptame_deploy.errors import InvalidInputError, MissingRequirementError
from ptame_deploy.spatial import SpatialLayer
from ptame_deploy.vision import import_torchvision

if TYPE_CHECKING:
    from bench.measures.judge import Judge

# Name, label, class in pytorch_grad_cam, source.
_BY_GRADIENT = {
    "grad-cam": ("Grad-CAM", "GradCAM", "Selvaraju et al., ICCV 2017"),
    "grad-cam++": ("Grad-CAM++", "GradCAMPlusPlus", "Chattopadhay et al., WACV 2018"),
    "layer-cam": ("Layer-CAM", "LayerCAM", "Jiang et al., TIP 2021"),
    "hires-cam": ("HiRes-CAM", "HiResCAM", "Draelos and Carin, 2020"),
}
_BY_PASSES = {
    "score-cam": ("Score-CAM", "ScoreCAM", "Wang et al., CVPRW 2020"),
    "ablation-cam": ("Ablation-CAM", "AblationCAM", "Desai and Ramaswamy, WACV 2020"),
}
NAMES = {name: entry[0] for name, entry in (_BY_GRADIENT | _BY_PASSES).items()}
_BATCH = 32  # ablated copies at once, behind the target layer


def cam_methods(
    source: ClassifierSource, judge: "Judge", target_layer: str | None = None
) -> list[Row]:
    """Make the six methods on one layer, those that cannot run there with the reason.

    Args:
        source: the classifier.
        judge: the same classifier on a runtime, for Score-CAM's masked copies.
        target_layer: dotted name, or None to find it.

    Raises:
        MissingRequirementError: the grad-cam package is not there.
        InvalidInputError: the named layer cannot be used.
    """
    _require_grad_cam()
    try:
        layer = find_target_layer(source.backbone.module, source.example(), target_layer)
    except InvalidInputError as error:
        if target_layer is not None:
            raise
        return [Unavailable(name, label, "cam", str(error)) for name, label in NAMES.items()]
    settings = {"target_layer": layer.name}
    layer = replace(layer, name=f"module.{layer.name}")  # behind the normalisation
    rows: list[Row] = []
    for name, (label, kind, paper) in (_BY_GRADIENT | _BY_PASSES).items():
        by_gradient = name in _BY_GRADIENT
        if name == "ablation-cam" and layer.reshape is not None and not layer.extra_tokens:
            reason = f"grad-cam's Ablation-CAM knows no channels-last layers ({layer.name})"
            rows.append(Unavailable(name, label, "cam", reason.replace("module.", "", 1)))
            continue
        runtime = source.runtime
        if name == "score-cam":
            runtime = f"{source.runtime}; masked copies: {judge.runtime.description}"
        rows.append(
            Method(
                name=name,
                label=label,
                family="cam",
                explain=_explainer(kind, source, layer, judge),
                cost=Cost(forward=1, backward=1) if by_gradient else Cost(forward=layer.channels),
                runtime=runtime,
                settings={**settings, "paper": paper},
                identity=source.identity,
                classifier_cascade=_cascade(kind, source, layer) if by_gradient else None,
            )
        )
    return rows


def _require_grad_cam() -> None:
    import_torchvision()
    try:
        import pytorch_grad_cam  # noqa: F401
    except ImportError as error:
        message = f"grad-cam is not installed ({error}): {EXTRA}"
        raise MissingRequirementError(message) from error


def _cascade(kind: str, source: ClassifierSource, layer: SpatialLayer) -> Cascade:
    def explain_with(module: nn.Module) -> Explain:
        return _by_gradient(kind, source, module, layer)

    return Cascade(source.module, explain_with)


def _explainer(kind: str, source: ClassifierSource, layer: SpatialLayer, judge: "Judge") -> Explain:
    if kind == "ScoreCAM":
        return _score_cam(source, layer, judge)
    if kind == "AblationCAM":
        return _ablation_cam(source, layer)
    return _by_gradient(kind, source, source.module, layer)


def _by_gradient(
    kind: str, source: ClassifierSource, module: nn.Module, layer: SpatialLayer
) -> Explain:
    import pytorch_grad_cam

    def attribute(images: Tensor, index: Tensor) -> Tensor:
        target = module.get_submodule(layer.name)
        method = getattr(pytorch_grad_cam, kind)
        with _gradients_from(target), _cam(method, module, target, layer) as cam:
            return torch.from_numpy(cam(input_tensor=images, targets=_targets(index)))

    return lambda images, index: source.explain(attribute, images, index)


def _score_cam(source: ClassifierSource, layer: SpatialLayer, judge: "Judge") -> Explain:
    from pytorch_grad_cam import ScoreCAM

    class StreamedScoreCam(ScoreCAM):  # type: ignore[misc]
        """The package's, but masked copies are made and classified a few channels at a time.

        The package holds a copy of the photo for every channel, 1.2 GB for a ResNet-50. And the
        copies run on the judge's runtime, which is faster than PyTorch.
        """

        def get_cam_weights(
            self,
            input_tensor: Tensor,
            target_layers: object,  # noqa: ARG002 (the package's signature)
            targets: Sequence[Any],
            activations: NDArray[np.float32],
            grads: object,  # noqa: ARG002
        ) -> NDArray[np.float32]:
            weights = []
            for target, image, channels in zip(targets, input_tensor, activations, strict=True):
                scores: list[float] = []
                for part in torch.split(torch.from_numpy(channels)[:, None], judge.batch):
                    size = (image.shape[1], image.shape[2])
                    masks = functional.interpolate(part, size, mode="bilinear", align_corners=True)
                    low = masks.amin(dim=(2, 3), keepdim=True)
                    high = masks.amax(dim=(2, 3), keepdim=True)
                    masks = (masks - low) / (high - low + 1e-8)
                    logits = judge.logits((image.cpu() * masks).numpy())
                    scores += [float(target(row)) for row in torch.from_numpy(logits)]
                weights.append(torch.softmax(torch.tensor(scores), dim=0).numpy())
            return np.stack(weights)

    def attribute(images: Tensor, index: Tensor) -> Tensor:
        target = source.module.get_submodule(layer.name)
        with _cam(StreamedScoreCam, source.module, target, layer) as cam, torch.no_grad():
            return torch.from_numpy(cam(images, _targets(index)))

    return lambda images, index: source.explain(attribute, images, index)


def _ablation_cam(source: ClassifierSource, layer: SpatialLayer) -> Explain:
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit

    def attribute(images: Tensor, index: Tensor) -> Tensor:
        maps = []
        for one in range(len(images)):
            target = source.module.get_submodule(layer.name)
            hooks = set(target._forward_hooks)  # noqa: SLF001 (the package keeps no handle)
            ablation = AblationLayer() if layer.reshape is None else AblationLayerVit()
            arguments = {"ablation_layer": ablation, "batch_size": _BATCH}
            try:
                model = _UpstreamOnce(source.module)
                with _cam(AblationCAM, model, target, layer, **arguments) as cam:
                    maps.append(cam(images[one : one + 1], _targets(index[one : one + 1])))
            finally:  # on errors the package leaves its own layer and hook
                _put_back(source.module, layer.name, target)
                for key in set(target._forward_hooks) - hooks:  # noqa: SLF001
                    del target._forward_hooks[key]  # noqa: SLF001
        return torch.from_numpy(np.concatenate(maps))

    return lambda images, index: source.explain(attribute, images, index)


class _UpstreamOnce(nn.Module):
    """Runs what lies in front of the ablated layer for one copy instead of a whole batch of them.

    All copies are the same photo, and the package's ablation layer answers with a batch of its
    own, whatever comes in: 32 copies up to there are 31 too many. Shapes that meet again behind
    the layer broadcast. The first batch is run both ways; where they differ, all run in full.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.shortcut: bool | None = None  # unknown before the first batch

    def forward(self, copies: Tensor) -> Tensor:
        if len(copies) == 1 or self.shortcut is False:
            return self._full(copies)
        if self.shortcut:
            return self._full(copies[:1])
        full = self._full(copies)
        try:
            short = self._full(copies[:1])
        except RuntimeError:
            self.shortcut = False
        else:
            same = short.shape == full.shape
            self.shortcut = same and torch.allclose(short, full, rtol=1e-3, atol=1e-3)
        return full

    def _full(self, copies: Tensor) -> Tensor:
        logits: Tensor = self.module(copies)
        return logits


def _put_back(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)


@contextmanager
def _cam(
    kind: Callable[..., Any],
    module: nn.Module,
    target: nn.Module,
    layer: SpatialLayer,
    **arguments: Any,
) -> Iterator[Any]:
    """Make one of the package's methods; its hooks go, and its own progress is not printed."""
    cam = kind(model=module, target_layers=[target], reshape_transform=layer.reshape, **arguments)
    # What the package saves shares its memory with what goes on, and may be changed there in place.
    own = target.register_forward_hook(lambda _module, _inputs, output: output.clone())
    try:
        with redirect_stderr(StringIO()):
            yield cam
    finally:
        own.remove()
        cam.activations_and_grads.release()


@contextmanager
def _gradients_from(target: nn.Module) -> Iterator[None]:
    """Let gradients begin at the layer: a frozen classifier has none, and below none are needed."""

    def begin(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return output.detach().requires_grad_().clone()  # a clone may be changed in place

    handle = target.register_forward_hook(begin)
    try:
        with torch.enable_grad():
            yield
    finally:
        handle.remove()


def _targets(index: Tensor) -> Sequence[Any]:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    return [ClassifierOutputTarget(int(one)) for one in index]
