"""How far a graph of another precision drifts from the FP32 graph, on real photos.

Graph against graph, output by output: does it still name the same class, with the same
probability, for the same reason?
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.errors import CheckFailedError
from ptame_deploy.faithfulness import PERCENTAGES, DropIncrease, drop_and_increase, masks
from ptame_deploy.heads import Head, probabilities
from ptame_deploy.onnx_session import Graph
from ptame_deploy.records import DriftRecord, DropIncreaseRecord, Tolerance

BATCH = 8


@dataclass(frozen=True)
class Answers:
    """What a graph says of N photos.

    Attributes:
        probability: (N, classes) float32.
        class_index: (N, K) int64, the explained classes.
        saliency: (N, K, h, w) float32.
    """

    probability: NDArray[np.float32]
    class_index: NDArray[np.int64]
    saliency: NDArray[np.float32]

    @property
    def top(self) -> NDArray[np.int64]:
        """(N,) each photo's most probable class."""
        return np.asarray(self.probability.argmax(axis=1), np.int64)

    @property
    def explained(self) -> NDArray[np.int64]:
        """(N,) the class whose map is compared: the most probable one, or else the first."""
        has_top = (self.class_index == self.top[:, None]).any(axis=1)
        return np.where(has_top, self.top, self.class_index[:, 0])

    def maps_of(self, classes: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Find each photo's map of one class.

        Args:
            classes: (N,).

        Returns:
            (N,) whether the graph explained that class, and (N, h, w) its map where it did.
        """
        hits = self.class_index == classes[:, None]
        return hits.any(axis=1), self.saliency[np.arange(len(classes)), hits.argmax(axis=1)]


def ask(
    graph: Graph,
    images: NDArray[np.generic],
    classes: NDArray[np.int64] | None = None,
    *,
    head: Head = "softmax",
) -> Answers:
    """Run a graph over photos, a few at a time.

    Args:
        graph: what to run.
        images: (N, ...) as the graph takes them.
        classes: (N, K) for graphs that take the classes to explain.
        head: of the classifier.

    Raises:
        CheckFailedError: answers that are NaN or infinite.
    """
    found: list[Answers] = []
    for part in batches(len(images)):
        asked = None if classes is None else classes[part]
        outputs = graph(images[part], asked)
        logits = np.asarray(outputs["logits"], np.float32)
        maps = np.asarray(outputs["saliency"], np.float32)
        if not (np.isfinite(logits).all() and np.isfinite(maps).all()):
            message = "The graph answers with NaN or infinity on these photos: its range is left."
            raise CheckFailedError(message)
        index = outputs["class_index"] if asked is None else asked
        found.append(Answers(probabilities(logits, head), np.asarray(index, np.int64), maps))
    return Answers(
        np.concatenate([answers.probability for answers in found]),
        np.concatenate([answers.class_index for answers in found]),
        np.concatenate([answers.saliency for answers in found]),
    )


def ask_reference(
    graph: Graph, images: NDArray[np.generic], *, takes_classes: bool, head: Head = "softmax"
) -> Answers:
    """Run the graph that others are compared with: each photo's best class is explained.

    Args:
        graph: what to run.
        images: (N, ...) as the graph takes them.
        takes_classes: it must be told the classes: it is asked for the best ones first.
        head: of the classifier.

    Raises:
        CheckFailedError: answers that are NaN or infinite.
    """
    if not takes_classes:
        return ask(graph, images, head=head)
    best = ask(graph, images, np.zeros((len(images), 1), np.int64), head=head).top
    return ask(graph, images, best[:, None], head=head)


def compare(reference: Answers, found: Answers) -> DriftRecord:
    """Compare two graphs' answers to the same photos.

    Maps are compared for the reference's top class (of graphs that explain named classes, for the
    first of these where it is not the top one), where the other graph explains that class too.

    Args:
        reference: of the FP32 graph.
        found: of the other one.

    Raises:
        CheckFailedError: no photo's map could be compared.
    """
    top = reference.top
    rows = np.arange(len(top))
    difference = np.abs(reference.probability - found.probability)
    compared = reference.explained
    both, maps = found.maps_of(compared)
    _, own = reference.maps_of(compared)
    if not both.any():
        message = "The two graphs explain no class in common on any of these photos."
        raise CheckFailedError(message)
    pairs = list(zip(own[both], maps[both], strict=True))
    gaps = [np.abs(a - b) for a, b in pairs]
    pearson = [correlation(a, b) for a, b in pairs]
    spearman = [correlation(average_ranks(a), average_ranks(b)) for a, b in pairs]
    return DriftRecord(
        photos=len(top),
        top1_agreement=float((found.top == top).mean()),
        probability_mean=float(difference[rows, top].mean()),
        probability_max=float(difference.max()),
        maps=int(both.sum()),
        map_mean=float(np.mean([gap.mean() for gap in gaps])),
        map_max=float(np.max([gap.max() for gap in gaps])),
        pearson=float(np.mean(pearson)),
        pearson_min=float(np.min(pearson)),
        spearman=float(np.mean(spearman)),
    )


def faithfulness(
    judge: Graph,
    images: NDArray[np.float32],
    reference: Answers,
    found: Answers,
    prepare: Callable[[NDArray[np.float32]], NDArray[np.generic]],
    *,
    head: Head = "softmax",
) -> list[DropIncreaseRecord]:
    """Measure average drop and increase in confidence of both graphs' maps.

    Args:
        judge: the FP32 graph, which classifies the masked photos.
        images: (N, 3, H, W) in [0, 1].
        reference: the FP32 graph's answers.
        found: the other graph's, for the same photos.
        prepare: turns (B, 3, H, W) in [0, 1] into what the judge takes.
        head: of the classifier.

    Returns:
        A record for each form and percentage, over the photos for which both explain one class.
    """
    classes = reference.explained
    both, maps = found.maps_of(classes)
    _, own = reference.maps_of(classes)
    before = reference.probability[np.arange(len(classes)), classes][both]

    def measure(saliency: NDArray[np.float32], percent: int, *, matched: bool) -> DropIncrease:
        kept = masks(saliency, images.shape[2:], percent, matched=matched)
        after = []
        for part in batches(len(kept)):
            masked = prepare(images[both][part] * kept[part][:, None])
            asked = classes[both][part][:, None]
            logits = np.asarray(judge(masked, asked)["logits"], np.float32)
            probability = probabilities(logits, head)
            after.append(np.take_along_axis(probability, asked, axis=1)[:, 0])
        return drop_and_increase(before, np.concatenate(after))

    records = []
    for matched in (False, True):
        for percent in PERCENTAGES:
            ours = measure(own[both], percent, matched=matched)
            theirs = measure(maps[both], percent, matched=matched)
            records.append(
                DropIncreaseRecord(
                    form="contrast-matched" if matched else "published",
                    percent=percent,
                    photos=int(both.sum()),
                    reference_drop=ours.average_drop,
                    drop=theirs.average_drop,
                    reference_increase=ours.increase,
                    increase=theirs.increase,
                )
            )
    return records


def misses(drift: DriftRecord, tolerance: Tolerance) -> list[str]:
    """Say what is out of tolerance, each with its value and limit."""
    found = []
    if not drift.top1_agreement >= tolerance.top1_agreement:
        found.append(
            f"top-1 agreement {drift.top1_agreement:.2%} is under {tolerance.top1_agreement:.2%}"
        )
    if tolerance.map_mean is not None and not drift.map_mean <= tolerance.map_mean:
        found.append(f"mean map difference {drift.map_mean:.4f} is over {tolerance.map_mean:g}")
    if tolerance.pearson is not None and not drift.pearson >= tolerance.pearson:
        found.append(f"Pearson of the maps {drift.pearson:.4f} is under {tolerance.pearson:g}")
    return found


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """Return slices of at most ``size`` that cover ``count`` photos."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return Pearson's correlation of two maps; 0 where one is flat and the other is not."""
    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    if scale == 0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(x @ y / scale)


def average_ranks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each value's rank; equal values share the mean of their ranks (Spearman's)."""
    flat = values.reshape(-1)
    _, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse].astype(np.float32)
