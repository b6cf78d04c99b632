"""From logits to probabilities: one class of many, or each class for itself."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.errors import InvalidInputError

_TINY = 1e-12
_ROUNDING = 1e-3  # of sums of probabilities
# softmax: exactly one class is right. sigmoid: any number of them (multi-label; one logit: binary).
Head = Literal["softmax", "sigmoid"]


def names_function(head: str | None) -> bool:
    """Whether a head is a function's import string rather than a head's name."""
    return head is not None and ":" in head


def checked_head(text: str | None) -> Head | None:
    """Return a head by name; None stays None.

    Raises:
        InvalidInputError: there is none of that name.
    """
    if text is not None and text not in get_args(Head):
        message = (
            f"--head is softmax, sigmoid, or a function of yours (file.py:function), got {text!r}."
        )
        raise InvalidInputError(message)
    return text  # type: ignore[return-value]


def probabilities(logits: NDArray[np.float32], head: Head = "softmax") -> NDArray[np.float32]:
    """Return the probabilities of (N, classes) logits, likewise (N, classes)."""
    if head == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits.clip(-80, 80))), np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def are_shares(found: NDArray[np.float32]) -> bool:
    """Whether answers (N, classes) are probabilities already, of which exactly one is right."""
    values = found.astype(np.float64)
    return bool(
        values.shape[1] > 1
        and (values >= 0).all()
        and np.allclose(values.sum(axis=1), 1, atol=_ROUNDING)
    )


def logits_of(probability: NDArray[np.float32], head: Head) -> NDArray[np.float32]:
    """Return logits that `probabilities` makes these (N, classes) of again."""
    certain = np.clip(np.asarray(probability, np.float64), _TINY, 1.0)
    logits = np.log(certain)
    if head == "sigmoid":
        logits -= np.log(np.clip(1 - certain, _TINY, 1.0))
    return np.asarray(logits, np.float32)


def log_probability(
    logits: NDArray[np.float64], index: int, head: Head = "softmax"
) -> NDArray[np.float64]:
    """Return the log-probability of one class of (N, classes) logits, (N,)."""
    if head == "sigmoid":
        return np.asarray(-np.logaddexp(0, -logits[:, index]), np.float64)
    return np.asarray(logits[:, index] - np.logaddexp.reduce(logits, axis=1), np.float64)


def evidence(
    logits: NDArray[np.float64], index: int, head: Head = "softmax"
) -> NDArray[np.float64]:
    """Return what speaks for one class of (N, classes) logits by itself, (N,).

    Its probability says that of the answer alone: under a softmax, another class's probability
    rises with all that is hidden of the answer. Its logit does not; softmax does not see what all
    logits have in common, so that this is taken away.
    """
    own = logits[:, index]
    return np.asarray(own - logits.mean(axis=1) if head == "softmax" else own, np.float64)
