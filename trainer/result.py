"""What every recipe gives."""

from dataclasses import dataclass
from typing import Any

from ptame_deploy.artifacts import Start
from ptame_deploy.explainer import ExplainerNet


@dataclass(frozen=True)
class Trained:
    """A trained explainer.

    Attributes:
        explainer: in eval mode, on the CPU.
        start: what it began with.
        record: how it was trained, for its manifest.
        skipped: photos that could not be read, each with the reason.
    """

    explainer: ExplainerNet
    start: Start
    record: dict[str, Any]
    skipped: list[str]
