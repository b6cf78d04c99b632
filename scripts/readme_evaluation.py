"""Evaluations of explanation methods as tables for the README; see `readme_table`."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.evaluation.results import Evaluation, MeasureRecord, MethodRecord
from ptame_deploy.bootstrap import Interval, excludes_zero

# What the README shows of an evaluation; the page shows all.
_COLUMNS = ("insertion", "deletion", "road", "ad50_matched", "ad15_matched", "ad100_published")
_OWN_COLUMNS = ("insertion", "deletion", "ad50_matched", "ad15_matched", "pointing")
_OWN_METHODS = ("p-tame", "grad-cam", "rise", "gaussian", "random")
_OWN_NOTE = (
    "{accuracy:.0%} of the photos held out are read right; the pointing game is of those on which "
    "the answer is the digit that has the box. + and - : better or worse than the trained P-TAME "
    "on the same photos, where the 95 % bootstrap interval of the difference excludes 0; no sign: "
    "undecided (the start ran by itself: no signs). Bold: the best of the methods that ran on all "
    "photos, where it differs so from every other one. {photos} photos to train on, {seconds:.0f} "
    "s on two shared cores."
)
_OPENVINO_COLUMNS = ("insertion", "deletion", "ad50_matched", "ad15_matched")
_OPENVINO_NOTE = (
    "{photos} photos that nothing was trained on. + and - : better or worse than P-TAME on the "
    "classifier's own features, on the same photos, where the 95 % bootstrap interval of the "
    "difference excludes 0. Bold: the best, where it differs so from every other one. Time: FP32 "
    "in OpenVINO {openvino}, batch 1, {threads} threads, over the classifier alone ({alone:.1f} "
    "ms), in turns. OpenVINO XAI {xai} gives the maps of all classes, rescaled to bytes (judged "
    "before that), P-TAME the map of the best one."
)
_RISE_NOTE = (
    "Pearson's correlation of the maps of two seeds, and faithfulness, averaged over the photos: "
    "so few that only the trend counts. P-TAME is the untrained start."
)
_EVALUATION_NOTE = (
    "Means over photos. + and - : better or worse than P-TAME on the same photos, where the 95 % "
    "bootstrap interval of the difference excludes 0 (not corrected for the number of "
    "comparisons); no sign: undecided. Bold: the best of the methods that ran on all photos, where "
    "it differs so from every other one. The last AD is as published, which contrast alone moves: "
    "it has neither signs nor winner. A pass is one run of the classifier; a backward pass counts "
    "as two. Times are of one map in batches of 8 (over 64 passes: of 1), on the runtime that the "
    "method has here, in one run."
)


def render_evaluations(evaluations: Sequence[Evaluation]) -> str:
    """Return evaluations as Markdown: each method's faithfulness beside its cost."""
    blocks = [_evaluation(one) for one in evaluations]
    return "\n\n".join([*blocks, _EVALUATION_NOTE])


def render_own(report: Mapping[str, Any]) -> str:
    """Return what training did for a classifier with classes of its own, as Markdown."""
    trained, start = (
        Evaluation.model_validate(report["evaluations"][name]) for name in ("trained", "start")
    )
    columns = [m for name in _OWN_COLUMNS for m in trained.measures if m.name == name]
    arrows = {"higher": "↑", "lower": "↓"}
    heads = [f"{column.label} {arrows[column.better]}" for column in columns]
    lines = [
        f"| {trained.photos} photos | {' | '.join(heads)} | photos |",
        f"|---|{'---:|' * (len(columns) + 1)}",
    ]
    winners = {verdict.column: verdict.winner for verdict in trained.verdicts}
    own = {method.name: method for method in trained.methods}
    rows = [(own[name].label, own[name], winners) for name in _OWN_METHODS]
    begun = next(method for method in start.methods if method.name == "p-tame")
    rows.insert(1, ("its start, a linear fit", begun, {}))
    for label, method, won in rows:
        cells = [_value(method, column, won) for column in columns]
        lines.append(f"| {label} | {' | '.join(cells)} | {method.photos} |")
    note = _OWN_NOTE.format(
        accuracy=report["classifier"]["accuracy"],
        photos=report["training"]["photos"],
        seconds=report["training"]["seconds"],
    )
    device, versions = report["device"], report["provenance"]["versions"]
    when = f"{report['provenance']['created'][:10]} with ptame-deploy {versions['ptame-deploy']}"
    return "\n".join([*lines, "", f"{note} {device['cpu']}, {device['cores']} cores; {when}."])


def render_openvino(report: Mapping[str, Any]) -> str:
    """Return P-TAME beside OpenVINO XAI, each as one graph in OpenVINO, as Markdown."""
    evaluation = Evaluation.model_validate(report["evaluation"])
    side = report["openvino"]
    columns = [m for name in _OPENVINO_COLUMNS for m in evaluation.measures if m.name == name]
    arrows = {"higher": "↑", "lower": "↓"}
    heads = [f"{column.label} {arrows[column.better]}" for column in columns]
    lines = [f"| | {' | '.join(heads)} | time |", f"|---|{'---:|' * (len(columns) + 1)}"]
    winners = {verdict.column: verdict.winner for verdict in evaluation.verdicts}
    own, other, branch = (
        next(name for name in side["times"] if part in name)
        for part in ("own features", "efficientnet", "ReciproCAM")
    )
    rows = (
        ("p-tame", "P-TAME on the classifier's own features", own),
        ("given-p-tame-with-efficientnet-lite0", "P-TAME with EfficientNet-Lite0", other),
        ("given-reciprocam-openvino-xai", "OpenVINO XAI's ReciproCAM", branch),
        ("grad-cam", "Grad-CAM (no graph of its own)", None),
        ("gaussian", "Centred Gaussian, a floor", None),
    )
    for name, label, timed in rows:
        method = evaluation.method(name)
        assert method is not None, name
        time = f"{side['times'][timed]['over_alone']['value']:.2f}" if timed else "-"
        cells = [_value(method, column, winners) for column in columns]
        lines.append(f"| {label} | {' | '.join(cells)} | {time} |")
    device, versions = report["device"], report["provenance"]["versions"]
    note = _OPENVINO_NOTE.format(
        photos=evaluation.photos,
        openvino=side["versions"]["openvino"],
        xai=side["versions"]["openvino-xai"],
        threads=side["threads"],
        alone=side["times"]["classifier alone"]["median_ms"],
    )
    when = f"{report['provenance']['created'][:10]} with ptame-deploy {versions['ptame-deploy']}"
    where = f"{evaluation.subject.classifier}; {device['cpu']}, {device['cores']} cores; {when}"
    return "\n".join([*lines, "", f"{note} {where}."])


def render_rise_curves(evaluations: Sequence[Evaluation]) -> str:
    """Return how much RISE's maps depend on its masks, and what that makes of faithfulness."""
    blocks = []
    for one in evaluations:
        curve = one.rise_curve
        assert curve is not None, "ptame evaluate --rise-curve N makes it"
        masks = [f"{point.masks:,}" for point in curve.points]
        agreement = [f"{point.correlation.mean:.3f}" for point in curve.points]
        rows = [["two seeds correlate", *agreement, "-"]]
        for column, label in (("insertion", "insertion ↑"), ("deletion", "deletion ↓")):
            own = f"{curve.reference[column].mean:.1f}"
            rows.append([label, *(f"{p.values[column].mean:.1f}" for p in curve.points), own])
        what = f"{one.subject.classifier}, {curve.photos} photos; masks:"
        lines = [
            f"| {' | '.join([what, *masks, 'P-TAME'])} |",
            f"|---|{'---:|' * (len(masks) + 1)}",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, _RISE_NOTE])


def _evaluation(evaluation: Evaluation) -> str:
    subject, device = evaluation.subject, evaluation.device
    versions = evaluation.provenance.versions
    columns = [m for name in _COLUMNS for m in evaluation.measures if m.name == name]
    arrows = {"higher": "↑", "lower": "↓"}
    heads = [f"{column.label} {arrows[column.better]}" for column in columns]
    where = f"{device.cpu}, {device.cores} cores" + (f", {device.gpu}" if device.gpu else "")
    title = f"{subject.classifier} + {subject.auxiliary}, {subject.explainer_state} explainer"
    when = f"{evaluation.provenance.created[:10]} with ptame-deploy {versions['ptame-deploy']}"
    lines = [
        f"**{title}.** {evaluation.photos} photos, judged by {evaluation.judge}; {where}; {when}.",
        "",
        f"| method | {' | '.join(heads)} | photos | passes | ms a map |",
        f"|---|{'---:|' * (len(columns) + 3)}",
    ]
    winners = {verdict.column: verdict.winner for verdict in evaluation.verdicts}
    for method in evaluation.methods:
        if method.status == "measured" and method.cost and method.time:
            cells = [_value(method, column, winners) for column in columns]
            cells += [str(method.photos), f"{method.cost.passes:,}", _ms(method.time.median_ms)]
            lines.append(f"| {method.label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _value(method: MethodRecord, column: MeasureRecord, winners: dict[str, str | None]) -> str:
    found = method.values.get(column.name)
    if found is None:
        return "-"
    value = f"{found.mean:.1f}"
    if winners.get(column.name) == method.name:
        return f"**{value}**"
    return value + _sign(method.against_reference.get(column.name), column)


def _sign(difference: Interval | None, column: MeasureRecord) -> str:
    if difference is None or column.contrast_moves or not excludes_zero(difference):
        return ""
    return " +" if (difference.mean > 0) == (column.better == "higher") else " -"


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
