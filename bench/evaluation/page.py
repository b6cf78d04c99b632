"""Evaluations as one HTML page for people: no network, no script, pictures inside.

The sentences on top are computed from the intervals, and say a loss as plainly as a win.
"""

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.evaluation import plots
from bench.evaluation.results import (
    Evaluation,
    GalleryEntry,
    MeasureRecord,
    MethodRecord,
)
from bench.evaluation.tables import (
    GAUSSIAN,
    Cell,
    Grid,
    Outcome,
    Row,
    cautions,
    clean,
    deciding,
    digits_of,
    grids,
    label_of,
    many,
    measured,
    milliseconds,
    number,
    outcomes,
    reference_of,
    winner,
)
from ptame_deploy.errors import InvalidInputError

MAX_PICTURE_BYTES = 4 * 2**20
MAX_PAGE_PICTURE_BYTES = 24 * 2**20  # of all evaluations; beyond it a page opens slowly
MAX_SKIPPED_SHOWN = 50
_CHOICES = {"best": "Best", "worst": "Worst", "random": "Drawn at random"}
# The record says how a rival fares; the page says how P-TAME fares against it.
_TURNED: tuple[tuple[str, Outcome], ...] = (
    ("better", "worse"), ("worse", "better"), ("undecided", "undecided"),
)  # fmt: skip
_KINDS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"))


@dataclass(frozen=True)
class Picture:
    """One picture of the gallery; without a source, the note says why."""

    caption: str
    alt: str
    source: str | None
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """One photo of the gallery by all methods."""

    heading: str
    about: str
    pictures: list[Picture]


class _Album:
    """Reads pictures of one evaluation; what does not fit on the page any more is left out."""

    def __init__(self, folder: Path, left: int) -> None:
        self.folder, self.left = folder, left

    def picture(self, name: str, caption: str, alt: str) -> Picture:
        source, note = self._read(name)
        return Picture(caption, alt, source, note)

    def _read(self, name: str) -> tuple[str | None, str]:
        try:
            root = self.folder.resolve()
            path = (root / name).resolve()
            if not path.is_relative_to(root):
                return None, "not shown: it lies outside the evaluation's folder"
            if not path.is_file():
                return None, "not shown: the file is missing"
            size = path.stat().st_size
            if size > MAX_PICTURE_BYTES:
                return None, f"not shown: over {MAX_PICTURE_BYTES // 2**20} MiB"
            if size > self.left:
                return None, "not shown: the page would become too large"
            data = path.read_bytes()
        except (OSError, ValueError):  # a name with NUL, too long, or no right to read
            return None, "not shown: the file cannot be read"
        kind = next((kind for start, kind in _KINDS if data.startswith(start)), None)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            kind = "webp"
        if kind is None:
            return None, "not shown: neither PNG, JPEG nor WebP"
        self.left -= size
        return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}", ""


def page(evaluations: Sequence[Evaluation], folders: Sequence[Path]) -> str:
    """Return one self-contained HTML page.

    Args:
        evaluations: a section each, in this order.
        folders: where each one's pictures lie; nothing outside of them is read.

    Raises:
        InvalidInputError: no evaluation, or not as many folders.
    """
    if not evaluations or len(evaluations) != len(folders):
        message = (
            f"A page needs one folder for each evaluation, got {len(evaluations)} evaluations and "
            f"{len(folders)} folders."
        )
        raise InvalidInputError(message)
    left, sections = MAX_PAGE_PICTURE_BYTES, []
    for i, (evaluation, folder) in enumerate(zip(evaluations, folders, strict=True), start=1):
        album = _Album(folder, left)
        sections.append(_section(evaluation, f"e{i}", album))
        left = album.left
    environment = Environment(
        loader=PackageLoader("bench.evaluation", "templates"), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalised,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(sections=sections)


def headline(evaluation: Evaluation) -> str:
    """Say in one sentence where P-TAME stands among its rivals."""
    reference = reference_of(evaluation)
    if reference is None:
        row = evaluation.method(evaluation.reference) if evaluation.reference else None
        why = f": {row.reason}" if row is not None and row.reason else ""
        return f"P-TAME was not measured{why}; nothing is compared with it."
    found = [outcomes(rival.against_reference, evaluation) for rival in _rivals(evaluation)]
    # Seen from P-TAME: it is better where its rival is worse.
    better, worse, undecided = (
        sum(len(each[key]) for each in found) for key in ("worse", "better", "undecided")
    )
    total, compared = better + worse + undecided, sum(any(each.values()) for each in found)
    if not total:
        return f"{reference.label} was measured, but there is no rival to compare it with."
    measures = len({m.name for each in found for kept in each.values() for m in kept})
    return (
        f"{reference.label} against {many(compared, 'other method')} on "
        f"{many(measures, 'measure')} that contrast cannot move: better in {better} of "
        f"{many(total, 'comparison')}, worse in {worse}, undecided in {undecided}."
    )


def summary(evaluation: Evaluation) -> list[str]:
    """Say the rest in sentences: who wins, what a map costs, and who beats the floor."""
    found = [_winners(evaluation), _speed(evaluation), *_floor(evaluation)]
    return [text for text in found if text]


def standings(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Say of each other method how P-TAME does against it: its label, and the sentence."""
    found = []
    for method in measured(evaluation):
        sides = outcomes(method.against_reference, evaluation)
        total = sum(map(len, sides.values()))
        if not total:
            continue
        parts = [
            f"{word} on {_share(len(sides[key]), total)}{_listed(sides[key], total, evaluation)}"
            for word, key in _TURNED
            if sides[key]
        ]
        few = method.photos < evaluation.photos
        where = f"; on its {many(method.photos, 'photo')}" if few else ""
        found.append((method.label, f"{', '.join(parts)}{where}."))
    return found


def _rivals(evaluation: Evaluation) -> list[MethodRecord]:
    return [m for m in measured(evaluation) if m.family not in ("p-tame", "floor")]


def _winners(evaluation: Evaluation) -> str:
    columns = [
        m for m in deciding(evaluation) if any(v.column == m.name for v in evaluation.verdicts)
    ]
    if not columns:
        return ""
    won: dict[str, list[str]] = {}
    for measure in columns:
        best = winner(evaluation, measure)
        if best is not None:
            won.setdefault(best.label, []).append(label_of(measure, evaluation))
    parts = [f"{label} wins {_joined(names)}" for label, names in won.items()]
    rest = len(columns) - sum(map(len, won.values()))
    if rest:
        parts.append(f"on {rest} of {many(len(columns), 'measure')} nobody wins clearly")
    text = "; ".join(parts)
    rule = (
        "A winner must differ clearly from every other method that was measured on all photos; "
        "other precisions and runtimes of P-TAME do not compete with it."
    )
    return f"{text[:1].upper()}{text[1:]}. {rule}"


def _speed(evaluation: Evaluation) -> str:
    reference = reference_of(evaluation)
    if reference is None or reference.time is None or not reference.time.median_ms > 0:
        return ""
    mine = reference.time
    groups: dict[str, list[str]] = {"about as fast as": [], "faster than": [], "slower than": []}
    for method in measured(evaluation):
        time = method.time
        if method is reference or method.family == "floor" or time is None:
            continue
        ratio = time.median_ms / mine.median_ms
        if not (math.isfinite(ratio) and ratio > 0):
            continue
        apart = time.p25_ms > mine.p75_ms or time.p75_ms < mine.p25_ms
        if not apart or 0.9 <= ratio <= 1.1:
            groups["about as fast as"].append(method.label)
        elif ratio > 1:
            groups["faster than"].append(f"{method.label} ({_times(ratio)})")
        else:
            groups["slower than"].append(f"{method.label} ({_times(1 / ratio)})")
    parts = [f"{what} {_joined(names)}" for what, names in groups.items() if names]
    on = f" on {reference.runtime}" if reference.runtime else ""
    text = f"One map of {reference.label} takes {milliseconds(mine.median_ms)} ms{on}"
    others = {m.runtime for m in _rivals(evaluation) if m.time} - {reference.runtime, None}
    unequal = f" The others ran on {_joined(sorted(map(str, others)))}." if others else ""
    return f"{text}: {'; '.join(parts)}.{unequal}" if parts else f"{text}."


def _floor(evaluation: Evaluation) -> Iterator[str]:
    """Group the methods by how often they beat the centred Gaussian, most often first."""
    groups: dict[tuple[int, int, int], list[str]] = {}
    for method in measured(evaluation):
        sides = outcomes(method.against_gaussian, evaluation)
        total = sum(map(len, sides.values()))
        if total and method.family != "floor":
            key = len(sides["better"]), len(sides["worse"]), total
            groups.setdefault(key, []).append(method.label)
    parts = [
        f"{_joined(names)} on {_share(better, total) if better else f'none of {total}'}"
        f"{f' (and worse on {worse})' if worse else ''}"
        for (better, worse, total), names in sorted(groups.items(), key=lambda item: -item[0][0])
    ]
    if parts:
        yield (
            f"A map that always shows the middle of the photo is the floor. Measures on which a "
            f"method beats {GAUSSIAN}: {'; '.join(parts)}."
        )


def _moved(evaluation: Evaluation) -> str:
    """Say how far each column went while only the contrast changed."""
    parts = []
    for measure in sorted(evaluation.measures, key=lambda m: not m.contrast_moves):
        kept = [
            r.values[measure.name].mean for r in evaluation.contrast if measure.name in r.values
        ]
        kept = [value for value in kept if math.isfinite(value)]
        if len(kept) < 2:
            continue
        low, high = (number(v, digits_of(measure)) for v in (min(kept), max(kept)))
        moved = f"stays at {low}" if low == high else f"runs from {low} to {high}"
        parts.append(f"{label_of(measure, evaluation)} {moved}")
    return f"{'; '.join(parts)}." if parts else ""


def _section(evaluation: Evaluation, prefix: str, album: _Album) -> dict[str, object]:
    subject = evaluation.subject
    name = subject.classifier.rpartition("/")[2].strip() or subject.classifier
    column, reference = plots.plotted_column(evaluation), reference_of(evaluation)
    comparisons = sum(
        len(kept)
        for m in measured(evaluation)
        for kept in outcomes(m.against_reference, evaluation).values()
    )
    share = 1 - evaluation.settings.interval_percent / 100
    return {
        "id": prefix,
        "title": f"{name} + {subject.auxiliary}",
        "evaluation": evaluation,
        "column": label_of(column, evaluation) if column else "",
        "reference": reference.label if reference else "",
        "photos": many(evaluation.photos, "photo"),
        "unread": many(len(evaluation.skipped), "photo"),
        "headline": headline(evaluation),
        "sentences": summary(evaluation),
        "standings": standings(evaluation),
        "comparisons": comparisons,
        "chance": round(comparisons * share),
        "cautions": cautions(evaluation),
        "moved": _moved(evaluation),
        "grids": {grid.name: grid for grid in grids(evaluation)},
        "methods": _methods(evaluation),
        "measures": _measures(evaluation),
        "facts": _facts(evaluation),
        "skipped": evaluation.skipped[:MAX_SKIPPED_SHOWN],
        "unlisted": max(0, len(evaluation.skipped) - MAX_SKIPPED_SHOWN),
        "speed": _picture(plots.speed_plot(evaluation, prefix)),
        "forest": _picture(plots.forest_plot(evaluation, prefix)),
        "curves": [Markup(each) for each in plots.curve_plots(evaluation, prefix)],  # noqa: S704
        "rise": _picture(plots.rise_plot(evaluation, prefix)),
        "gallery": [_shown(entry, evaluation, album) for entry in evaluation.gallery],
    }


def _shown(entry: GalleryEntry, evaluation: Evaluation, album: _Album) -> Shown:
    pictures = [album.picture(entry.picture, "Photo", f"The photo: {entry.title}")]
    for name, file in entry.overlays.items():
        method = evaluation.method(name)
        label = method.label if method else name
        pictures.append(album.picture(file, label, f"Map of {label} over the photo"))
    scored = entry.score is not None and math.isfinite(entry.score)
    score = f", chosen by {number(entry.score, 3)}" if scored and entry.score is not None else ""
    return Shown(f"{_CHOICES[entry.choice]}: {entry.title}", f"{entry.photo}{score}", pictures)


def _methods(evaluation: Evaluation) -> Grid | None:
    rows = []
    for method in measured(evaluation):
        other = f"{method.other_class} of {method.photos}" if method.other_class else "none"
        cells = (
            method.label, method.runtime or "", method.precision or "",
            _settings(method.settings), other, "; ".join(method.cautions),
        )  # fmt: skip
        rows.append(Row(tuple(map(Cell, cells)), method.family))
    header = ("Method", "runtime", "precision", "settings", "photos explained for another class")
    caption = "How each method ran"
    kept = tuple(rows)
    return Grid("methods", caption, (*header, "cautions"), kept, prose=True) if rows else None


def _measures(evaluation: Evaluation) -> Grid | None:
    rows = []
    for measure in evaluation.measures:
        cells = (
            label_of(measure, evaluation), measure.better,
            f"{number(measure.low, 0)} to {number(measure.high, 0)}",
            "moves it: names no winner" if measure.contrast_moves else "cannot move it",
            measure.source, _settings(measure.settings),
        )  # fmt: skip
        rows.append(Row(tuple(map(Cell, cells))))
    header = ("Measure", "better is", "range", "contrast alone", "source", "settings")
    return (
        Grid("measures", "What the measures are", header, tuple(rows), prose=True) if rows else None
    )


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """List what the numbers depend on, as terms and their values."""
    subject, settings, made = evaluation.subject, evaluation.settings, evaluation.provenance
    device = evaluation.device
    facts = [
        ("Classifier", f"{subject.classifier}, {subject.classes} classes"),
        ("Input", " × ".join(map(str, subject.input_size))),
        ("Explainer", f"{subject.auxiliary}, {subject.explainer_state}"),
        ("Judge", evaluation.judge),
        ("Device", f"{device.cpu}, {device.cores} cores, {device.system}"),
        ("GPU", device.gpu or "none"),
        ("Photos", f"{evaluation.photos}, {len(evaluation.skipped)} could not be read"),
        ("Limit of photos", "none" if settings.limit is None else str(settings.limit)),
        ("Costly methods", f"over {settings.costly_passes} passes: {settings.costly_limit} photos"),
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
    return [*facts, *[(f"SHA-256, {name}", value) for name, value in hashes.items() if value]]


def _picture(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)  # noqa: S704  its texts are escaped where it is drawn


def _finalised(value: object) -> object:
    """Take out what no file may hold; autoescape does the rest."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _settings(found: dict[str, str] | dict[str, float | int | str] | dict[str, float | str]) -> str:
    shown = (f"{v:g}" if isinstance(v, float) else str(v) for v in found.values())
    return ", ".join(f"{key} {value}" for key, value in zip(found, shown, strict=True))


def _listed(found: list[MeasureRecord], total: int, evaluation: Evaluation) -> str:
    """Name the measures where they are few enough to read."""
    if len(found) == total or len(found) > 4:
        return ""
    return f" ({', '.join(label_of(measure, evaluation) for measure in found)})"


def _share(count: int, total: int) -> str:
    return f"all {total}" if count == total > 1 else f"{count} of {total}"


def _times(ratio: float) -> str:
    if not ratio >= 10:
        return f"{ratio:.1f} times"
    rounded = round(ratio, 1 - math.floor(math.log10(ratio)))
    return f"{rounded:,.0f} times"


def _joined(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
