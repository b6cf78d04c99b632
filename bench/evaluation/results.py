"""What an evaluation writes down: results.json, from which tables and page are made."""

from typing import Literal

from pydantic import Field

from bench.measures.measure import Column
from bench.methods.cost import Cost, Family
from bench.results import Device
from ptame_deploy.bootstrap import Interval
from ptame_deploy.provenance import Provenance
from ptame_deploy.records import Record

Choice = Literal["best", "worst", "random"]


class MeasureRecord(Column):
    """One column of the tables, with the settings of its measure."""

    settings: dict[str, float | str]


class MapTime(Record):
    """Milliseconds of one map within its batch: median and quartiles over the runs."""

    median_ms: float
    p25_ms: float
    p75_ms: float
    batch: int
    runs: int


class CascadeStep(Record):
    """Similarity of the maps before and after a share of the layers was randomised, from the top.

    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, section 3.
    """

    layers: int  # randomised so far
    of: int
    deepest: str  # the last one that was randomised
    similarity: Interval  # Spearman's rank correlation of the pixels


class SanityRecord(Record):
    """Checks that need no judge: Spearman's rank correlation of two maps of one photo.

    A check that could not be made is None, and says why in ``reasons``, by field.
    """

    other_class: Interval | None = None  # map of the second class; near 1 ignores the class
    noise: Interval | None = None  # map of the photo with slight noise; near 1 is stable
    cascade: list[CascadeStep] = Field(default_factory=list)  # near 1 ignores the classifier
    # Of an explainer with networks of its own, which the classifier's layers do not reach.
    own_cascade: list[CascadeStep] = Field(default_factory=list)
    reasons: dict[Literal["other_class", "noise", "cascade"], str] = Field(default_factory=dict)


class MethodRecord(Record):
    """One method's row. What could not run says why in ``reason``; so does one on fewer photos."""

    name: str
    label: str
    family: Family
    status: Literal["measured", "skipped"]
    reason: str | None = None
    runtime: str | None = None
    precision: str | None = None
    settings: dict[str, float | int | str] = Field(default_factory=dict)
    cautions: list[str] = Field(default_factory=list)
    cost: Cost | None = None
    time: MapTime | None = None
    photos: int = 0
    other_class: int = 0  # photos on which it explains another class than the judge's
    values: dict[str, Interval] = Field(default_factory=dict)  # by measure column
    # This method minus the reference (P-TAME) and minus the centred Gaussian, photo by photo.
    against_reference: dict[str, Interval] = Field(default_factory=dict)
    against_gaussian: dict[str, Interval] = Field(default_factory=dict)
    curves: dict[str, list[float]] = Field(default_factory=dict)  # mean, by measure name
    sanity: SanityRecord | None = None


class Verdict(Record):
    """Who wins on a measure that contrast cannot move; nobody where an interval includes 0.

    Only methods that were measured on every photo of the evaluation take part, and of P-TAME only
    the reference and the untrained start: its other precisions and runtimes are the same method.
    """

    column: str
    winner: str | None  # a method's name
    best: str  # smallest or largest mean, winner or not
    undecided: list[str] = Field(default_factory=list)  # whose paired difference includes 0


class ContrastRecord(Record):
    """The reference's maps raised to a power: the same ranking of pixels, another contrast."""

    exponent: float
    values: dict[str, Interval]


class RisePoint(Record):
    """RISE with a number of masks, on the photos of its curve."""

    masks: int
    correlation: Interval | None  # Pearson, with another seed's map of as many masks
    values: dict[str, Interval]


class RiseCurve(Record):
    """RISE's quality against its cost, and the reference on the same photos."""

    photos: int
    points: list[RisePoint]
    reference: dict[str, Interval]
    seeds: tuple[int, int]


class GalleryEntry(Record):
    """One photo by all methods; pictures are files beside results.json."""

    photo: str  # name as in values.csv
    choice: Choice
    title: str  # class name and probability
    score: float | None  # what it was chosen by, where it was not random
    picture: str
    overlays: dict[str, str]  # method name -> file


class Subject(Record):
    """What explains and what is explained."""

    classifier: str
    classifier_sha256: str | None
    classes: int
    input_size: tuple[int, int]
    auxiliary: str
    explainer_state: str
    graph_sha256: str | None
    cautions: list[str]


class EvaluationSettings(Record):
    """How it was evaluated."""

    seed: int
    batch: int
    limit: int | None
    costly_passes: int  # methods of more passes than this a photo ran on `costly_limit` photos
    costly_limit: int  # photos at most; and passes over all photos:
    costly_budget: int
    sanity_photos: int
    bootstrap: int
    interval_percent: float


class Evaluation(Record):
    """One evaluation, as in its results.json."""

    schema_version: Literal[1] = 1
    kind: Literal["evaluation"] = "evaluation"
    provenance: Provenance
    packages: dict[str, str]  # of the libraries that the rivals come from
    device: Device
    subject: Subject
    judge: str  # the classifier, precision and runtime that judges
    judge_sha256: str  # of its weights, and of its graph where that is not FP32
    photos: int
    photos_sha256: str  # of the photos' hashes in the order of evaluation
    values_sha256: str  # of values.csv
    skipped: list[str]  # photos that could not be read, with reasons
    settings: EvaluationSettings
    measures: list[MeasureRecord]
    fractions: dict[str, list[float]]  # share of changed pixels of each curve, by measure name
    reference: str | None  # name of the method that the others are compared with
    methods: list[MethodRecord]
    verdicts: list[Verdict]
    contrast: list[ContrastRecord] = Field(default_factory=list)
    rise_curve: RiseCurve | None = None
    gallery: list[GalleryEntry] = Field(default_factory=list)
    gallery_column: str | None = None  # what its best and worst were chosen by
    warnings: list[str] = Field(default_factory=list)
    peak_memory_mb: float | None = None  # of the process that finished the evaluation

    def method(self, name: str) -> MethodRecord | None:
        """Return a method's row, or None."""
        return next((method for method in self.methods if method.name == name), None)
