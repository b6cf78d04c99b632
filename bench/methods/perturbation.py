"""Black-box methods on any runtime: RISE of our own; occlusion, LIME and KernelSHAP of captum's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.measures.judge import Judge, as_uint8
from bench.methods.cost import Cost
from bench.methods.method import (
    EXTRA,
    Classes,
    Explain,
    Images,
    Maps,
    Method,
    Row,
    Unavailable,
    require_captum,
    seeded_torch,
)
from bench.methods.rise import Rise, RiseSettings
from ptame_deploy.errors import MissingRequirementError

if TYPE_CHECKING:
    from torch import Tensor

RISE = "rise"
NAMES = {RISE: "RISE", "occlusion": "Occlusion", "lime": "LIME", "kernel-shap": "KernelSHAP"}


@dataclass(frozen=True)
class PerturbationSettings:
    """How many passes the methods take.

    Attributes:
        rise_masks: RISE's N (paper: 4000 to 8000).
        samples: of LIME and KernelSHAP.
        segments: superpixels (SLIC) that LIME and KernelSHAP turn on and off.
        windows: occluding squares side by side along a side of the photo; they overlap by half.
    """

    rise_masks: int = 1000
    samples: int = 500
    segments: int = 50
    windows: int = 7


def rise(judge: Judge, settings: PerturbationSettings, seed: int) -> Rise:
    """Return RISE as `perturbation_methods` runs it."""
    chosen = RiseSettings(masks=settings.rise_masks, batch=judge.batch, seed=seed)
    return Rise(judge.runtime, chosen, head=judge.head)


def perturbation_methods(
    judge: Judge, identity: str, precision: str, seed: int, settings: PerturbationSettings
) -> list[Row]:
    """Make the four methods; they ask the judge's own runtime, in its batches.

    Args:
        judge: the classifier.
        identity: hash of its graph.
        precision: its precision.
        seed: of masks and samples.
        settings: how many passes they take.
    """
    own_rise = rise(judge, settings, seed)
    told = own_rise.settings
    side = 2 * settings.windows - 1
    kinds: dict[str, tuple[Callable[[], Explain], Cost, dict[str, float | int | str]]] = {
        RISE: (
            lambda: _rise(judge, own_rise),
            Cost(forward=own_rise.passes_per_image),
            {"masks": told.masks, "cells": told.cells, "keep": told.keep, "seed": told.seed},
        ),
        "occlusion": (
            lambda: _occlusion(judge, settings),
            Cost(forward=side * side + 1),
            {"windows": settings.windows, "stride": "half a window", "baseline": "black"},
        ),
        "lime": (
            lambda: _by_segments("Lime", judge, settings, seed),
            Cost(forward=settings.samples),
            _segments_told(settings, seed),
        ),
        "kernel-shap": (
            lambda: _by_segments("KernelShap", judge, settings, seed),
            Cost(forward=settings.samples),
            _segments_told(settings, seed),
        ),
    }
    rows: list[Row] = []
    for name, (make, cost, own) in kinds.items():
        try:
            explain = make()
        except MissingRequirementError as error:
            rows.append(Unavailable(name, NAMES[name], "perturbation", str(error)))
            continue
        rows.append(
            Method(
                name=name, label=NAMES[name], family="perturbation", explain=explain, cost=cost,
                runtime=judge.runtime.description, precision=precision, settings=own,
                identity=identity,
            )
        )  # fmt: skip
    return rows


def _segments_told(settings: PerturbationSettings, seed: int) -> dict[str, float | int | str]:
    return {
        "samples": settings.samples,
        "segments": f"SLIC, about {settings.segments}",
        "baseline": "black",
        "seed": seed,
    }


def _rise(judge: Judge, method: Rise) -> Explain:
    return lambda images, index: method(as_uint8(images) if judge.takes_uint8 else images, index)


def _occlusion(judge: Judge, settings: PerturbationSettings) -> Explain:
    require_captum()
    import torch
    from captum.attr import Occlusion

    def explain(images: Images, index: Classes) -> Maps:
        height, width = images.shape[2:]
        window = (3, -(-height // settings.windows), -(-width // settings.windows))
        strides = (3, max(1, window[1] // 2), max(1, window[2] // 2))
        found = Occlusion(_scores(judge)).attribute(
            torch.from_numpy(np.ascontiguousarray(images)),
            sliding_window_shapes=window, strides=strides, baselines=0.0,
            target=torch.from_numpy(index),
            perturbations_per_eval=max(1, judge.batch // len(images)),
        )  # fmt: skip
        return np.asarray(found[:, 0].numpy(), np.float32)

    return explain


def _by_segments(kind: str, judge: Judge, settings: PerturbationSettings, seed: int) -> Explain:
    require_captum()
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        message = f"scikit-image is not installed ({error}): {EXTRA}"
        raise MissingRequirementError(message) from error
    import torch
    from captum import attr
    from captum._utils.models.linear_model import SkLearnRidge

    # LIME's own choice for images is ridge regression; captum's default (lasso, alpha 0.01) sets
    # nearly all coefficients of probabilities to 0.
    arguments = {"interpretable_model": SkLearnRidge(alpha=1.0)} if kind == "Lime" else {}

    def explain(images: Images, index: Classes) -> Maps:
        maps = []
        for image, one in zip(images, index, strict=True):
            segments = slic(image.transpose(1, 2, 0), n_segments=settings.segments, start_label=0)
            with seeded_torch(seed, image):
                method = getattr(attr, kind)(_scores(judge), **arguments)
                found = method.attribute(
                    torch.from_numpy(np.ascontiguousarray(image[None])),
                    baselines=0.0, target=int(one), n_samples=settings.samples,
                    feature_mask=torch.from_numpy(segments.astype(np.int64))[None, None],
                    perturbations_per_eval=judge.batch,
                )  # fmt: skip
            maps.append(found[0, 0].numpy())
        return np.stack(maps).astype(np.float32)

    return explain


def _scores(judge: Judge) -> "Callable[[Tensor], Tensor]":
    """Return captum's forward function: probabilities (B, classes) from the judge's runtime."""
    import torch

    return lambda images: torch.from_numpy(judge.classify(images.detach().numpy()))
