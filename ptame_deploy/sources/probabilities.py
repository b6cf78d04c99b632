"""Classifiers that answer with probabilities where logits are expected."""

from dataclasses import replace

from torch import Tensor, nn

from ptame_deploy.backbones import Backbone
from ptame_deploy.heads import are_shares

_TINY = 1e-12


class LogProbabilities(nn.Module):
    """A classifier that ends in a softmax, and its logarithm: softmax makes the same of that."""

    def __init__(self, classifier: nn.Module) -> None:
        """Take a classifier from normalised images (B, 3, H, W) to probabilities (B, classes)."""
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        probabilities: Tensor = self.classifier(image)
        return probabilities.clamp(min=_TINY).log()


def without_second_softmax(backbone: Backbone, answers: Tensor) -> Backbone:
    """Take the logarithm of a classifier's answers where they are probabilities already.

    Args:
        backbone: the classifier.
        answers: its own, (B, classes), to images of any kind.
    """
    if backbone.head != "softmax" or not are_shares(answers.numpy()):
        return backbone
    return replace(backbone, module=LogProbabilities(backbone.module))


def looks_like_probabilities(backbone: Backbone, answers: Tensor) -> str | None:
    """Tell what is odd about answers that all lie in [0, 1], as logits hardly do.

    Args:
        backbone: the classifier.
        answers: its own, (B, classes), to images of any kind.

    Returns:
        None where nothing is.
    """
    if not bool(((answers >= 0) & (answers <= 1)).all()):
        return None
    again = "softmax" if backbone.head == "softmax" else "a second sigmoid"
    return (
        f"{backbone.name} answers with numbers that all lie in [0, 1]. If they are probabilities "
        f"already, {again} is wrong for them: return logits, or give --head file.py:function that "
        "returns them as they are."
    )
