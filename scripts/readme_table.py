"""Put the committed benchmark's table into the README; `--check` only compares."""

import argparse
import sys
from pathlib import Path

from bench.results import Contender, Reading, SpeedReport, SuiteReport

BEGIN, END = "<!-- bench-table -->", "<!-- /bench-table -->"
_COLUMNS = (
    "classifier + auxiliary", "row", "batch", "p50 ms", "p99 ms", "images/s", "GMAC/image",
    "peak MB", "time ratio",
)  # fmt: skip
_NOTE = (
    "Time ratio: fused graph over classifier alone, all-class form over fused graph, RISE over "
    "one fused image; each the median over rounds in which they took turns."
)


def render(suite: SuiteReport) -> str:
    """Return a suite as a Markdown table with a line on device, versions and cautions."""
    device, versions = suite.device, suite.provenance.versions
    where = f"{device.cpu}, {device.cores} cores; {suite.reports[0].runtime}, FP32"
    when = f"{suite.provenance.created[:10]} with ptame-deploy {versions['ptame-deploy']}"
    lines = [f"{where}; taken {when}.", "", f"| {' | '.join(_COLUMNS)} |"]
    lines.append(f"|---|---|{'---:|' * (len(_COLUMNS) - 2)}")
    cautions: dict[str, None] = {}
    for report in suite.reports:
        pair = f"{_short(report.subject.classifier)} + {report.subject.auxiliary}"
        for contender in report.contenders:
            lines += [_row(pair, contender, reading, report) for reading in contender.readings]
        lines += _rise_row(pair, report)
        cautions |= {
            f"{pair}: {text}": None for text in report.subject.cautions if "RANDOM" in text
        }
    lines += ["", _NOTE]
    if cautions:
        lines += ["", *(f"- {text}" for text in cautions)]
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


def _row(pair: str, contender: Contender, reading: Reading, report: SpeedReport) -> str:
    latency, throughput, memory = reading.latency, reading.throughput, reading.memory
    rate = throughput or latency
    name = {"fused graph": "fused/alone", "all-class form": "all-class/fused"}.get(contender.name)
    found = report.comparison(name, reading.batch) if name else None
    cells = [
        pair,
        contender.name,
        str(reading.batch),
        f"{latency.p50_ms:.1f}" if latency else "-",
        f"{latency.p99_ms:.1f}" if latency else "-",
        f"{rate.images_per_s:.1f}" if rate else "-",
        f"{contender.gmacs_per_image:.2f}" if contender.gmacs_per_image else "-",
        f"{memory.peak_mb:.0f}" if memory else "-",
        f"{found.time.value:.2f}" if found else "",
    ]
    return f"| {' | '.join(cells)} |"


def _rise_row(pair: str, report: SpeedReport) -> list[str]:
    rise, found = report.rise, report.comparison("RISE/fused", 1)
    if rise.total_s is None or found is None:
        return []
    cells = [
        pair,
        f"RISE, {rise.masks} masks",
        f"{rise.batch}",
        f"{1e3 * rise.total_s:.0f}",
        "-",
        f"{1 / rise.total_s:.3f}",
        f"{rise.gmacs_per_image:.0f}" if rise.gmacs_per_image else "-",
        "-",
        f"{found.time.value:.0f}",
    ]
    return [f"| {' | '.join(cells)} |"]


def _short(classifier: str) -> str:
    """Return a classifier's name without the folders that its file lies in."""
    return classifier.rpartition("/")[2]


if __name__ == "__main__":
    sys.exit(main())
