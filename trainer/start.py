"""Where training begins: an activation map, a linear fit to the classifier, or chance."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer import ExplainerNet, shares_classes, start_explainer
from ptame_deploy.fused import NormalisedClassifier
from ptame_deploy.heads import Head
from ptame_deploy.part_records import Start
from trainer.data import Batch, BatchKeys, PhotoBatches, load_batches
from trainer.sources import Photo

StartChoice = Literal["auto", "activation-map", "fit", "random"]
# A line through fewer photos says nothing about others.
MIN_FIT_PHOTOS = 2
# Enough for 1280 features; the fit stays in seconds and its matrices under 100 MB.
MAX_FIT_PHOTOS = 4096
# Ridge penalties that are tried, relative to the features' mean variance.
_PENALTIES = tuple(10.0**exponent for exponent in range(-3, 5))


@dataclass(frozen=True)
class LinearFit:
    """How well the pooled features predict the classifier.

    Attributes:
        photos: that it was fitted on.
        penalty: ridge penalty, relative to the features' mean variance.
        r2: share of the logits' variance that is predicted on photos left out (leave-one-out).
    """

    photos: int
    penalty: float
    r2: float


@dataclass(frozen=True)
class Started:
    """An explainer before training.

    Attributes:
        explainer: in eval mode, on the CPU.
        start: how it starts.
        fit: the linear fit, where there was one.
        skipped: photos that the fit could not read, with the reason.
    """

    explainer: ExplainerNet
    start: Start
    fit: LinearFit | None = None
    skipped: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Describe the start for a manifest."""
        return {"start": self.start, "fit": None if self.fit is None else asdict(self.fit)}


def choose_start(choice: StartChoice, backbone: Backbone, auxiliary: Auxiliary) -> Start:
    """Turn the user's choice into a start.

    ``auto`` is the auxiliary's class activation map where the classes are shared, else a fit.

    Raises:
        InvalidInputError: an activation map was asked for, but the classes are others.
    """
    shared = shares_classes(auxiliary, backbone.num_classes, backbone.class_names)
    if choice == "auto":
        return "activation-map" if shared else "fit"
    if choice == "activation-map" and not shared:
        message = (
            f"The {backbone.num_classes} classes of {backbone.name} are not those of "
            f"{auxiliary.name}: no activation map to start from. Use --start fit."
        )
        raise InvalidInputError(message)
    return choice


def start_on_photos(
    backbone: Backbone,
    auxiliary: Auxiliary,
    photos: Sequence[Photo],
    choice: StartChoice,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    say: Callable[[str], None],
) -> Started:
    """Make the start that the user chose, reading photos where it needs them.

    Args:
        backbone: the classifier.
        auxiliary: gives the features.
        photos: where they are; those that cannot be read are skipped and named.
        choice: of the user.
        batch_size: photos at once.
        workers: processes that decode photos.
        seed: of everything random.
        say: is told what is happening.

    Raises:
        InvalidInputError: an impossible choice, or too few photos that can be read.
    """
    start = choose_start(choice, backbone, auxiliary)
    if start == "fit" and choice == "auto" and len(photos) < MIN_FIT_PHOTOS:
        say("One photo is too few to fit a start to: starting at random.")
        start = "random"
    chosen = list(photos)
    if start == "fit":
        if len(chosen) > MAX_FIT_PHOTOS:
            random = np.random.default_rng(seed)
            picks = random.choice(len(chosen), MAX_FIT_PHOTOS, replace=False)
            chosen = [chosen[index] for index in sorted(picks)]
        if choice == "auto":
            say(f"The classes of {backbone.name} are not those of {auxiliary.name}.")
        say(f"Fitting {auxiliary.name}'s features to the classifier on {len(chosen)} photos ...")
        if torch.cuda.is_available():
            backbone.module.cuda()
            auxiliary.cuda()
    batches = load_batches(
        PhotoBatches(chosen, backbone.preprocessing, augment=False),
        BatchKeys(len(chosen), batch_size, seed=seed, shuffle=False),
        workers=workers,
    )
    started = make_start(start, backbone, auxiliary, batches, seed=seed)
    if started.fit is not None:
        say(f"  predicts {max(started.fit.r2, 0):.0%} of the logits' variance on photos left out")
    return started


def make_start(
    start: Start,
    backbone: Backbone,
    auxiliary: Auxiliary,
    batches: Iterable[Batch],
    *,
    seed: int = 0,
) -> Started:
    """Make the explainer that training begins with.

    Args:
        start: see `choose_start`.
        backbone: the classifier.
        auxiliary: gives the features.
        batches: the user's photos as the classifier sees them; read for ``fit`` only.
        seed: for what starts at random.

    Raises:
        InvalidInputError: too few photos could be read for a fit.
    """
    if start == "activation-map":
        explainer, _ = start_explainer(
            auxiliary, backbone.num_classes, backbone.class_names, seed=seed
        )
        return Started(explainer.eval(), start)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        explainer = ExplainerNet(auxiliary.channels, backbone.num_classes)
    explainer.make_branches_identities()
    if start == "random":
        return Started(explainer.eval(), start)
    features, logits, skipped = collect(backbone, auxiliary, batches)
    if len(features) < MIN_FIT_PHOTOS:
        message = (
            f"The start is a fit of the auxiliary's features to the classifier and needs at least "
            f"{MIN_FIT_PHOTOS} photos; {len(features)} could be read. Give more photos, or use "
            f"--start random.{_reasons(skipped)}"
        )
        raise InvalidInputError(message)
    weights, fit = ridge_fit(features, logits, backbone.head)
    # The fit is the embedding that the auxiliary lacks: the start is its activation map.
    explainer.initialise_activation_map(weights.float(), auxiliary.deepest_taps)
    return Started(explainer.eval(), start, fit, skipped)


def collect(
    backbone: Backbone, auxiliary: Auxiliary, batches: Iterable[Batch]
) -> tuple[Tensor, Tensor, list[str]]:
    """Run classifier and auxiliary over photos.

    Args:
        backbone: the classifier, on the auxiliary's device.
        auxiliary: gives the features.
        batches: images in [0, 1].

    Returns:
        The deepest taps' features after ReLU, averaged over positions and input sizes, (N, D)
        float64, which is what a map of theirs sums up; the logits (N, classes) float64; and what
        was skipped.
    """
    classifier = NormalisedClassifier(backbone).eval()
    device = classifier.mean.device
    features, logits, skipped = [], [], []
    with torch.no_grad():
        for batch in batches:
            skipped += batch.skipped
            if not len(batch.images):
                continue
            images = batch.images.to(device)
            answer, taps = auxiliary.observe(classifier, images)
            deepest = [taps[tap].relu().mean(dim=(2, 3)) for tap in auxiliary.deepest_taps]
            features.append(torch.stack(deepest).mean(dim=0).cpu().double())
            logits.append(answer.cpu().double())
    if not features:
        return torch.empty(0, 0), torch.empty(0, 0), skipped
    return torch.cat(features), torch.cat(logits), skipped


def ridge_fit(features: Tensor, logits: Tensor, head: Head = "softmax") -> tuple[Tensor, LinearFit]:
    """Predict the classifier's centred logits from pooled features, in closed form.

    Logits are centred over the classes where softmax does not see that, and both sides over the
    photos, since a map has no intercept. The penalty is the one with the least leave-one-out
    error (Allen's PRESS statistic, exact from one decomposition).

    Args:
        features: (N, D) float64, N >= 2.
        logits: (N, classes) float64.
        head: what makes probabilities of them.

    Returns:
        Weights (classes, D) float64, and how well they predict.

    Raises:
        InvalidInputError: the logits are not finite, or the same for every photo.
    """
    photos = len(features)
    target = logits - logits.mean(dim=1, keepdim=True) if head == "softmax" else logits
    target = target - target.mean(dim=0)
    x = features - features.mean(dim=0)
    variance = target.square().sum()
    if not torch.isfinite(variance) or not torch.isfinite(x).all():
        message = (
            "The classifier or the auxiliary gives values that are not finite on these photos."
        )
        raise InvalidInputError(message)
    if variance == 0:
        message = (
            "The classifier gives the same logits for every photo: nothing to fit or explain. "
            "Check the photos and the classifier's preprocessing."
        )
        raise InvalidInputError(message)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    energy, projected = s.square(), u.T @ target
    scale = (energy.sum() / features.shape[1]).clamp(min=torch.finfo(x.dtype).tiny)
    best: tuple[float, float] | None = None
    for penalty in _PENALTIES:
        shrink = energy / (energy + penalty * scale)
        residual = target - u @ (shrink[:, None] * projected)
        leverage = (u.square() * shrink).sum(dim=1) + 1 / photos  # 1/N is the means' own
        error = (residual / (1 - leverage).clamp(min=1e-9)[:, None]).square().sum().item()
        if best is None or error < best[0]:
            best = (error, penalty)
    assert best is not None
    error, penalty = best
    chance = variance.item() / (1 - 1 / photos) ** 2  # the error of the other photos' mean
    weights = v.T @ ((s / (energy + penalty * scale))[:, None] * projected)  # (D, classes)
    return weights.T, LinearFit(photos, penalty, 1 - error / chance)


def _reasons(skipped: list[str]) -> str:
    return "".join(f"\n  - {reason}" for reason in skipped[:5])
