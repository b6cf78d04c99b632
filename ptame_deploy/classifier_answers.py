"""Is this the classifier that an explainer was trained for? Told by its answers to the same images.

Weights do not tell all: the code around them may have changed, and of a function from images to
probabilities, which may ask anything, there are none.
"""

import hashlib

import numpy as np
import torch

from ptame_deploy.artifacts import AnswerRecord
from ptame_deploy.backbones import Backbone
from ptame_deploy.fused import NormalisedClassifier
from ptame_deploy.synthetic import synthetic_images

IMAGES = 4
BEST = 5
# Of the ratio of two probabilities: what FP16 or rounding to bytes changes, and no other classifier
# of the same classes keeps to; beside `_LEAST`, which no answer is exact to.
TOLERANCE = 0.2
_LEAST = 1e-3


def record_answers(backbone: Backbone) -> list[AnswerRecord]:
    """Ask a classifier for its `BEST` classes of each of `IMAGES` images of random blocks."""
    records = []
    for found in _probabilities(backbone):
        best = np.argsort(-found, kind="stable")[:BEST]
        records.append(
            AnswerRecord(
                class_index=[int(index) for index in best],
                probability=[round(float(found[index]), 6) for index in best],
            )
        )
    return records


def other_answer(backbone: Backbone, records: list[AnswerRecord]) -> str | None:
    """Compare a classifier's answers with those that were recorded.

    Returns:
        What the worst of the differences is, in words; None where the answers are alike.
    """
    worst, told = TOLERANCE, None
    for found, record in zip(_probabilities(backbone), records, strict=False):
        for index, expected in zip(record.class_index, record.probability, strict=True):
            here = float(found[index])
            ratio = abs(float(np.log((here + _LEAST) / (expected + _LEAST))))
            if not ratio <= worst:
                worst, told = ratio, f"class {index} with {expected:.3g} there, {here:.3g} here"
    return told


def answers_sha256(backbone: Backbone) -> str:
    """Hash a classifier's answers to the same images: its best logits, to three digits.

    Another machine may round otherwise: equal hashes say that classifiers are alike, different ones
    do not say that they are not.
    """
    told = []
    for logits in _logits(backbone)[1].double().cpu().numpy():
        best = np.argsort(-logits, kind="stable")[:BEST]
        told.append(" ".join(f"{index} {logits[index]:.3g}" for index in best))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _probabilities(backbone: Backbone) -> np.ndarray:
    classifier, logits = _logits(backbone)
    return np.asarray(classifier.probabilities(logits).cpu().numpy())


@torch.no_grad()
def _logits(backbone: Backbone) -> tuple[NormalisedClassifier, torch.Tensor]:
    height, width = backbone.preprocessing.input_size
    images = torch.from_numpy(synthetic_images(IMAGES, height, width))
    classifier = NormalisedClassifier(backbone).eval()
    return classifier, classifier(images.to(classifier.mean.device))
