"""Photos left out of training: does the explainer show what the classifier needs?

Judged by average drop and increase in confidence (`ptame_deploy.faithfulness`). What decides is the
contrast-matched form at 50 %: the published form improves by brightness alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptame_deploy.bootstrap import interval
from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.faithfulness import PERCENTAGES, masks
from ptame_deploy.floor_maps import centred_gaussian, random_map
from ptame_deploy.fused import min_max_normalise
from ptame_deploy.preprocessing import to_float
from trainer.class_agreement import ClassAgreement, judge_classes
from trainer.module import ExplainerModule
from trainer.parallel import gather_rows, rank, world_size
from trainer.result import Gain

DECISIVE = 50  # percent of the pixels that are kept
MEASURE = f"average drop at {DECISIVE} %, contrast-matched"
Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Judged:
    """One method's drops on the photos left out.

    Attributes:
        percent: of the pixels that are kept.
        matched: the contrast-matched form, or the published one.
        drop: (N,) in percent, lower is better.
        increase: (N,) 100 where confidence rose, else 0; higher is better.
    """

    percent: int
    matched: bool
    drop: NDArray[np.float64]
    increase: NDArray[np.float64]

    def record(self) -> dict[str, Any]:
        """Describe the means for a manifest."""
        drop, increase = interval(self.drop), interval(self.increase)
        assert drop is not None
        assert increase is not None
        return {
            "percent": self.percent,
            "contrast_matched": self.matched,
            "average_drop": drop.model_dump(),
            "increase": increase.model_dump(),
        }


class Validation:
    """Judges explainers on the same photos, in all processes together."""

    def __init__(self, module: ExplainerModule, images: NDArray[np.uint8], batch: int) -> None:
        """Prepare; nothing is computed yet.

        Args:
            module: its classifier and auxiliary, on whatever device they are by then.
            images: (N, H, W, 3) as the classifier sees them.
            batch: images at once.
        """
        self.module = module
        self.images = images
        self.batch = batch
        self._whole: list[tuple[Tensor, Tensor]] = []  # by batch; the classifier does not change

    def explainer_maps(self, explainer: ExplainerNet) -> Maps:
        """Return this process's maps (n, h, w) in [0, 1], in eval mode."""
        training = explainer.training
        explainer.eval()
        found = []
        for images in self._batches():
            target, features = self.module.observe(images)
            with torch.no_grad():
                maps = min_max_normalise(explainer.class_maps(features, target[:, None]))
            found.append(maps[:, 0].float().cpu().numpy())
        explainer.train(training)
        return np.concatenate(found) if found else np.empty((0, *self._size), np.float32)

    def floor_maps(self, seed: int) -> dict[str, Maps]:
        """Return this process's floors: the centred Gaussian, and random maps."""
        mine = range(rank(), len(self.images), world_size())
        noise = [random_map(np.random.default_rng([seed, number])) for number in mine]
        bell = centred_gaussian(*self._size)
        return {
            "gaussian": np.broadcast_to(bell, (len(noise), *bell.shape)),
            "random": np.stack(noise) if noise else np.empty((0, *self._size), np.float32),
        }

    def judge(
        self, maps: Maps, percentages: tuple[int, ...] = (DECISIVE,), *, published: bool = True
    ) -> list[Judged]:
        """Hide what maps leave out, and ask the classifier again.

        Args:
            maps: (n, h, w) in [0, 1] of this process's photos.
            percentages: of the pixels that are kept.
            published: judge the published form too.

        Returns:
            A judgement for each percentage and form, over all processes' photos.
        """
        kinds = [
            (p, form) for p in percentages for form in ((True, False) if published else (True,))
        ]
        columns: list[list[Tensor]] = [[] for _ in range(len(kinds) + 1)]
        for at, images in enumerate(self._batches()):
            part = maps[at * self.batch :][: len(images)]
            if at == len(self._whole):
                self._whole.append(self._confidence(images, None))
            before, target = self._whole[at]
            columns[0].append(before)
            for column, (percent, matched) in zip(columns[1:], kinds, strict=True):
                kept = masks(part, self._size, percent, matched=matched)
                hidden = images * torch.from_numpy(kept)[:, None].to(images.device)
                column.append(self._confidence(hidden, target)[0])
        whole, *hidden_answers = [self._joined(column) for column in columns]
        return [
            Judged(
                percent,
                matched,
                drop=100 * np.maximum(0.0, whole - answer) / whole,
                increase=np.where(answer > whole, 100.0, 0.0),
            )
            for (percent, matched), answer in zip(kinds, hidden_answers, strict=True)
        ]

    def judge_all(self, maps: Mapping[str, Maps]) -> dict[str, list[Judged]]:
        """Judge several methods by all percentages and both forms."""
        return {name: self.judge(one, PERCENTAGES) for name, one in maps.items()}

    def agreement(self, explainer: ExplainerNet) -> ClassAgreement:
        """Judge maps of the two best classes; see `trainer.class_agreement`."""
        return judge_classes(self.module, explainer, self.images, self.batch)

    @property
    def _size(self) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]

    def _batches(self) -> Iterator[Tensor]:
        mine = self.images[rank() :: world_size()]
        device = self.module.classifier.mean.device
        for start in range(0, len(mine), self.batch):
            yield torch.from_numpy(to_float(mine[start : start + self.batch])).to(device)

    def _confidence(self, images: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the probabilities (B,) of the classes, by default the best ones, and these."""
        with torch.no_grad():
            classifier = self.module.classifier
            probabilities = classifier.probabilities(classifier(images))
        chosen = probabilities.argmax(dim=1) if target is None else target
        return probabilities.gather(1, chosen[:, None])[:, 0], chosen

    def _joined(self, column: list[Tensor]) -> NDArray[np.float64]:
        device = self.module.classifier.mean.device
        mine = torch.cat(column) if column else torch.empty(0, device=device)
        return gather_rows(mine)[0].double().cpu().numpy()


def decisive(judged: list[Judged]) -> NDArray[np.float64]:
    """Return the drops (N,) that decide whether one explainer is better than another."""
    return next(one.drop for one in judged if one.matched and one.percent == DECISIVE)


def compare(start: list[Judged], trained: list[Judged]) -> Gain:
    """Compare an explainer with its start, photo by photo."""
    return Gain.of(MEASURE, decisive(start), decisive(trained), lower_is_better=True)
