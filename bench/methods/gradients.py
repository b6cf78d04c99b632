"""Gradient methods through captum: Integrated Gradients, SmoothGrad, Input x Gradient."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.methods.cost import Cost
from bench.methods.method import Cascade, Explain, Method, require_captum, seeded_torch
from bench.methods.source import ClassifierSource

NAMES = {
    "integrated-gradients": "Integrated Gradients",
    "smooth-grad": "SmoothGrad",
    "input-x-gradient": "Input x Gradient",
}
_AT_ONCE = 4  # copies of photos at once: gradients of more take gigabytes


@dataclass(frozen=True)
class GradientSettings:
    """How many passes the methods take.

    Attributes:
        steps: of Integrated Gradients' path from black to the photo (paper: 20 to 300).
        samples: noisy copies of SmoothGrad (paper: about 50).
        noise: SmoothGrad's, as a share of the photo's range (paper: 0.1 to 0.2).
    """

    steps: int = 32
    samples: int = 25
    noise: float = 0.15


def gradient_methods(
    source: ClassifierSource, seed: int, settings: GradientSettings | None = None
) -> list[Method]:
    """Make the three methods.

    Args:
        source: the classifier.
        seed: of SmoothGrad's noise.
        settings: how many passes they take.

    Raises:
        MissingRequirementError: captum is not there.
    """
    require_captum()
    chosen = settings or GradientSettings()
    makers: dict[str, tuple[Callable[[nn.Module], _Attribute], Cost, dict[str, float | str]]] = {
        "integrated-gradients": (
            lambda module: _integrated_gradients(module, chosen.steps),
            Cost(forward=chosen.steps, backward=chosen.steps),
            {"steps": chosen.steps, "baseline": "black", "map": "sum over channels"},
        ),
        "smooth-grad": (
            lambda module: _smooth_grad(module, chosen, seed),
            Cost(forward=chosen.samples, backward=chosen.samples),
            {"samples": chosen.samples, "noise": chosen.noise, "seed": seed,
             "map": "magnitude, summed over channels"},
        ),
        "input-x-gradient": (
            _input_x_gradient, Cost(forward=1, backward=1), {"map": "sum over channels"},
        ),
    }  # fmt: skip
    return [
        Method(
            name=name,
            label=NAMES[name],
            family="gradient",
            explain=_explain(source, make(source.module)),
            cost=cost,
            runtime=source.runtime,
            settings=told,
            identity=source.identity,
            classifier_cascade=Cascade(source.module, _explain_with(source, make)),
        )
        for name, (make, cost, told) in makers.items()
    ]


_Attribute = Callable[[Tensor, Tensor], Tensor]


def _explain(source: ClassifierSource, attribute: _Attribute) -> Explain:
    return lambda images, index: source.explain(attribute, images, index)


def _explain_with(
    source: ClassifierSource, make: Callable[[nn.Module], _Attribute]
) -> Callable[[nn.Module], Explain]:
    return lambda module: _explain(source, make(module))


def _integrated_gradients(module: nn.Module, steps: int) -> _Attribute:
    from captum.attr import IntegratedGradients

    def attribute(images: Tensor, index: Tensor) -> Tensor:
        found: Tensor = IntegratedGradients(module).attribute(
            images, baselines=torch.zeros_like(images), target=index, n_steps=steps,
            internal_batch_size=max(_AT_ONCE, len(images)),
        )  # fmt: skip
        return found.sum(dim=1)

    return attribute


def _smooth_grad(module: nn.Module, settings: GradientSettings, seed: int) -> _Attribute:
    from captum.attr import NoiseTunnel, Saliency

    def attribute(images: Tensor, index: Tensor) -> Tensor:
        maps = []
        for image, one in zip(images, index, strict=True):
            spread = settings.noise * float(image.max() - image.min())
            with seeded_torch(seed, image.cpu().numpy()):
                found = NoiseTunnel(Saliency(module)).attribute(
                    image[None], nt_type="smoothgrad", nt_samples=settings.samples,
                    nt_samples_batch_size=min(_AT_ONCE, settings.samples),
                    stdevs=spread, target=one[None], abs=False,
                )  # fmt: skip
            maps.append(found.abs().sum(dim=1))
        return torch.cat(maps)

    return attribute


def _input_x_gradient(module: nn.Module) -> _Attribute:
    from captum.attr import InputXGradient

    def attribute(images: Tensor, index: Tensor) -> Tensor:
        method = InputXGradient(module)
        parts = zip(images.split(_AT_ONCE), index.split(_AT_ONCE), strict=True)
        found = [method.attribute(some.requires_grad_(), target=which) for some, which in parts]
        return torch.cat(found).sum(dim=1)

    return attribute
