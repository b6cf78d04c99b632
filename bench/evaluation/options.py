"""What an evaluation can be set to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.evaluation.rise_curve import CurveSettings
from bench.methods.given_maps import GivenMaps
from bench.methods.registry import MethodSettings
from ptame_deploy.errors import InvalidInputError


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate.

    Attributes:
        methods: names; None for all.
        measures: names; None for all.
        maps: folders of maps that other tools made.
        steps: points of the insertion and deletion curves.
        seed: of everything random.
        batch: copies of photos that the judge sees at once.
        costly_passes: methods of more passes a photo run on fewer photos.
        costly_limit: on how many at most.
        costly_budget: and in how many passes over all photos.
        gallery: draw a few photos by all methods.
        retime: time methods again that were timed in an earlier run.
        sanity_photos: photos of the sanity checks; 0 for none.
        settings: of the methods.
        curve: of RISE.
    """

    methods: Sequence[str] | None = None
    measures: Sequence[str] | None = None
    maps: Sequence[GivenMaps] = ()
    steps: int = 20
    seed: int = 0
    batch: int = 8
    costly_passes: int = 64
    costly_limit: int = 25
    costly_budget: int = 25_000
    gallery: bool = True
    retime: bool = False
    sanity_photos: int = 8
    settings: MethodSettings = field(default_factory=MethodSettings)
    curve: CurveSettings = field(default_factory=CurveSettings)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "costly_limit"):
            if getattr(self, name) < 1:
                message = f"{name} must be at least 1, got {getattr(self, name)}."
                raise InvalidInputError(message)
