"""RISE: a saliency map from many classifications of randomly masked copies of the image.

Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
BMVC 2018. Needs nothing of the classifier but its answers. Masks are made in a stream, one batch at
a time, so that memory does not grow with their number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtime import Runtime
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.heads import Head, probabilities
from ptame_deploy.random_masks import stream_masks


@dataclass(frozen=True)
class RiseSettings:
    """The method's parameters; the defaults are the paper's, but for the number of masks.

    Attributes:
        masks: classifier passes an image (paper: 4000 to 8000).
        cells: side of the coarse random grid.
        keep: probability that a grid cell stays visible.
        batch: masked copies that the classifier sees at once.
        seed: of the masks; the same for every image and every batch size.
    """

    masks: int = 1000
    cells: int = 7
    keep: float = 0.5
    batch: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.masks < 1 or self.cells < 1 or self.batch < 1 or not 0 < self.keep < 1:
            message = (
                "RISE needs at least 1 mask, 1 cell, a batch of 1 and 0 < keep < 1; got "
                f"{self.masks} masks, {self.cells} cells, batch {self.batch}, keep {self.keep}."
            )
            raise InvalidInputError(message)


class Rise:
    """RISE on any classifier that a `Runtime` runs.

    The classifier takes ``image`` and gives ``logits``, normalising inside, as the graphs of
    ``ptame export`` do: a masked pixel is black.
    """

    def __init__(
        self,
        classifier: Runtime,
        settings: RiseSettings | None = None,
        *,
        head: Head = "softmax",
    ) -> None:
        """Explain a classifier.

        Args:
            classifier: from ``image`` to ``logits``; an output more does no harm.
            settings: the method's parameters.
            head: what makes probabilities of its logits.
        """
        self.classifier = classifier
        self.head: Head = head
        self.settings = settings or RiseSettings()

    @property
    def passes_per_image(self) -> int:
        """What one map costs, in classifier passes."""
        return self.settings.masks

    def __call__(
        self,
        images: NDArray[Any],
        class_index: NDArray[np.integer[Any]],
        *,
        advance: Callable[[int], None] = lambda _: None,
    ) -> NDArray[np.float32]:
        """Make a map for each image and its class.

        Args:
            images: float32 (B, 3, H, W) in [0, 1], or uint8 (B, H, W, 3), as the graph takes it.
            class_index: (B,) the class to explain of each image.
            advance: called after every batch with the number of classifier passes it took.

        Returns:
            (B, H, W) float32: the masks' mean, weighted by the probability that the class has
            behind each, over ``keep`` (paper, equation 6). Not normalised to [0, 1].

        Raises:
            InvalidInputError: images or classes of a wrong shape, or a class that does not exist.
        """
        counts = (self.settings.masks,)
        return next(self.stream(images, class_index, counts, advance=advance))

    def stream(
        self,
        images: NDArray[Any],
        class_index: NDArray[np.integer[Any]],
        counts: Sequence[int],
        *,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Iterator[NDArray[np.float32]]:
        """Give the maps after several numbers of masks, from one stream of them.

        Args:
            images: as for a call.
            class_index: as for a call.
            counts: numbers of masks, increasing; the last one at most ``settings.masks``.
            advance: as for a call.

        Yields:
            (B, H, W) float32 for each count.

        Raises:
            InvalidInputError: as for a call, or counts that do not increase or are too many.
        """
        index = np.asarray(class_index)
        _check(images, index)
        _check_counts(counts, self.settings.masks)
        channels_last = images.dtype == np.uint8
        height, width = images.shape[1:3] if channels_last else images.shape[2:4]
        total = np.zeros((len(images), height * width))
        masked = np.empty((self.settings.batch, *images.shape[1:]), images.dtype)
        weights = np.empty((len(images), self.settings.batch), np.float32)
        done, waiting = 0, list(counts)
        stream = stream_masks(
            self.settings.masks, height, width,
            cells=self.settings.cells, keep=self.settings.keep, batch=self.settings.batch,
            seed=self.settings.seed,
        )  # fmt: skip
        for masks in stream:
            visible = masks[..., None] if channels_last else masks[:, None]
            copies = masked[: len(masks)]
            for position, image in enumerate(images):
                _apply(image, visible, copies)
                logits = self.classifier.run({"image": copies})["logits"]
                weights[position, : len(masks)] = _probability(
                    logits, int(index[position]), self.head
                )
                advance(len(masks))
            flat, used = masks.reshape(len(masks), -1), 0
            while waiting and waiting[0] <= done + len(masks):
                stop = waiting[0] - done
                total += weights[:, used:stop] @ flat[used:stop]
                used = stop
                maps = total.reshape(len(images), height, width) / (waiting[0] * self.settings.keep)
                yield maps.astype(np.float32)
                waiting.pop(0)
            if not waiting:
                return
            total += weights[:, used : len(masks)] @ flat[used:]
            done += len(masks)


def _apply(image: NDArray[Any], visible: NDArray[np.float32], out: NDArray[Any]) -> None:
    if image.dtype == np.uint8:
        out[:] = np.rint(image * visible)
    else:
        np.multiply(image, visible, out=out)


def _probability(logits: NDArray[Any], index: int, head: Head) -> NDArray[np.float32]:
    """Return the class's probability for each row."""
    if index >= logits.shape[1]:
        message = (
            f"Class {index} does not exist: the classifier has classes 0 to {logits.shape[1] - 1}."
        )
        raise InvalidInputError(message)
    return probabilities(logits, head)[:, index]


def _check_counts(counts: Sequence[int], masks: int) -> None:
    increases = all(low < high for low, high in pairwise(counts))
    if not counts or counts[0] < 1 or counts[-1] > masks or not increases:
        message = f"Numbers of masks must increase from 1 to {masks}, got {list(counts)}."
        raise InvalidInputError(message)


def _check(images: NDArray[Any], class_index: NDArray[Any]) -> None:
    if images.ndim != 4 or len(images) == 0:
        message = f"Images must be (B, 3, H, W) or (B, H, W, 3) with B >= 1, got {images.shape}."
        raise InvalidInputError(message)
    if class_index.shape != (len(images),) or class_index.dtype.kind not in "iu":
        message = (
            f"One class for each of the {len(images)} images is needed as integers (B,), got "
            f"{class_index.dtype} {class_index.shape}."
        )
        raise InvalidInputError(message)
    if class_index.min() < 0:
        message = f"Class {class_index.min()} does not exist: classes start at 0."
        raise InvalidInputError(message)
