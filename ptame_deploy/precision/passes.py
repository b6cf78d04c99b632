"""`quantize`: an FP32 artifact becomes an FP16 or INT8 one, proven on photos before it is kept.

The order: prepare the graph, calibrate (INT8), lower everything, search for what must stay in
FP32, judge on photos that nothing was tuned on, write.
"""

import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.artifact_files import manifest_json, read_manifest, record_files
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST, GraphManifest
from ptame_deploy.drift import Answers, ask, ask_reference, compare, faithfulness, misses
from ptame_deploy.errors import CheckFailedError, InvalidInputError
from ptame_deploy.graph_border import Border
from ptame_deploy.graph_file import (
    check_graph_file,
    load_graph,
    opset_of,
    save_graph,
)
from ptame_deploy.heads import Head
from ptame_deploy.onnx_session import Graph, open_graph
from ptame_deploy.precision.calibrator import Calibrator
from ptame_deploy.precision.candidates import Candidates
from ptame_deploy.precision.options import QuantizeOptions
from ptame_deploy.precision.prepared_photos import PhotoSet, read_photos, split, without
from ptame_deploy.precision.sensitivity import Searched, error, leave_one_out, search
from ptame_deploy.preprocessing import to_float
from ptame_deploy.progress import Progress, no_progress
from ptame_deploy.provenance import Provenance
from ptame_deploy.records import (
    CalibrationRecord,
    DropIncreaseRecord,
    PrecisionRecord,
    SensitivityRecord,
)
from ptame_deploy.storage import staged_artifact

SENSITIVITY_PHOTOS = 32
FAITHFULNESS_PHOTOS = 48


def quantize(
    source: Path,
    photos: Sequence[Path],
    directory: Path,
    options: QuantizeOptions,
    *,
    calibration_photos: Sequence[Path] | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = no_progress,
    unreadable: Callable[[str], None] = lambda _: None,
) -> GraphManifest:
    """Lower the precision of an exported graph.

    Args:
        source: folder of the FP32 artifact.
        photos: to judge by; without ``calibration_photos`` every fourth is held out for that,
            and the others are tuned on.
        directory: where the new artifact goes.
        options: how.
        calibration_photos: to calibrate and search on.
        say: is told what is happening, line by line.
        progress: shows how far calibration and the search are.
        unreadable: is told of each photo that cannot be read, with the reason; others serve.

    Returns:
        The manifest as written.

    Raises:
        InvalidInputError: the source is not FP32, or photos, blocks or folder cannot be used.
        ArtifactError: the source is corrupt.
        CheckFailedError: out of tolerance, and drift is not allowed; nothing is kept.
        MissingRequirementError: ONNX Runtime is not there, or the disk is full.
    """
    manifest = read_manifest(source, GRAPH_MANIFEST, GraphManifest)
    if manifest.precision != "fp32":
        message = (
            f"{source} is {manifest.precision} already: give the FP32 artifact that ptame export "
            "wrote."
        )
        raise InvalidInputError(message)
    tuned_paths, judged_paths = (
        split(photos) if calibration_photos is None else (calibration_photos, photos)
    )
    # Half of them give the ranges, half are searched on: on its own photos a range flatters.
    tuned = read_photos(tuned_paths, manifest, most=2 * options.calibration_photos)
    judged = without(read_photos(judged_paths, manifest, most=options.report_photos), tuned)
    for reason in [*tuned.skipped, *judged.skipped]:
        unreadable(reason)
    with tempfile.TemporaryDirectory(prefix="ptame-quantize-") as folder:
        work = _Pass(source / GRAPH_FILE, manifest, options, tuned, Path(folder), say, progress)
        searched = work.search()
        found = work.candidates.path(searched.kept)
        say(f"Judging by {len(judged)} photos that nothing was tuned on ...")
        record = work.judge(found, searched, judged)
        if record.misses and not options.allow_drift:
            listed = "; ".join(record.misses)
            message = (
                f"The {options.precision} graph drifts from the FP32 graph: {listed}. Nothing was "
                "kept. Give more or better photos, let more blocks stay in FP32 (--max-kept), try "
                "--method sweep, or keep it as it is with --allow-drift."
            )
            raise CheckFailedError(message)
        return _write(directory, found, manifest, record, options)


class _Pass:
    """One run: the prepared graph, what is known of it, and the candidates made so far."""

    def __init__(
        self,
        source: Path,
        manifest: GraphManifest,
        options: QuantizeOptions,
        tuned: PhotoSet,
        folder: Path,
        say: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self.source, self.manifest, self.options = source, manifest, options
        self.folder, self.say, self.progress = folder, say, progress
        alone = options.precision == "fp16" or len(tuned) == 1
        self.calibrated = tuned if alone else PhotoSet(tuned.pixels[::2], [])
        self.searched = tuned if alone else PhotoSet(tuned.pixels[1::2], [])
        self.candidates = Candidates(source, folder, options)
        self.reference_graph = open_graph(source, threads=options.threads)
        self.calibration: CalibrationRecord | None = None

    def search(self) -> Searched:
        """Calibrate, lower everything, and find what must stay in FP32."""
        options, say = self.options, self.say
        say(f"Answering {len(self.searched)} photos in FP32 ...")
        self.reference = self._reference(self.searched)
        if options.precision == "int8":
            calibrator = Calibrator(
                self.manifest, self.candidates, self.calibrated, options, say, self.progress
            )
            self.calibration = calibrator.run(
                lambda path: error(self.reference, self._ask(path, None))
            )
        kept = list(options.keep)
        say(f"Lowering to {options.precision} ...")
        held = self._holds(kept)
        report: list[SensitivityRecord] = []
        if options.sensitivity or (not held and options.most_kept):
            blocks = self.candidates.blocks
            say(f"Leaving each of {len(blocks)} blocks in FP32 in turn ...")
            few = min(SENSITIVITY_PHOTOS, len(self.searched))
            with self.progress("Blocks", len(blocks)) as advance:
                report = leave_one_out(
                    _first(self.reference, few),
                    blocks,
                    self.candidates.path,
                    self._ask,
                    kept=kept,
                    advance=advance,
                )
        if held or not options.most_kept:
            return Searched(kept, report, held)
        return search(report, self._holds, kept=kept, most=options.most_kept)

    def judge(self, found: Path, searched: Searched, judged: PhotoSet) -> PrecisionRecord:
        """Compare the chosen graph with FP32 on photos that nothing was tuned on."""
        reference = self._reference(judged)
        answers = self._answer(self._graph(found), judged, reference)
        drift = compare(reference, answers)
        lowered = self.candidates.count_lowered(found)
        few = min(FAITHFULNESS_PHOTOS, len(judged))
        return PrecisionRecord(
            source_graph_sha256=self.manifest.files[GRAPH_FILE].sha256,
            target=self.options.target if self.options.precision == "int8" else None,
            calibration=self.calibration,
            lowered_nodes=lowered,
            kept_blocks=searched.kept,
            kept_nodes=len(self.candidates.layers) - lowered,
            drift=drift,
            tolerance=self.options.limits,
            misses=misses(drift, self.options.limits),
            faithfulness=self._faithfulness(judged, _first(reference, few), _first(answers, few)),
            sensitivity=searched.report,
        )

    def _holds(self, kept: Collection[str]) -> bool:
        drift = compare(self.reference, self._ask(self.candidates.path(kept), None))
        blocks = "1 block" if len(kept) == 1 else f"{len(kept)} blocks"
        self.say(
            f"  {blocks} in FP32: top-1 agreement {drift.top1_agreement:.1%}, "
            f"map difference {drift.map_mean:.4f}, Pearson {drift.pearson:.4f}"
        )
        return not misses(drift, self.options.search_limits)

    def _graph(self, path: Path) -> Graph:
        return open_graph(path, threads=self.options.threads)

    @property
    def _head(self) -> Head:
        return self.manifest.classifier.head

    def _ask(self, path: Path, few: int | None) -> Answers:
        part = slice(0, len(self.searched) if few is None else few)
        photos = PhotoSet(self.searched.pixels[part], [])
        return self._answer(self._graph(path), photos, _first(self.reference, part.stop))

    def _reference(self, photos: PhotoSet) -> Answers:
        images = photos.images(slice(None), self.manifest)
        takes_classes = self.manifest.takes_classes
        return ask_reference(
            self.reference_graph, images, takes_classes=takes_classes, head=self._head
        )

    def _answer(self, graph: Graph, photos: PhotoSet, reference: Answers) -> Answers:
        images = photos.images(slice(None), self.manifest)
        classes = reference.top[:, None] if self.manifest.takes_classes else None
        return ask(graph, images, classes, head=self._head)

    def _faithfulness(
        self, judged: PhotoSet, reference: Answers, found: Answers
    ) -> list[DropIncreaseRecord]:
        images = to_float(judged.pixels[: len(reference.probability)])

        def prepare(masked: NDArray[np.float32]) -> NDArray[np.generic]:
            if self.manifest.takes_uint8:
                return np.rint(masked.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
            return np.ascontiguousarray(masked)

        self.say(f"Average drop and increase in confidence on {len(images)} of them ...")
        return faithfulness(
            self.reference_graph, images, reference, found, prepare, head=self._head
        )


def _write(
    directory: Path,
    found: Path,
    source: GraphManifest,
    record: PrecisionRecord,
    options: QuantizeOptions,
) -> GraphManifest:
    with staged_artifact(directory, GRAPH_MANIFEST) as stage:
        path = stage / GRAPH_FILE
        save_graph(load_graph(found), path)
        check_graph_file(path)
        model = load_graph(path, weights=False)
        border = Border.of_graph(model)
        if border != Border(source.inputs, source.outputs):
            message = f"The {options.precision} pass changed the graph's border to {border}."
            raise CheckFailedError(message)
        manifest = source.model_copy(
            update={
                "files": record_files(stage),
                "provenance": Provenance.here(seed=source.provenance.seed),
                "precision": options.precision,
                "opset": opset_of(model),
                "quantisation": record,
            }
        )
        (stage / GRAPH_MANIFEST).write_text(manifest_json(manifest), encoding="utf-8")
    return manifest


def _first(answers: Answers, count: int) -> Answers:
    return Answers(
        answers.probability[:count], answers.class_index[:count], answers.saliency[:count]
    )
