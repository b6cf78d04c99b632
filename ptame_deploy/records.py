"""What records are made of; those of how a graph's precision was lowered, and what that cost."""

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

    Maps are compared for the FP32 graph's top class; for the first of the explained ones where the
    graph explains named classes and the top one is none of them.

    Attributes:
        photos: that both graphs answered.
        top1_agreement: share of these on which both name the same class.
        probability_mean: absolute difference of the top class's probability (softmax or sigmoid,
            as the classifier's head says), mean over photos.
        probability_max: largest difference of any class's.
        maps: photos where both graphs explain the class whose maps are compared.
        map_mean: absolute difference of the maps, pixels and photos averaged.
        map_max: largest difference of any pixel.
        pearson: correlation of the maps, mean over photos.
        pearson_min: of the photo where it is least.
        spearman: correlation of the maps' ranks, mean over photos.
    """

    photos: int
    top1_agreement: float
    probability_mean: float
    probability_max: float
    maps: int
    map_mean: float
    map_max: float
    pearson: float
    pearson_min: float
    spearman: float


class DropIncreaseRecord(Record):
    """Average drop and increase in confidence of the FP32 graph's maps and of this graph's.

    In percent, judged by the FP32 graph; see `ptame_deploy.faithfulness`.

    Attributes:
        form: with the maps' soft values, or with every map replaced by its ranks.
        percent: of the pixels that are kept.
        photos: for which both graphs explain one class.
        reference_drop: of the FP32 graph's maps.
        drop: of this graph's.
        reference_increase: of the FP32 graph's maps.
        increase: of this graph's.
    """

    form: Literal["published", "contrast-matched"]
    percent: int
    photos: int
    reference_drop: float
    drop: float
    reference_increase: float
    increase: float


class Tolerance(Record):
    """What the drift must hold; None where a measure is not held to anything.

    Attributes:
        top1_agreement: at least.
        map_mean: at most.
        pearson: at least.
    """

    top1_agreement: float = Field(ge=0, le=1)
    map_mean: float | None = Field(default=None, ge=0)
    pearson: float | None = Field(default=None, ge=-1, le=1)


class CalibrationRecord(Record):
    """What the ranges of activations were taken from.

    Attributes:
        method: from activations to a range.
        photos: that were run.
        data_sha256: hash of these photos as the graph saw them.
        key: the cache's, of graph, data, method and tools.
        swept: the graph's error by method, where several were tried.
    """

    method: CalibrationMethod
    photos: int
    data_sha256: str
    key: str
    swept: dict[CalibrationMethod, float] = {}


class SensitivityRecord(Record):
    """What one block costs: the error of the whole graph with this block left in FP32.

    Attributes:
        block: its name.
        nodes: of the graph in it.
        error: total variation distance of the probabilities plus the mean map difference, averaged
            over photos.
        gain: by how much it falls, from that with all blocks lowered.
    """

    block: str
    nodes: int
    error: float
    gain: float


class PrecisionRecord(Record):
    """How a graph's precision was lowered.

    Attributes:
        source_graph_sha256: hash of the FP32 graph's file.
        target: for whose kernels; None for FP16, which is for all.
        calibration: where ranges of activations come from; None where there are none.
        lowered_nodes: layers with weights that run in the lower precision.
        kept_blocks: that stay in FP32, by search or by hand.
        kept_nodes: layers with weights that stay in FP32.
        drift: from the FP32 graph.
        tolerance: that the drift was held to.
        misses: what is out of tolerance, where that was allowed.
        faithfulness: of both graphs' maps.
        sensitivity: what each block costs, where that was searched.
    """

    source_graph_sha256: str
    target: Target | None = None
    calibration: CalibrationRecord | None = None
    lowered_nodes: int
    kept_blocks: list[str]
    kept_nodes: int
    drift: DriftRecord
    tolerance: Tolerance
    misses: list[str]
    faithfulness: list[DropIncreaseRecord]
    sensitivity: list[SensitivityRecord] = []
