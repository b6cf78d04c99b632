"""What a bench run found, as it is written to JSON; units stand in the names."""

from typing import Literal

from pydantic import Field

from ptame_deploy.provenance import Provenance
from ptame_deploy.records import DriftRecord, Record


class Device(Record):
    """The machine."""

    cpu: str
    cores: int
    system: str
    gpu: str | None = None  # with compute capability and driver; None where there is none


class Latency(Record):
    """Time of single runs, one at a time, without transfers between host and device."""

    runs: int
    mean_ms: float
    min_ms: float
    p50_ms: float = Field(gt=0, allow_inf_nan=False)
    p90_ms: float
    p95_ms: float
    p99_ms: float
    variation_percent: float
    unstable: bool
    images_per_s: float


class Throughput(Record):
    """Images a second while callers keep the queue full, transfers included; the rounds' median."""

    rounds: int
    streams: int
    images_per_s: float
    min_images_per_s: float
    max_images_per_s: float
    variation_percent: float
    unstable: bool


class Ratio(Record):
    """A ratio of times: the median over the rounds, and their quartiles."""

    value: float
    p25: float
    p75: float
    rounds: int


class Memory(Record):
    """Peak memory of a fresh process above what it held before it opened the graph.

    ``peak_mb`` includes loading; ``run_peak_mb`` is the peak while the graph runs.
    """

    peak_mb: float
    run_peak_mb: float
    after_opening_mb: float


class Transfers(Record):
    """Copies between the host and the device that computes: medians, one batch each way."""

    upload_ms: float
    download_ms: float


class Reading(Record):
    """One contender at one batch size; what was not measured says why in ``reason``."""

    batch: int
    latency: Latency | None = None
    throughput: Throughput | None = None
    memory: Memory | None = None
    transfers: Transfers | None = None  # None where the host computes
    reason: str | None = None

    @property
    def images_per_s(self) -> float | None:
        """With the queue kept full, or of single runs where that was not measured."""
        figures = (self.throughput, self.latency)
        return next((figure.images_per_s for figure in figures if figure is not None), None)


class Contender(Record):
    """One row: the classifier alone, the fused graph, or the all-class form, on one runtime."""

    name: str
    status: Literal["measured", "skipped"]
    reason: str | None = None
    gmacs_per_image: float | None = None
    readings: list[Reading] = Field(default_factory=list)
    runtime: str | None = None  # where it is not the report's
    precision: str = "fp32"
    drift: DriftRecord | None = None  # against the FP32 graph, for other precisions
    drift_on: str | None = None  # what the drift was measured on, where not on this runtime


class RiseReading(Record):
    """RISE for one image, really run; transfers and other contenders' turns are not in its time."""

    status: Literal["measured", "skipped"]
    reason: str | None = None
    masks: int = 0
    batch: int = 0
    gmacs_per_image: float | None = None
    total_s: float | None = None
    classifier_pass_ms: float | None = None
    fused_batch1_ms: float | None = None
    overhead_over_classifier: float | None = None


class Comparison(Record):
    """A ratio of two contenders at one batch size.

    ``baseline/this`` is how many times as fast as the fused graph ``against`` the one called ``of``
    runs; ``fused/alone`` with ``of`` is of that fused graph and its own classifier.
    """

    name: Literal["fused/alone", "all-class/fused", "RISE/fused", "baseline/this"]
    of: str | None = None
    against: str | None = None
    batch: int
    time: Ratio
    macs: float | None = None
    time_over_macs: float | None = None


class MapDifference(Record):
    """The maps of the fused graph against those of the all-class form, on the same images."""

    images: int
    max_abs_difference: float
    mean_abs_difference: float
    tolerance: float
    equal: bool


class Subject(Record):
    """What was measured."""

    classifier: str
    auxiliary: str
    auxiliary_input_sizes: list[int]
    input_size: tuple[int, int]
    classes: int
    explained_classes: int
    precision: str
    form: str | None = None  # of an INT8 graph: for a CPU or for TensorRT
    graph_sha256: str
    cautions: list[str]

    @property
    def classifier_name(self) -> str:
        """The classifier without the folders that a user's file lies in."""
        return self.classifier.rpartition("/")[2]

    @property
    def pair(self) -> str:
        """Classifier and auxiliary, for tables."""
        return f"{self.classifier_name} + {self.auxiliary}"


class Settings(Record):
    """How it was measured."""

    mode: Literal["latency", "throughput", "both"]
    batches: list[int]
    seconds: float
    iterations: int
    warmup_seconds: float
    warmup_runs: int
    rounds: int
    streams: int
    threads: int
    rise_masks: int
    seed: int


class SpeedReport(Record):
    """One model's bench, as in its JSON."""

    schema_version: Literal[1] = 1
    kind: Literal["speed"] = "speed"
    provenance: Provenance
    device: Device
    runtime: str
    transfers: str
    subject: Subject
    settings: Settings
    contenders: list[Contender]
    rise: RiseReading
    comparisons: list[Comparison]
    maps: MapDifference | None
    maps_reason: str | None = None
    warnings: list[str]

    def comparison(self, name: str, batch: int, of: str | None = None) -> Comparison | None:
        """Return a ratio, or None where it was not measured."""
        found = (c for c in self.comparisons if (c.name, c.batch, c.of) == (name, batch, of))
        return next(found, None)

    def reading(self, contender: str, batch: int) -> Reading | None:
        """Return a contender's figures at a batch size, or None."""
        found = (r for c in self.contenders if c.name == contender for r in c.readings)
        return next((r for r in found if r.batch == batch), None)


class Figure(Record):
    """A figure that is held to a limit."""

    name: str
    value: float | None
    limit: float
    at_least: bool
    passed: bool
    reason: str | None = None


class SuiteReport(Record):
    """Several models' benches on one machine, and the figures that they are held to."""

    schema_version: Literal[1] = 1
    kind: Literal["speed-suite"] = "speed-suite"
    provenance: Provenance
    device: Device
    figures: list[Figure]
    reports: list[SpeedReport]
