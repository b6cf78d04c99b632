"""What an evaluation's numbers depend on: how methods ran, what measures are, and the facts."""

from collections.abc import Mapping

from bench.evaluation.report.cells import Cell, Grid, Row, many, number
from bench.evaluation.report.comparison import measured
from bench.evaluation.report.wording import timed
from bench.evaluation.results import Evaluation


def conditions(evaluation: Evaluation) -> list[Grid]:
    """Lay out what the measures are and how each method ran; one without rows is left out."""
    return [grid for grid in (_measures(evaluation), _methods(evaluation)) if grid.rows]


def _measures(evaluation: Evaluation) -> Grid:
    rows = []
    for measure in evaluation.measures:
        cells = (
            measure.label, measure.better,
            f"{number(measure.low, 0)} to {number(measure.high, 0)}",
            "moves it: names no winner" if measure.contrast_moves else "cannot move it",
            measure.source, _settings(measure.settings),
        )  # fmt: skip
        rows.append(Row(tuple(map(Cell, cells))))
    header = ("Measure", "better is", "range", "contrast alone", "source", "settings")
    return Grid("measures", "What the measures are", header, tuple(rows), prose=True)


def _methods(evaluation: Evaluation) -> Grid:
    rows = []
    for method in measured(evaluation):
        other = f"{method.other_class} of {method.photos}" if method.other_class else "none"
        cells = (
            method.label, method.runtime or "", method.precision or "",
            timed(method.time) if method.time else "", _settings(method.settings), other,
            "; ".join(method.cautions),
        )  # fmt: skip
        rows.append(Row(tuple(map(Cell, cells)), method.family))
    header = ("Method", "runtime", "precision", "timed by", "settings",
              "photos explained for another class", "cautions")  # fmt: skip
    return Grid("methods", "How each method ran", header, tuple(rows), prose=True)


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """List the rest as terms and their values."""
    subject, settings, made = evaluation.subject, evaluation.settings, evaluation.provenance
    device = evaluation.device
    memory = evaluation.peak_memory_mb
    costly = (
        f"of more than {settings.costly_passes:,} passes a map: on at most "
        f"{many(settings.costly_limit, 'photo')}, in at most {settings.costly_budget:,} passes"
    )
    found = [
        ("Classifier", f"{subject.classifier}, {subject.classes} classes"),
        ("Input", " × ".join(map(str, subject.input_size))),
        ("Explainer", f"{subject.auxiliary}, {subject.explainer_state}"),
        ("Judge", evaluation.judge),
        ("Device", f"{device.cpu}, {device.cores} cores, {device.system}"),
        ("GPU", device.gpu or "none"),
        ("Peak memory", "not recorded" if memory is None else f"{memory:,.0f} MiB"),
        ("Photos", f"{evaluation.photos}, {len(evaluation.skipped)} could not be read"),
        ("Limit of photos", "none" if settings.limit is None else str(settings.limit)),
        ("Costly methods", costly),
        ("Sanity checks", many(settings.sanity_photos, "photo")),
        ("Intervals", f"{settings.interval_percent:g} %, {settings.bootstrap:,} resamples"),
        ("Batch, seed", f"{settings.batch}, {settings.seed}"),
        ("Made", f"{made.created} by {made.command}"),
        ("Versions", _settings({**made.versions, **evaluation.packages})),
    ]
    hashes = {
        "classifier": subject.classifier_sha256, "graph": subject.graph_sha256,
        "judge": evaluation.judge_sha256, "photos": evaluation.photos_sha256,
        "values.csv": evaluation.values_sha256,
    }  # fmt: skip
    return [*found, *[(f"SHA-256, {name}", value) for name, value in hashes.items() if value]]


def _settings(found: Mapping[str, float | int | str]) -> str:
    shown = (f"{v:g}" if isinstance(v, float) else str(v) for v in found.values())
    return ", ".join(f"{key} {value}" for key, value in zip(found, shown, strict=True))
