"""An evaluation from photos to results: every method, every measure, resumed where it stopped."""

import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from bench.device import describe_device
from bench.evaluation import pointing
from bench.evaluation.collect import Bench, collect
from bench.evaluation.contrast import EXPONENTS, measure_contrast
from bench.evaluation.gallery import gallery_column, make_gallery
from bench.evaluation.options import EvaluationOptions
from bench.evaluation.photos import Photo, judge_photos
from bench.evaluation.record import (
    judge_identity,
    measure_records,
    rival_packages,
    subject_record,
    values_csv,
    warnings,
)
from bench.evaluation.report.cells import many
from bench.evaluation.results import Evaluation, EvaluationSettings, SanityRecord
from bench.evaluation.rise_curve import measure_curve
from bench.evaluation.sanity import check_sanity, unchecked
from bench.evaluation.store import Store
from bench.evaluation.summary import Measured, method_records, verdicts
from bench.evaluation.timing import time_maps
from bench.measures.boxes import Box
from bench.measures.measure import MeasureSettings
from bench.measures.registry import choose
from bench.methods import registry
from bench.methods.given_maps import given_method
from bench.methods.method import Method, MethodFailedError, Row, Unavailable
from bench.methods.ptame import REFERENCE
from bench.results import Device
from ptame_deploy.bootstrap import PERCENT, RESAMPLES
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.progress import Progress
from ptame_deploy.provenance import Provenance
from ptame_deploy.storage import write_text

WORK = "work"
RESULTS, VALUES = "results.json", "values.csv"

Say = Callable[[str], None]


def evaluate(
    subject: registry.Subject,
    chosen: Sequence[tuple[Path, str]],
    options: EvaluationOptions,
    directory: Path,
    *,
    limit: int | None = None,
    boxes: Mapping[str, list[Box]] | None = None,
    progress: Progress,
    say: Say = lambda _: None,
) -> Evaluation:
    """Compare methods on photos, and write ``results.json``, ``values.csv`` and the gallery.

    What is done is kept in ``work`` at once: evaluating again into the same folder recomputes
    nothing of it, and gives the same numbers as if it had never stopped.

    Args:
        subject: what is explained, and who judges.
        chosen: photos with their names, in the order of evaluation.
        options: how.
        directory: gets everything.
        limit: as the user gave it, for the record.
        boxes: of objects, by photo name, for the pointing game.
        progress: shows how far it is.
        say: is told what is done.

    Raises:
        InvalidInputError: names that do not exist, no readable photo, boxes that fit none,
            maps that are missing or cannot be read.
        CheckFailedError: the judge or the reference fails.
    """
    manifest = subject.graphs[0].manifest
    settings = MeasureSettings(
        steps=options.steps, mean=manifest.preprocessing.mean, seed=options.seed
    )
    measures = choose(options.measures, settings)
    store = Store(directory / WORK)
    judge = judge_identity(manifest)
    with progress("Judging whole photos", len(chosen)) as advance:
        photos = judge_photos(
            chosen, manifest.preprocessing, subject.judge, judge, store.directory,
            advance=advance,
        )  # fmt: skip
    bench = Bench(
        judge=subject.judge,
        judge_identity=judge,
        preprocessing=manifest.preprocessing,
        measures=measures,
        store=store,
        costly_passes=options.costly_passes,
        costly_limit=options.costly_limit,
        costly_budget=options.costly_budget,
    )
    columns = [column for measure in measures for column in measure.columns]
    method_settings = replace(options.settings, seed=options.seed)
    names = {photo.sha256: photo.name for photo in photos.photos}
    size = manifest.preprocessing.input_size
    given = [given_method(one, names, size) for one in options.maps]
    others = registry.make_methods(subject, method_settings, options.methods)
    _refuse_taken_labels(given, others)
    rows = [*others, *given]
    pointed = None
    if boxes is not None:
        pointed = pointing.match(boxes, photos.photos, manifest)
        columns += pointing.COLUMNS
    measured = []
    for row in rows:
        one = _measure(bench, row, photos.photos, options, progress, say)
        if pointed is not None and one.found is not None and isinstance(row, Method):
            one.found.values.update(pointing.measure(bench, row, photos.photos, pointed))
        measured.append(one)
    device = describe_device()
    measured = _timed(bench, measured, photos.photos, device, options, progress)
    reference = next(one for one in measured if one.row.name == REFERENCE)
    assert isinstance(reference.row, Method)
    assert reference.found is not None  # its failure ends the evaluation
    with progress("P-TAME at other contrasts", len(EXPONENTS) * len(photos.photos)) as advance:
        contrast = measure_contrast(bench, reference.row, photos.photos, advance=advance)
    curve = None
    if options.curve.photos:
        total = 2 * options.curve.masks * min(options.curve.photos, len(photos.photos))
        with progress("RISE's curve (passes)", total) as advance:
            curve = measure_curve(
                bench, photos.photos, replace(options.curve, seed=options.seed),
                reference.found.values, judge, advance=advance,
            )  # fmt: skip
    entries = []
    if options.gallery:
        entries = make_gallery(
            bench, measured, photos.photos, columns, manifest, directory, options.seed
        )
    text = values_csv(measured, photos.photos, columns, manifest)
    write_text(directory / VALUES, text)
    about = subject_record(manifest)
    evaluation = Evaluation(
        provenance=Provenance.here(seed=options.seed),
        packages=rival_packages(),
        device=device,
        subject=about,
        judge=f"{about.classifier}, {manifest.precision}, on {subject.judge.runtime.description}",
        judge_sha256=judge,
        photos=len(photos.photos),
        photos_sha256=photos.sha256,
        values_sha256=sha256(text.encode()).hexdigest(),
        skipped=photos.skipped,
        settings=EvaluationSettings(
            seed=options.seed,
            batch=options.batch,
            limit=limit,
            costly_passes=options.costly_passes,
            costly_limit=options.costly_limit,
            costly_budget=options.costly_budget,
            sanity_photos=options.sanity_photos,
            bootstrap=RESAMPLES,
            interval_percent=PERCENT,
        ),
        measures=measure_records(measures, columns),
        fractions={
            m.name: [float(x) for x in m.fractions] for m in measures if m.fractions is not None
        },
        reference=REFERENCE,
        methods=method_records(measured, columns),
        verdicts=verdicts(measured, columns, len(photos.photos)),
        contrast=contrast,
        rise_curve=curve,
        gallery=entries,
        gallery_column=gallery_column(columns).name,
        warnings=warnings(photos, manifest),
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # Linux: KiB
    )
    write_text(directory / RESULTS, evaluation.model_dump_json(indent=2) + "\n")
    return evaluation


def _refuse_taken_labels(given: Sequence[Row], others: Sequence[Row]) -> None:
    """See that maps from files can be told from the other rows: their labels are anybody's.

    Raises:
        InvalidInputError: another method has the same label.
    """
    taken = {row.label.casefold() for row in others}
    for row in given:
        if row.label.casefold() in taken:
            message = f"--maps: there is a method {row.label!r} already: choose another label."
            raise InvalidInputError(message)


def _measure(
    bench: Bench,
    row: Row,
    photos: Sequence[Photo],
    options: EvaluationOptions,
    progress: Progress,
    say: Say,
) -> Measured:
    """Measure one method; one that fails becomes a row with the reason, and the others go on."""
    if isinstance(row, Unavailable):
        return Measured(row, None)
    chosen = bench.photos_for(row, photos)
    passes = f", {row.passes} passes each" if bench.is_costly(row) else ""
    try:
        with progress(
            f"{row.label} ({many(len(chosen), 'photo')}{passes})", len(chosen)
        ) as advance:
            found = collect(bench, row, photos, advance=advance)
    except MethodFailedError as error:
        if row.name == REFERENCE:
            raise (error.__cause__ or error) from None
        say(f"  {row.label} failed: {error}")
        return Measured(row, None, f"failed: {error}")
    sanity: SanityRecord | None = None
    if options.sanity_photos:
        try:
            with progress(f"{row.label}: sanity checks", 1) as advance:
                sanity = check_sanity(bench, row, photos[: options.sanity_photos], options.seed)
                advance(1)
        except MethodFailedError as error:  # what was measured stays
            say(f"  {row.label}: sanity checks failed: {error}")
            sanity = unchecked(f"failed: {error}")
    fewer: str | None = None
    if len(chosen) < len(photos):
        fewer = f"{row.passes:,} passes a photo: on the first {len(chosen)} photos only"
    return Measured(row, found, fewer, sanity)


def _timed(
    bench: Bench,
    measured: Sequence[Measured],
    photos: Sequence[Photo],
    device: Device,
    options: EvaluationOptions,
    progress: Progress,
) -> list[Measured]:
    """Time the methods that ran, when all maps are there, so that they can take turns."""
    rows = [m.row for m in measured if m.found is not None and isinstance(m.row, Method)]
    methods = [row for row in rows if row.cost is not None]
    with progress("Timing the maps", len(methods)) as advance:
        times = time_maps(
            bench, methods, photos, device.model_dump_json(), again=options.retime, advance=advance
        )
    return [replace(m, time=times.get(m.row.name)) for m in measured]
