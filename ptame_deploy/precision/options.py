"""How a graph's precision is lowered, and what the result must hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.precision import calibration
from ptame_deploy.records import CalibrationMethod, Target, Tolerance
from ptame_deploy.storage import cache_folder

Lowered = Literal["fp16", "int8"]

TOLERANCES: dict[Lowered, Tolerance] = {
    "fp16": Tolerance(top1_agreement=0.998, map_mean=0.02),
    "int8": Tolerance(top1_agreement=0.97, pearson=0.98),
}
# The search aims at this share of what the tolerance allows: it sees other photos than the judge.
MARGIN = 0.5


@dataclass(frozen=True)
class QuantizeOptions:
    """How to lower a graph's precision.

    Attributes:
        precision: ``fp16`` or ``int8``.
        target: what will run an INT8 graph; the form differs.
        method: of calibration, or ``sweep`` to try all and keep the best.
        keep: blocks that stay in FP32, as the sensitivity report names them.
        most_kept: blocks that the search may keep in FP32 beside those; 0 for no search.
        sensitivity: report every block's cost, also where nothing has to be searched.
        calibration_photos: to calibrate on, at most, and as many others to search on.
        report_photos: to judge by, at most.
        tolerance: what the drift must hold; None for the precision's own.
        allow_drift: keep the graph also where it does not.
        threads: of ONNX Runtime; 0 for one a core.
        cache: folder of calibration caches; None for no cache.
    """

    precision: Lowered
    target: Target = "cpu"
    method: CalibrationMethod | Literal["sweep"] = "percentile"
    keep: Sequence[str] = ()
    most_kept: int = 8
    sensitivity: bool = False
    calibration_photos: int = 128
    report_photos: int = 400
    tolerance: Tolerance | None = None
    allow_drift: bool = False
    threads: int = 0
    cache: Path | None = field(default_factory=lambda: cache_folder(calibration.CACHE))

    def __post_init__(self) -> None:
        for name, least in (("most_kept", 0), ("calibration_photos", 1), ("report_photos", 1)):
            if getattr(self, name) < least:
                message = f"{name} must be at least {least}, got {getattr(self, name)}."
                raise InvalidInputError(message)

    @property
    def limits(self) -> Tolerance:
        """What the drift must hold."""
        return self.tolerance or TOLERANCES[self.precision]

    @property
    def search_limits(self) -> Tolerance:
        """What the search aims at; see `MARGIN`."""
        limits = self.limits
        return Tolerance(
            top1_agreement=1 - MARGIN * (1 - limits.top1_agreement),
            map_mean=None if limits.map_mean is None else MARGIN * limits.map_mean,
            pearson=None if limits.pearson is None else 1 - MARGIN * (1 - limits.pearson),
        )
