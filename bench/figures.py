"""The limits that the speed of this project is held to."""

from bench.results import Figure, Memory, SpeedReport
from bench.variants import ALONE, FUSED
from engines.doctor import integer_kernels
from ptame_deploy.precision.options import TOLERANCES

MAX_TIME_OVER_MACS = 1.10
MIN_ALL_CLASS_OVER_FUSED = {1: 1.25, 8: 1.4}
MAX_RISE_OVERHEAD = 1.10
MEMORY_BATCH = 8
MAX_MEMORY_RATIO = 1.5
INT8_ROW, INT8_BATCH, MIN_INT8_SPEED_UP = f"{FUSED}, int8, cpu form", 8, 2.0


def time_figures(report: SpeedReport) -> list[Figure]:
    """Hold fused / alone to its limit: 1.10 times the ratio of their multiply-adds."""
    figures = []
    for batch in report.settings.batches:
        found = report.comparison("fused/alone", batch)
        value = None if found is None else found.time_over_macs
        name = f"fused/alone over its multiply-adds, {report.subject.pair}, batch {batch}"
        figures.append(_figure(name, value, MAX_TIME_OVER_MACS, at_least=False))
    return figures


def memory_figures(report: SpeedReport) -> list[Figure]:
    """Hold the fused graph's peak memory to 1.5 times the classifier's, loading and running."""
    fused, alone = (_memory(report, contender) for contender in (FUSED, ALONE))
    figures = []
    for what, field in (("peak memory", "peak_mb"), ("peak memory while running", "run_peak_mb")):
        above, below = (getattr(memory, field, None) for memory in (fused, alone))
        value = above / below if above and below else None
        name = f"{what} fused/alone, {report.subject.pair}, batch {MEMORY_BATCH}"
        figures.append(_figure(name, value, MAX_MEMORY_RATIO, at_least=False))
    return figures


def _memory(report: SpeedReport, contender: str) -> Memory | None:
    reading = report.reading(contender, MEMORY_BATCH)
    return None if reading is None else reading.memory


def fast_form_figures(report: SpeedReport) -> list[Figure]:
    """Hold the fast form to its gain over the all-class form, with equal maps."""
    figures = []
    for batch, limit in MIN_ALL_CLASS_OVER_FUSED.items():
        found = report.comparison("all-class/fused", batch)
        value = None if found is None else found.time.value
        name = f"all-class/fused, {report.subject.pair}, batch {batch}"
        figures.append(_figure(name, value, limit, at_least=True))
    maps = report.maps
    figures.append(
        Figure(
            name=f"largest difference of maps, fast against all-class form, {report.subject.pair}",
            value=None if maps is None else maps.max_abs_difference,
            limit=1e-5 if maps is None else maps.tolerance,
            at_least=False,
            passed=maps is not None and maps.equal,
            reason=report.maps_reason,
        )
    )
    return figures


def rise_figures(report: SpeedReport) -> list[Figure]:
    """Hold RISE, where it ran, to the cost of as many bare classifier passes."""
    if report.rise.status == "skipped":
        return []
    name = f"RISE over as many bare passes, {report.subject.pair}, {report.rise.masks} masks"
    value = report.rise.overhead_over_classifier
    return [_figure(name, value, MAX_RISE_OVERHEAD, at_least=False)]


def precision_figures(report: SpeedReport) -> list[Figure]:
    """Hold lowered graphs to their drift, and a ResNet-50's INT8 on a CPU with VNNI to its speed.

    The tolerances are those of ``ptame quantize``, for each runtime that the graph ran on.
    """
    figures = []
    for row in report.contenders:
        if row.drift is None or row.precision not in ("fp16", "int8"):
            continue
        limits = TOLERANCES["fp16" if row.precision == "fp16" else "int8"]
        name = f"{report.subject.pair}, {row.name}"
        agreement = row.drift.top1_agreement
        figures.append(
            _figure(f"top-1 agreement, {name}", agreement, limits.top1_agreement, at_least=True)
        )
        if limits.map_mean is not None:
            value = row.drift.map_mean
            figures.append(
                _figure(f"map difference, {name}", value, limits.map_mean, at_least=False)
            )
        if limits.pearson is not None:
            value = row.drift.pearson
            figures.append(_figure(f"maps' Pearson, {name}", value, limits.pearson, at_least=True))
    is_resnet50 = "resnet50" in report.subject.classifier_name
    if is_resnet50 and report.reading(INT8_ROW, INT8_BATCH) and integer_kernels().here:
        name = f"INT8 over FP32, {report.subject.pair}, batch {INT8_BATCH}"
        found = report.comparison("baseline/this", INT8_BATCH, of=INT8_ROW)
        times = None if found is None else found.time.value
        figures.append(_figure(name, times, MIN_INT8_SPEED_UP, at_least=True))
    return figures


def figure_line(figure: Figure) -> str:
    """Return one line that names the figure, its value and its limit."""
    verdict = "PASS" if figure.passed else "FAIL"
    sign = ">=" if figure.at_least else "<="
    value = figure.reason or "not measured" if figure.value is None else f"{figure.value:.3g}"
    return f"{verdict}  {figure.name}: {value} (limit {sign} {figure.limit:g})"


def _figure(name: str, value: float | None, limit: float, *, at_least: bool) -> Figure:
    # What was not measured did not hold.
    passed = value is not None and (value >= limit if at_least else value <= limit)
    return Figure(name=name, value=value, limit=limit, at_least=at_least, passed=passed)
