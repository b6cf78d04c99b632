"""Checks that no judge is needed for: does a map depend on the class, the weights, slight noise?

Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, for the weights; the class and
noise as in Yeh et al., "On the (in)fidelity and sensitivity of explanations", NeurIPS 2019.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.evaluation.collect import Bench, checked
from bench.evaluation.photos import Photo
from bench.evaluation.results import CascadeStep, SanityRecord
from bench.evaluation.store import fingerprint
from bench.measures.similarity import spearman
from bench.methods.method import Cascade, Explain, Method, failing_alone, photo_seed
from ptame_deploy.bootstrap import Interval, interval

if TYPE_CHECKING:
    import torch
    from torch import nn

NOISE = 0.02  # standard deviation, of RGB in [0, 1]: about 5 of 255
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the layers, besides the topmost one alone
TOO_COSTLY = "takes too many passes a photo for this check"
MADE_ELSEWHERE = "maps that were made elsewhere"
NO_LAYERS = "the layers of what it explains are not at hand"


def check_sanity(bench: Bench, method: Method, photos: Sequence[Photo], seed: int) -> SanityRecord:
    """Make the checks on a few photos, or take them from the store.

    Args:
        bench: preprocessing and store.
        method: to check.
        photos: a few.
        seed: of noise and shuffled weights.

    Raises:
        MethodFailedError: the method fails.
        PtameError: a photo was changed, or nothing can be stored.
    """
    if method.cost is None:
        return unchecked(MADE_ELSEWHERE)
    if bench.is_costly(method):
        return unchecked(TOO_COSTLY)
    asked = [(photo.sha256, photo.class_index, photo.second_index) for photo in photos]
    key = fingerprint(bench.method_key(method), asked, seed, NOISE, SHARES)
    kept = bench.store.numbers("sanity", method.name, key, SanityRecord.model_validate)
    if kept is not None:
        return kept
    images = bench.images(photos)
    with failing_alone():
        record = _check(method, photos, images, seed)
    bench.store.keep_numbers("sanity", method.name, key, record.model_dump(mode="json"))
    return record


def unchecked(reason: str) -> SanityRecord:
    """Return what stands in the place of checks that were not made."""
    return SanityRecord(reasons={"other_class": reason, "noise": reason, "cascade": reason})


def _check(
    method: Method, photos: Sequence[Photo], images: NDArray[np.float32], seed: int
) -> SanityRecord:
    best = np.array([photo.class_index for photo in photos], np.int64)
    second = np.array([photo.second_index for photo in photos], np.int64)
    maps = _run(method.explain, images, best, method.label)
    reasons: dict[Any, str] = {}
    other_class = None
    if method.own_classes is not None:
        reasons["other_class"] = "it chooses the class itself"
    else:
        other_class = _similarity(maps, _run(method.explain, images, second, method.label), seed)
    noisy = _run(method.explain, _noisy(images, seed), best, method.label)

    def again(cascade: Cascade | None) -> list[CascadeStep]:
        if cascade is None:
            return []
        return _cascade(cascade, method.label, images, best, seed)

    cascade = again(method.classifier_cascade)
    if not cascade:
        reasons["cascade"] = NO_LAYERS
    return SanityRecord(
        other_class=other_class,
        noise=_similarity(maps, noisy, seed),
        cascade=cascade,
        own_cascade=again(method.own_cascade),
        reasons=reasons,
    )


def _run(
    explain: Explain, images: NDArray[np.float32], index: NDArray[np.int64], label: str
) -> NDArray[np.float32]:
    return checked(explain(images, index), len(images), label)


def _similarity(
    maps: NDArray[np.float32], others: NDArray[np.float32], seed: int
) -> Interval | None:
    found = [spearman(one, other) for one, other in zip(maps, others, strict=True)]
    return interval(np.array(found), seed=seed)


def _noisy(images: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    changed = []
    for image in images:
        generator = np.random.default_rng(photo_seed(seed, image))
        noise = generator.normal(0, NOISE, image.shape)
        changed.append(np.clip(image + noise, 0, 1).astype(np.float32))
    return np.stack(changed)


def _cascade(
    cascade: Cascade,
    label: str,
    images: NDArray[np.float32],
    best: NDArray[np.int64],
    seed: int,
) -> list[CascadeStep]:
    """Shuffle the weights of more and more layers from the top, and compare the maps."""
    before = _run(cascade.explain_with(cascade.module), images, best, label)
    steps = []
    for count, total, name, module in _shuffled(cascade.module, seed):
        after = _run(cascade.explain_with(module), images, best, label)
        similarity = _similarity(before, after, seed)
        assert similarity is not None
        steps.append(CascadeStep(layers=count, of=total, deepest=name, similarity=similarity))
    return steps


def _shuffled(module: "nn.Module", seed: int) -> Iterator[tuple[int, int, str, "nn.Module"]]:
    """Yield copies in which more and more layers from the top have shuffled weights.

    Each tensor's values are put in random order: the same distribution without its structure, so
    that answers neither vanish nor explode, as they do with fresh weights in front of old ones.
    """
    import torch

    changed = copy.deepcopy(module)
    layers = [(name, one) for name, one in _top_down("", changed) if list(_tensors(one))]
    stops = sorted({1, *(max(1, round(share * len(layers))) for share in SHARES)})
    generator = torch.Generator().manual_seed(seed)
    done = 0
    for stop in stops:
        for _, layer in layers[done:stop]:
            for tensor in _tensors(layer):
                order = torch.randperm(tensor.numel(), generator=generator)
                flat = tensor.detach().cpu().reshape(-1)[order].reshape(tensor.shape)
                tensor.data.copy_(flat)
        done = stop
        yield stop, len(layers), layers[stop - 1][0] or "the whole", changed


def _top_down(name: str, module: "nn.Module") -> "Iterator[tuple[str, nn.Module]]":
    """Walk a network from its outputs to its inputs, as far as its modules' order tells."""
    yield name, module
    for child, one in reversed(list(module.named_children())):
        yield from _top_down(f"{name}.{child}" if name else child, one)


def _tensors(layer: "nn.Module") -> "Iterator[torch.Tensor]":
    """Yield a layer's own weights; normalisation statistics are kept: they fit what comes in."""
    yield from (p for p in layer.parameters(recurse=False) if p.numel() > 1)
    fusion = dict(layer.named_buffers(recurse=False)).get("fusion")  # the explainer's, folded
    if fusion is not None:
        yield fusion
