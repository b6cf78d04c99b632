"""What every explanation method is to an evaluation: a function, its cost, and where it runs."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.methods.cost import Cost, Family
from ptame_deploy.errors import MissingRequirementError, PtameError

if TYPE_CHECKING:
    from torch import nn

Images = NDArray[np.float32]  # (B, 3, H, W), RGB in [0, 1]
Classes = NDArray[np.int64]  # (B,)
Maps = NDArray[np.float32]  # (B, h, w), larger is more important; of any range and size
Explain = Callable[[Images, Classes], Maps]

EXTRA = 'pip install "ptame-deploy[evaluate]"'


class MethodFailedError(PtameError):
    """A method gives no maps, or none that can be judged: a reason for its row."""


@contextmanager
def failing_alone() -> Iterator[None]:
    """Tell what a method cannot do from what ends an evaluation: a full disk, a photo that changed.

    Foreign methods on foreign classifiers raise almost anything.

    Raises:
        MethodFailedError: for whatever is raised inside.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        if not isinstance(error, PtameError):
            reason = f"{type(error).__name__}: {reason}".removesuffix(": ")
        raise MethodFailedError(reason) from error


@dataclass(frozen=True)
class Cascade:
    """What is randomised layer by layer to see whether a method's maps depend on it.

    Attributes:
        module: whose layers are randomised, in a copy.
        explain_with: makes the method anew for such a copy.
    """

    module: "nn.Module"
    explain_with: "Callable[[nn.Module], Explain]"


@dataclass(frozen=True)
class Method:
    """An explanation method, ready to run on one classifier.

    Attributes:
        name: on the command line and in files.
        label: in tables.
        family: what kind of method it is.
        explain: from images and one class each to maps.
        cost: classifier passes of one map; None where the maps were made elsewhere.
        runtime: name, version and device of what runs it.
        precision: of the networks that run.
        settings: all that its maps depend on besides networks and photos.
        identity: hash or name of the networks that it runs.
        own_classes: for one that cannot be told the class: like ``explain``, but gives the classes
            (B,) whose maps those are.
        classifier_cascade: randomises the classifier's layers; None without its source.
        own_cascade: randomises the layers of an explainer with networks of its own.
        cautions: what must stand beside its numbers.
    """

    name: str
    label: str
    family: Family
    explain: Explain
    cost: Cost | None
    runtime: str
    precision: str = "fp32"
    settings: Mapping[str, float | int | str] = field(default_factory=dict)
    identity: str = ""
    own_classes: Callable[[Images, Classes], Classes] | None = None
    classifier_cascade: Cascade | None = None
    own_cascade: Cascade | None = None
    cautions: tuple[str, ...] = ()

    @property
    def passes(self) -> int:
        """Of the classifier, for one map; 0 where the maps were made elsewhere."""
        return 0 if self.cost is None else self.cost.passes


@dataclass(frozen=True)
class Unavailable:
    """A method that cannot run here: a row with the reason.

    Attributes:
        name: on the command line and in files.
        label: in tables.
        family: what kind of method it is.
        reason: why, and what would help.
    """

    name: str
    label: str
    family: Family
    reason: str


Row = Method | Unavailable


def photo_seed(seed: int, image: NDArray[Any]) -> np.random.SeedSequence:
    """Return a seed that depends on one photo alone, not on its batch or place in a run.

    Args:
        seed: of the evaluation.
        image: one photo's pixels.
    """
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
    return np.random.SeedSequence([seed, int.from_bytes(digest[:8], "little")])


@contextmanager
def seeded_torch(seed: int, image: NDArray[Any]) -> Iterator[None]:
    """Seed PyTorch's and NumPy's global generators for one photo, and restore them."""
    import torch

    state = np.random.get_state()  # noqa: NPY002 (what captum draws from)
    number = int(photo_seed(seed, image).generate_state(1)[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def require_captum() -> None:
    """See that captum is there.

    Raises:
        MissingRequirementError: it is not.
    """
    try:
        import captum.attr  # noqa: F401
    except ImportError as error:
        message = f"captum is not installed ({error}): {EXTRA}"
        raise MissingRequirementError(message) from error
