"""The classifier that judges: its probabilities for whole and masked photos, in full batches."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.measures.measure import Image
from engines.runtime import Runtime
from ptame_deploy.errors import CheckFailedError, InvalidInputError
from ptame_deploy.heads import Head, probabilities

Batch = TypeVar("Batch")


class Judge:
    """A classifier on any runtime, asked in batches of one size.

    The size is always the same, the last batch filled up: a runtime may compute a photo's answer
    slightly differently in another size, and a resumed run must give the same numbers.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        batch: int = 8,
        takes_uint8: bool = False,
        head: Head = "softmax",
    ) -> None:
        """Ask a classifier.

        Args:
            runtime: from ``image`` to ``logits``, normalising inside.
            batch: images that run together.
            takes_uint8: its ``image`` is uint8 (B, H, W, 3), not float32 (B, 3, H, W).
            head: what makes probabilities of its logits.

        Raises:
            InvalidInputError: a batch under 1.
        """
        if batch < 1:
            message = f"The batch size must be at least 1, got {batch}."
            raise InvalidInputError(message)
        self.runtime, self.batch, self.takes_uint8 = runtime, batch, takes_uint8
        self.head: Head = head

    def classify(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classify whole photos.

        Args:
            images: (N, 3, H, W) RGB in [0, 1].

        Returns:
            (N, classes) probabilities.

        Raises:
            CheckFailedError: the classifier answers with NaN or infinity.
        """
        return probabilities(self.logits(images), self.head)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, classes) logits; see `classify`."""
        found = [
            self._ask(images[start : start + self.batch])
            for start in range(0, len(images), self.batch)
        ]
        return np.concatenate(found)

    def probabilities(self, asked: Iterable[tuple[Image, int]]) -> NDArray[np.float32]:
        """Ask for one class's probability on each of many images; holds three batches of them.

        Args:
            asked: images (3, H, W) with the class that is asked for.

        Returns:
            (n,) probabilities, in order.

        Raises:
            CheckFailedError: the classifier answers with NaN or infinity.
        """
        found = [
            probabilities(self._ask(images), self.head)[np.arange(len(classes)), classes]
            for images, classes in _ahead(_batches(asked, self.batch))
        ]
        return np.concatenate(found) if found else np.empty(0, np.float32)

    def _ask(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(images)
        if count < self.batch:
            images = np.concatenate([images, np.repeat(images[-1:], self.batch - count, axis=0)])
        inputs = as_uint8(images) if self.takes_uint8 else np.ascontiguousarray(images)
        logits = self.runtime.run({"image": inputs})["logits"][:count]
        if not np.isfinite(logits).all():
            message = (
                "The classifier answers with NaN or infinity: it cannot judge. Its weights are "
                "broken, or its precision is too low for these photos."
            )
            raise CheckFailedError(message)
        return np.asarray(logits, np.float32)


def _batches(
    asked: Iterable[tuple[Image, int]], size: int
) -> Iterator[tuple[NDArray[np.float32], list[int]]]:
    images: NDArray[np.float32] | None = None
    classes: list[int] = []
    for image, index in asked:
        if images is None:
            images = np.empty((size, *image.shape), np.float32)
        images[len(classes)] = image
        classes.append(index)
        if len(classes) == size:
            yield images, classes
            images, classes = None, []
    if images is not None:
        yield images[: len(classes)], classes


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Make the next batch in a thread while this one is classified: neither waits for the other."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(next, batches, None)
        while (batch := waiting.result()) is not None:
            waiting = pool.submit(next, batches, None)
            yield batch


def as_uint8(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn (B, 3, H, W) in [0, 1] into uint8 (B, H, W, 3), as ``--input uint8`` graphs take it."""
    scaled = np.rint(images.transpose(0, 2, 3, 1) * 255)
    return np.ascontiguousarray(scaled.astype(np.uint8))
