"""Put the committed benchmark's table into the README; `--check` only compares."""

import argparse
import sys
from pathlib import Path

from bench.results import Comparison, SpeedReport, SuiteReport
from bench.speed import ALL_CLASS, ALONE, FUSED

BEGIN, END = "<!-- bench-table -->", "<!-- /bench-table -->"
_NOTE = (
    "Times are medians (p50) of one run at a time, a batch each. Ratios are medians over rounds in "
    "which the contenders took turns, with quartiles; RISE's is over a fused run of one image in "
    "its own turns ({fused}). MB is the peak memory of a fresh process while running, above what "
    "it held before it opened the graph. ± is the coefficient of variation: this machine is "
    "shared, so trust the ratios more than the times."
)
_HEADER = (
    "| classifier + auxiliary | batch | alone, ms | fused, ms | fused / alone | multiply-adds "
    "| MB |"
)
_RANDOM_NOTE = "\\* random weights: they change maps and answers, not speed."


def render(suite: SuiteReport) -> str:
    """Return a suite as Markdown: what the explainer costs, and what its rivals do."""
    device, versions = suite.device, suite.provenance.versions
    where = f"{device.cpu}, {device.cores} cores; {suite.reports[0].runtime}, FP32"
    when = f"{suite.provenance.created[:10]} with ptame-deploy {versions['ptame-deploy']}"
    lines = [
        f"{where}; taken {when}.",
        "",
        _HEADER,
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rivals = [
        "",
        "| instead of one fused graph | batch | ms | over fused |",
        "|---|---:|---:|---:|",
    ]
    for report in suite.reports:
        lines += [_cost_row(report, batch) for batch in report.settings.batches]
        rivals += [*_all_class_rows(report), *_rise_row(report)]
    lines += rivals
    lines += ["", _NOTE.format(fused=_fused_in_rise_turns(suite))]
    if any("RANDOM" in text for report in suite.reports for text in report.subject.cautions):
        lines += ["", _RANDOM_NOTE]
    return "\n".join(lines)


def insert(readme: str, table: str) -> str:
    """Return the README with the table between the markers.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        message = f"The README must hold {BEGIN} and {END} once each, in this order."
        raise ValueError(message)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> int:
    """Rewrite the README, or with --check say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("results/bench-cpu.json"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    arguments = parser.parse_args()
    suite = SuiteReport.model_validate_json(arguments.json.read_text(encoding="utf-8"))
    old = arguments.readme.read_text(encoding="utf-8")
    try:
        new = insert(old, render(suite))
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        if old != new:
            print(f"{arguments.readme} does not show {arguments.json}: run {Path(__file__).name}.")
        return int(old != new)
    arguments.readme.write_text(new, encoding="utf-8")
    return 0


def _cost_row(report: SpeedReport, batch: int) -> str:
    found = report.comparison("fused/alone", batch)
    peaks = [_peak_mb(report, contender, batch) for contender in (ALONE, FUSED)]
    cells = [
        _pair(report),
        str(batch),
        _p50(report, ALONE, batch),
        _p50(report, FUSED, batch),
        _ratio(found, digits=2),
        f"{found.macs:.2f}" if found and found.macs else "-",
        " → ".join(peaks),
    ]
    return f"| {' | '.join(cells)} |"


def _all_class_rows(report: SpeedReport) -> list[str]:
    rows = []
    for batch in report.settings.batches:
        found = report.comparison("all-class/fused", batch)
        if found is not None:
            time, what = _p50(report, ALL_CLASS, batch), "all classes' maps, as in the paper"
            rows.append(f"| {_pair(report)}: {what} | {batch} | {time} | {_ratio(found, 2)} |")
    return rows


def _rise_row(report: SpeedReport) -> list[str]:
    rise, found = report.rise, report.comparison("RISE/fused", 1)
    if rise.total_s is None or found is None:
        return []
    what = f"RISE, {rise.masks} masks, all run, for one image"
    cells = [f"{_pair(report)}: {what}", f"{rise.batch}", f"{1e3 * rise.total_s:.0f}"]
    return [f"| {' | '.join(cells)} | {_ratio(found, digits=0)} |"]


def _p50(report: SpeedReport, contender: str, batch: int) -> str:
    reading = report.reading(contender, batch)
    if reading is None or reading.latency is None:
        return "-"
    return f"{reading.latency.p50_ms:.1f} ± {reading.latency.variation_percent:.0f} %"


def _fused_in_rise_turns(suite: SuiteReport) -> str:
    times = [report.rise.fused_batch1_ms for report in suite.reports]
    return ", ".join(f"{time:.1f} ms" for time in times if time is not None) or "not measured"


def _peak_mb(report: SpeedReport, contender: str, batch: int) -> str:
    reading = report.reading(contender, batch)
    memory = reading.memory if reading else None
    return f"{memory.run_peak_mb:.0f}" if memory else "-"


def _ratio(found: Comparison | None, digits: int) -> str:
    if found is None:
        return "-"
    time = found.time
    return f"**{time.value:.{digits}f}** ({time.p25:.{digits}f} - {time.p75:.{digits}f})"


def _pair(report: SpeedReport) -> str:
    """Name what was measured, without folders, with a mark on what had random weights."""
    subject = report.subject
    marks = {
        part: r"\*" if any(f"{part} weights are RANDOM" in c for c in subject.cautions) else ""
        for part in ("classifier", "auxiliary")
    }
    classifier = subject.classifier.rpartition("/")[2]
    return f"{classifier}{marks['classifier']} + {subject.auxiliary}{marks['auxiliary']}"


if __name__ == "__main__":
    sys.exit(main())
