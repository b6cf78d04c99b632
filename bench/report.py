"""A bench run for people: the table on the terminal, and the sentences below it."""

from typing import TYPE_CHECKING

from bench.results import Comparison, Contender, Latency, Reading, SpeedReport

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = (
    "", "batch", "p50 ms", "p90", "p95", "p99", "mean", "min", "cv %", "images/s",
    "GMAC/image", "run MB",
)  # fmt: skip
_NOTHING = "-"


def speed_table(report: SpeedReport) -> "Table":
    """Lay a run out as a table; a row that was not measured says why."""
    from rich.table import Table

    subject = report.subject
    table = Table(
        title=f"{subject.classifier} + {subject.auxiliary}, {subject.precision}, {report.runtime}, "
        f"{report.device.cpu} ({report.device.cores} cores)",
        title_justify="left",
    )
    for position, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if position == 0 else "right")
    empty = [_NOTHING] * (len(_COLUMNS) - 1)
    captions = []
    for contender in report.contenders:
        if contender.status == "skipped":
            table.add_row(contender.name, *empty)
            captions.append(f"{contender.name} not measured: {contender.reason}")
        for reading in contender.readings:
            table.add_row(*_cells(contender, reading))
    rise = report.rise
    if rise.status == "skipped":
        table.add_row("RISE", *empty)
        captions.append(f"RISE not measured: {rise.reason}")
    else:
        cells = [f"RISE, {rise.masks} masks", str(rise.batch), f"{1e3 * (rise.total_s or 0):.0f}"]
        cells += [_NOTHING] * 6
        cells += [f"{1 / (rise.total_s or 1):.3g}", _number(rise.gmacs_per_image), _NOTHING]
        table.add_row(*cells)
    table.caption = "\n".join(captions) or None
    table.caption_justify = "left"
    return table


def summary_lines(report: SpeedReport) -> list[str]:
    """Return the ratios, the drift, the maps' difference and the transfers, a line each."""
    lines = [_ratio_line(comparison, report) for comparison in report.comparisons]
    told = {c.of for c in report.comparisons if c.name == "baseline/this"}
    lines += [
        f"{row.name} ({row.precision}) against FP32: {drift_text(row)}"
        for row in report.contenders
        if row.drift is not None and row.name not in told
    ]
    rise = report.rise
    if rise.overhead_over_classifier is not None:
        lines.append(
            f"RISE ({rise.masks} masks, all run, one image) takes "
            f"{rise.overhead_over_classifier:.2f} x the time of as many bare classifier passes"
        )
    if report.maps is not None:
        verdict = "equal" if report.maps.equal else "NOT equal"
        lines.append(
            f"maps of the fast and the all-class form are {verdict}: largest difference "
            f"{report.maps.max_abs_difference:.1e} over {report.maps.images} images "
            f"(tolerance {report.maps.tolerance:g})"
        )
    reasons = {r.reason for c in report.contenders for r in c.readings if r.reason}
    lines += [f"not measured: {reason}" for reason in sorted(reasons)]
    lines += _transfer_lines(report)
    return lines


def _ratio_line(comparison: Comparison, report: SpeedReport) -> str:
    time = comparison.time
    if comparison.name == "RISE/fused":
        return (
            f"RISE/fused, {report.rise.masks} masks: {_number(time.value)} x "
            f"(quartiles {_number(time.p25)} to {_number(time.p75)} of {time.rounds} turns)"
        )
    if comparison.name == "baseline/this":
        return _variant_line(comparison, report)
    of = f" of {comparison.of}" if comparison.of else ""
    line = (
        f"{comparison.name}{of}, batch {comparison.batch}: {time.value:.3f} x "
        f"(quartiles {time.p25:.3f} to {time.p75:.3f} of {time.rounds} rounds)"
    )
    if comparison.macs is not None:
        line += f"; multiply-adds {comparison.macs:.3f} x"
    if comparison.time_over_macs is not None and comparison.name == "fused/alone":
        line += f"; time over multiply-adds {comparison.time_over_macs:.3f}"
    return line


def _variant_line(comparison: Comparison, report: SpeedReport) -> str:
    """Say how much faster a precision or runtime is, and in the same breath what it costs."""
    time = comparison.time
    line = (
        f"{comparison.of}, batch {comparison.batch}: {time.value:.2f} x as fast as "
        f"{comparison.against} (quartiles {time.p25:.2f} to {time.p75:.2f})"
    )
    row = next(c for c in report.contenders if c.name == comparison.of)
    return f"{line}; {drift_text(row)}"


def drift_text(row: Contender) -> str:
    """Say how far a row's answers are from the FP32 graph's."""
    if row.drift is None:
        return "drift not measured (give --photos)"
    where = f", measured on {row.drift_on}" if row.drift_on else ""
    return (
        f"top-1 agreement {row.drift.top1_agreement:.1%}, maps' Pearson {row.drift.pearson:.3f} "
        f"on {row.drift.photos} photos{where}"
    )


def _transfer_lines(report: SpeedReport) -> list[str]:
    lines = [f"transfers: {report.transfers}"]
    for contender in report.contenders:
        for reading in contender.readings:
            copies = reading.transfers
            if copies is not None:
                lines.append(
                    f"  {contender.name}, batch {reading.batch}: {copies.upload_ms:.3f} ms to the "
                    f"device, {copies.download_ms:.3f} ms back"
                )
    return lines


def _cells(contender: Contender, reading: Reading) -> list[str]:
    memory = None if reading.memory is None else reading.memory.run_peak_mb
    return [
        contender.name,
        str(reading.batch),
        *_latency_cells(reading.latency),
        _number(reading.images_per_s),
        _number(contender.gmacs_per_image),
        _NOTHING if memory is None else f"{memory:.0f}",
    ]


def _latency_cells(latency: Latency | None) -> list[str]:
    if latency is None:
        return [_NOTHING] * 7
    times = (
        latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms, latency.mean_ms,
        latency.min_ms,
    )  # fmt: skip
    mark = "!" if latency.unstable else ""
    return [*[f"{time:.2f}" for time in times], f"{latency.variation_percent:.1f}{mark}"]


def _number(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
