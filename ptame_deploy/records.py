"""Parts of manifests that say how a graph's precision was lowered, and what that cost."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Precision = Literal["fp32", "fp16", "int8"]
Target = Literal["tensorrt", "cpu"]
CalibrationMethod = Literal["minmax", "entropy", "percentile"]


class Record(BaseModel):
    """A part of a manifest: unchangeable, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def first_fault(error: ValidationError) -> str:
    """Say in one line what is wrong with a document: the first field that is, why, its value."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")  # pydantic's, of our own sentences
    where = ".".join(str(part) for part in first["loc"])
    if not where:
        return reason
    given = (
        f" (got {first['input']!r:.60})" if isinstance(first["input"], str | int | float) else ""
    )
    return f"{where}: {reason}{given}"


class DriftRecord(Record):
    """A graph's answers against those of the FP32 graph, on the same real photos.

    Probabilities are softmax; maps are compared for the FP32 graph's top class, on the ``maps``
    photos where both graphs explain it.
    """

    photos: int
    top1_agreement: float
    probability_mean: float  # absolute difference, of the top class
    probability_max: float  # of any class
    maps: int
    map_mean: float  # absolute difference, pixels and photos averaged
    map_max: float
    pearson: float  # mean over photos
    pearson_min: float
    spearman: float


class DropIncreaseRecord(Record):
    """Average drop and increase in confidence of the FP32 graph's maps and of this graph's.

    In percent, judged by the FP32 graph; see `ptame_deploy.faithfulness`.
    """

    form: Literal["published", "contrast-matched"]
    percent: int
    photos: int
    reference_drop: float
    drop: float
    reference_increase: float
    increase: float


class Tolerance(Record):
    """What the drift must hold; None where a measure is not held to anything."""

    top1_agreement: float = Field(ge=0, le=1)
    map_mean: float | None = Field(default=None, ge=0)
    pearson: float | None = Field(default=None, ge=-1, le=1)


class CalibrationRecord(Record):
    """What the ranges of activations were taken from."""

    method: CalibrationMethod
    photos: int
    data_sha256: str
    key: str  # of graph, data, method and tools; the cache's
    swept: dict[CalibrationMethod, float] = {}  # error by method, where several were tried


class SensitivityRecord(Record):
    """What one block costs: the error of the whole graph with this block left in FP32.

    The error is the total variation distance of the probabilities plus the mean map difference,
    averaged over photos; ``gain`` is by how much it falls.
    """

    block: str
    nodes: int
    error: float
    gain: float


class PrecisionRecord(Record):
    """How a graph's precision was lowered."""

    source_graph_sha256: str
    target: Target | None = None
    calibration: CalibrationRecord | None = None
    lowered_nodes: int
    kept_blocks: list[str]  # in FP32, by search or by hand
    kept_nodes: int
    drift: DriftRecord
    tolerance: Tolerance
    misses: list[str]  # what is out of tolerance, where that was allowed
    faithfulness: list[DropIncreaseRecord]
    sensitivity: list[SensitivityRecord] = []
