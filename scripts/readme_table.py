"""Put a committed benchmark's table into the README; `--check` only compares.

Its tables, each of the files in results/ that `DATA` names: what the explainer costs; with
``--summary`` the first figures; with
``--precision`` what each precision and runtime brings, beside its drift; with ``--evaluation`` how
faithful each method is, with ``--rise`` how many masks RISE needs; with ``--training`` what
training gains on photos left out, with ``--seeds`` by several seeds of its masks, with
``--beside-rise`` how that compares with RISE, with ``--own`` what it does for a classifier with
classes of its own; with ``--openvino`` P-TAME beside OpenVINO XAI; with ``--serving``
what servers answer under load. And its lines of one sentence each (`bench.short_results`): with
``--archive`` how fast archives are explained, with ``--cpp`` how C++ compares with Python, with
``--classes`` what more classes and contrasts cost, with ``--forms`` what P-TAME's forms cost.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from readme_evaluation import (
    render_evaluations,
    render_openvino,
    render_own,
    render_rise_curves,
)
from readme_summary import render_summary
from readme_training import render_rise, render_seeds, render_trials

from bench.evaluation.results import Evaluation
from bench.results import Comparison, Contender, SpeedReport, SuiteReport
from bench.serving_results import ServingReport, serving_table
from bench.short_results import LINES
from bench.variants import ALL_CLASS, ALONE, FUSED

COST, PRECISION, EVALUATION = "bench-table", "precision-table", "evaluation-table"
TRAINING, SERVING, RISE = "training-table", "serving-table", "rise-table"
SEEDS, OWN, BESIDE_RISE = "seeds-table", "own-classifier-table", "beside-rise-table"
OPENVINO, SUMMARY = "openvino-table", "summary"
DATA = {
    SUMMARY: [
        "results/bench-classes-resnet50-cpu.json",
        "results/bench-precision-cpu.json",
        "results/bench-cpu.json",
        "results/training-trials-superpixels-lite2-cpu.json",
        "results/training-trials-superpixels-resnet50-cpu.json",
        "results/compare-openvino-lite2-cpu.json",
    ],
    COST: ["results/bench-cpu.json"],
    PRECISION: ["results/bench-precision-cpu.json"],
    EVALUATION: ["results/evaluation-lite2-cpu.json", "results/evaluation-resnet50-cpu.json"],
    TRAINING: [
        "results/training-trials-lite2-cpu.json",
        "results/training-trials-superpixels-lite2-cpu.json",
        "results/training-trials-superpixels-resnet50-cpu.json",
    ],
    SEEDS: [
        "results/training-trials-superpixels-lite2-cpu.json",
        "results/training-trials-superpixels-lite2-seed1-cpu.json",
        "results/training-trials-superpixels-lite2-seed2-cpu.json",
        "results/training-trials-superpixels-resnet50-seed1-cpu.json",
    ],
    BESIDE_RISE: ["results/training-trials-superpixels-lite2-seed1-cpu.json"],
    OWN: ["results/own-classifier-cpu.json"],
    OPENVINO: ["results/compare-openvino-lite2-cpu.json"],
    SERVING: ["results/bench-serving-cpu.json"],
    RISE: ["results/evaluation-lite2-cpu.json", "results/rise-curve-resnet50-cpu.json"],
    "archive-numbers": ["results/bench-archive-cpu.json"],
    "cpp-numbers": ["results/bench-cpp-cpu.json"],
    "classes-numbers": ["results/bench-classes-cpu.json"],
    "forms-numbers": ["results/bench-classes-resnet50-cpu.json"],
}
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
_PRECISION_HEADER = (
    "| classifier + auxiliary | precision, runtime | batch | alone, ms | fused, ms | fused / alone "
    "| faster than FP32 | same class | maps: difference, Pearson |"
)
_PRECISION_NOTE = (
    "All rows of a classifier took turns in one run. The last two columns compare with the FP32 "
    "graph on {photos} photos that nothing was tuned on, on the runtime of the row."
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


def render_precision(suite: SuiteReport) -> str:
    """Return a suite as Markdown: precision by runtime, with its drift beside its speed."""
    device, versions = suite.device, suite.provenance.versions
    when = f"{suite.provenance.created[:10]} with ptame-deploy {versions['ptame-deploy']}"
    where = f"{device.cpu}, {device.cores} cores" + (f", {device.gpu}" if device.gpu else "")
    lines = [
        f"{where}; FP32 is {suite.reports[0].runtime}; taken {when}.",
        "",
        _PRECISION_HEADER,
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for report in suite.reports:
        for row in report.contenders:
            if row.name == FUSED or row.name.startswith(f"{FUSED}, "):
                lines += _precision_rows(report, row)
    photos = {c.drift.photos for r in suite.reports for c in r.contenders if c.drift}
    counts = " and ".join(str(count) for count in sorted(photos)) or "no"
    lines += ["", _PRECISION_NOTE.format(photos=counts)]
    return "\n".join(lines)


def insert(readme: str, table: str, name: str) -> str:
    """Return the README with the table between the markers of that name.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, begin, rest = readme.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in rest or last in after:
        message = f"The README must hold {first} and {last} once each, in this order."
        raise ValueError(message)
    return f"{before}{first}\n{table}\n{last}{after}"


def make_table(name: str, texts: Sequence[str]) -> str:
    """Make a table of that name of its files' texts."""
    if name in LINES:
        return LINES[name](json.loads(texts[0]))
    if name in (EVALUATION, RISE):
        draw = render_evaluations if name == EVALUATION else render_rise_curves
        return draw([Evaluation.model_validate_json(text) for text in texts])
    if name == SERVING:
        return serving_table(ServingReport.model_validate_json(texts[0]))
    if name in (COST, PRECISION):
        suite = SuiteReport.model_validate_json(texts[0])
        return render_precision(suite) if name == PRECISION else render(suite)
    documents = [json.loads(text) for text in texts]
    if name == SUMMARY:
        forms, precision, cost, *others = documents
        suites = [SuiteReport.model_validate(one) for one in (precision, cost)]
        return render_summary(forms, *suites, *others)
    several = {TRAINING: render_trials, SEEDS: render_seeds}
    if name in several:
        return several[name](documents)
    single = {BESIDE_RISE: render_rise, OWN: render_own, OPENVINO: render_openvino}
    return single[name](documents[0])


def main() -> int:
    """Rewrite the README, or with --check say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--precision", dest="name", action="store_const", const=PRECISION)
    which.add_argument("--evaluation", dest="name", action="store_const", const=EVALUATION)
    which.add_argument("--training", dest="name", action="store_const", const=TRAINING)
    which.add_argument("--seeds", dest="name", action="store_const", const=SEEDS)
    which.add_argument("--beside-rise", dest="name", action="store_const", const=BESIDE_RISE)
    which.add_argument("--own", dest="name", action="store_const", const=OWN)
    which.add_argument("--summary", dest="name", action="store_const", const=SUMMARY)
    which.add_argument("--openvino", dest="name", action="store_const", const=OPENVINO)
    which.add_argument("--serving", dest="name", action="store_const", const=SERVING)
    which.add_argument("--rise", dest="name", action="store_const", const=RISE)
    for line in LINES:
        option = f"--{line.removesuffix('-numbers')}"
        which.add_argument(option, dest="name", action="store_const", const=line)
    parser.set_defaults(name=COST)
    parser.add_argument("--json", type=Path, action="append")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    arguments = parser.parse_args()
    name: str = arguments.name
    data = arguments.json or [Path(path) for path in DATA[name]]
    texts = [path.read_text(encoding="utf-8") for path in data]
    table = make_table(name, texts)
    old = arguments.readme.read_text(encoding="utf-8")
    try:
        new = insert(old, table, name)
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        if old != new:
            shown = " and ".join(str(path) for path in data)
            print(f"{arguments.readme} does not show {shown}: run {Path(__file__).name}.")
        return int(old != new)
    arguments.readme.write_text(new, encoding="utf-8")
    return 0


def _precision_rows(report: SpeedReport, row: Contender) -> Iterator[str]:
    what = row.name.removeprefix(FUSED).removeprefix(", ") or "fp32"
    alone = row.name.replace(FUSED, ALONE, 1)
    for reading in row.readings:
        batch = reading.batch
        own = report.comparison("fused/alone", batch, None if row.name == FUSED else row.name)
        drift = row.drift
        cells = [
            _pair(report),
            what,
            str(batch),
            _p50(report, alone, batch),
            _p50(report, row.name, batch),
            _ratio(own, digits=2),
            _ratio(report.comparison("baseline/this", batch, row.name), digits=2),
            f"{drift.top1_agreement:.1%}" if drift else "-",
            f"{drift.map_mean:.4f}, {drift.pearson:.4f}" if drift else "-",
        ]
        yield f"| {' | '.join(cells)} |"


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
    return (
        f"{subject.classifier_name}{marks['classifier']} + {subject.auxiliary}{marks['auxiliary']}"
    )


if __name__ == "__main__":
    sys.exit(main())
