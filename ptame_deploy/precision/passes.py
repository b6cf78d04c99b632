"""`quantize`: an FP32 artifact becomes an FP16 or INT8 one, proven on photos before it is kept.

The order: prepare the graph, calibrate (INT8), lower everything, search for what must stay in
FP32, judge on photos that nothing was tuned on, write.
"""

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from ptame_deploy.artifacts import (
    GRAPH_FILE,
    GRAPH_MANIFEST,
    GraphManifest,
    Provenance,
    manifest_json,
    read_manifest,
    record_files,
)
from ptame_deploy.drift import Answers, Graph, Outputs, ask, compare, faithfulness, misses
from ptame_deploy.errors import CheckFailedError, InvalidInputError
from ptame_deploy.graph_border import Border
from ptame_deploy.graph_file import (
    check_graph_file,
    is_large,
    load_graph,
    opset_of,
    save_graph,
)
from ptame_deploy.onnx_session import open_session
from ptame_deploy.precision import calibration, fp16, int8
from ptame_deploy.precision.blocks import find_blocks, weighted_nodes
from ptame_deploy.precision.prepared_photos import PhotoSet, read_photos, split, without
from ptame_deploy.precision.sensitivity import Searched, error, leave_one_out, search
from ptame_deploy.preprocessing import to_float
from ptame_deploy.records import (
    CalibrationMethod,
    CalibrationRecord,
    DropIncreaseRecord,
    PrecisionRecord,
    SensitivityRecord,
    Target,
    Tolerance,
)
from ptame_deploy.storage import staged_artifact

Lowered = Literal["fp16", "int8"]

TOLERANCES: dict[Lowered, Tolerance] = {
    "fp16": Tolerance(top1_agreement=0.998, map_mean=0.02),
    "int8": Tolerance(top1_agreement=0.97, pearson=0.98),
}
# The search aims at this share of what the tolerance allows: it sees other photos than the judge.
MARGIN = 0.5
SENSITIVITY_PHOTOS = 32
FAITHFULNESS_PHOTOS = 48


@dataclass(frozen=True)
class QuantizeOptions:
    """How to lower a graph's precision.

    Attributes:
        precision: ``fp16`` or ``int8``.
        target: what will run an INT8 graph; the form differs.
        method: of calibration, or ``sweep`` to try all and keep the best.
        keep: blocks that stay in FP32, as the sensitivity report names them.
        most_kept: blocks that the search may keep in FP32 beside those; 0 for no search.
        sensitivity: report every block's cost, also where nothing has to be searched.
        calibration_photos: to calibrate on, at most, and as many others to search on.
        report_photos: to judge by, at most.
        tolerance: what the drift must hold; None for the precision's own.
        allow_drift: keep the graph also where it does not.
        threads: of ONNX Runtime; 0 for one a core.
        cache: folder of calibration caches; None for no cache.
    """

    precision: Lowered
    target: Target = "cpu"
    method: CalibrationMethod | Literal["sweep"] = "percentile"
    keep: Sequence[str] = ()
    most_kept: int = 8
    sensitivity: bool = False
    calibration_photos: int = 128
    report_photos: int = 400
    tolerance: Tolerance | None = None
    allow_drift: bool = False
    threads: int = 0
    cache: Path | None = field(default_factory=calibration.default_cache)

    def __post_init__(self) -> None:
        for name, least in (("most_kept", 0), ("calibration_photos", 1), ("report_photos", 1)):
            if getattr(self, name) < least:
                message = f"{name} must be at least {least}, got {getattr(self, name)}."
                raise InvalidInputError(message)

    @property
    def limits(self) -> Tolerance:
        """What the drift must hold."""
        return self.tolerance or TOLERANCES[self.precision]


def quantize(
    source: Path,
    photos: Sequence[Path],
    directory: Path,
    options: QuantizeOptions,
    *,
    calibration_photos: Sequence[Path] | None = None,
    say: Callable[[str], None] = lambda _: None,
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
        say(f"  skipped {reason}")
    with tempfile.TemporaryDirectory(prefix="ptame-quantize-") as folder:
        work = _Pass(source / GRAPH_FILE, manifest, options, tuned, Path(folder), say)
        searched = work.search()
        found = work.path(searched.kept)
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
    ) -> None:
        self.source, self.manifest, self.options = source, manifest, options
        self.folder, self.say = folder, say
        alone = options.precision == "fp16" or len(tuned) == 1
        self.calibrated = tuned if alone else PhotoSet(tuned.pixels[::2], [])
        self.searched = tuned if alone else PhotoSet(tuned.pixels[1::2], [])
        model = load_graph(source, weights=False)
        self.layers = {node.name for node in weighted_nodes(model.graph)}
        fixed = set(int8.border_layers(model.graph) if options.precision == "int8" else ())
        self.blocks = {
            block: free
            for block, nodes in find_blocks(model.graph).items()
            if (free := [node for node in nodes if node not in fixed])
        }
        self.external = is_large(model)
        unknown = [block for block in options.keep if block not in self.blocks]
        if unknown:
            known = ", ".join(self.blocks)
            message = f"No block is called {unknown[0]!r}. There are: {known}."
            raise InvalidInputError(message)
        self.prepared = folder / "prepared.onnx"
        prepare_graph(source, self.prepared, external=self.external)
        self.reference_graph = self._open(source)
        self.calibration: CalibrationRecord | None = None
        self.ranges: calibration.Ranges = {}
        self.made: dict[tuple[str, ...], Path] = {}
        self.int8: onnx.ModelProto | None = None

    def search(self) -> Searched:
        """Calibrate, lower everything, and find what must stay in FP32."""
        options, say = self.options, self.say
        say(f"Answering {len(self.searched)} photos in FP32 ...")
        self.reference = self._reference(self.searched)
        if options.precision == "int8":
            self._calibrate()
        kept = list(options.keep)
        say(f"Lowering to {options.precision} ...")
        held = self._holds(kept)
        report: list[SensitivityRecord] = []
        if options.sensitivity or (not held and options.most_kept):
            say(f"Leaving each of {len(self.blocks)} blocks in FP32 in turn ...")
            few = min(SENSITIVITY_PHOTOS, len(self.searched))
            report = leave_one_out(
                _first(self.reference, few), self.blocks, self.path, self._ask, kept=kept
            )
        if held or not options.most_kept:
            return Searched(kept, report, held)
        return search(report, self._holds, kept=kept, most=options.most_kept)

    def judge(self, found: Path, searched: Searched, judged: PhotoSet) -> PrecisionRecord:
        """Compare the chosen graph with FP32 on photos that nothing was tuned on."""
        reference = self._reference(judged)
        answers = self._answer(self._open(found), judged, reference)
        drift = compare(reference, answers)
        count = {"fp16": fp16.lowered, "int8": int8.lowered}[self.options.precision]
        lowered = count(load_graph(found, weights=False), self.layers)
        few = min(FAITHFULNESS_PHOTOS, len(judged))
        return PrecisionRecord(
            source_graph_sha256=self.manifest.files[GRAPH_FILE].sha256,
            target=self.options.target if self.options.precision == "int8" else None,
            calibration=self.calibration,
            lowered_nodes=lowered,
            kept_blocks=searched.kept,
            kept_nodes=len(self.layers) - lowered,
            drift=drift,
            tolerance=self.options.limits,
            misses=misses(drift, self.options.limits),
            faithfulness=self._faithfulness(judged, _first(reference, few), _first(answers, few)),
            sensitivity=searched.report,
        )

    def path(self, kept: Collection[str]) -> Path:
        """Return the lowered graph with these blocks in FP32; made if need be."""
        key = tuple(sorted(kept))
        if key not in self.made:
            nodes = [node for block in key for node in self.blocks[block]]
            prepared = load_graph(self.prepared)
            if self.options.precision == "fp16":
                model = fp16.to_fp16(prepared, nodes)
            else:
                model = onnx.ModelProto()
                model.CopyFrom(self._all_int8())
                int8.put_back(model, prepared, nodes)
            path = self.folder / f"candidate-{len(self.made)}.onnx"
            save_graph(model, path)
            self.made[key] = path
        return self.made[key]

    def _all_int8(self) -> onnx.ModelProto:
        """Return the graph with every layer in INT8 that may be; made once for all candidates."""
        if self.int8 is None:
            ranges = calibration.tensors_data(self.ranges)
            self.int8 = int8.to_int8(self.prepared, ranges, self.options.target)
        return self.int8

    def _forget(self) -> None:
        self.made.clear()
        self.int8 = None

    def _holds(self, kept: Collection[str]) -> bool:
        drift = compare(self.reference, self._ask(self.path(kept), None))
        self.say(
            f"  {len(kept)} blocks in FP32: top-1 agreement {drift.top1_agreement:.1%}, "
            f"map difference {drift.map_mean:.4f}, Pearson {drift.pearson:.4f}"
        )
        return not misses(drift, _tightened(self.options.limits))

    def _ask(self, path: Path, few: int | None) -> Answers:
        part = slice(0, len(self.searched) if few is None else few)
        photos = PhotoSet(self.searched.pixels[part], [])
        return self._answer(self._open(path), photos, _first(self.reference, part.stop))

    def _reference(self, photos: PhotoSet) -> Answers:
        graph, images = self.reference_graph, photos.images(slice(None), self.manifest)
        if not self.manifest.takes_classes:
            return ask(graph, images)
        first = np.zeros((len(images), 1), np.int64)
        return ask(graph, images, ask(graph, images, first).top[:, None])

    def _answer(self, graph: Graph, photos: PhotoSet, reference: Answers) -> Answers:
        images = photos.images(slice(None), self.manifest)
        classes = reference.top[:, None] if self.manifest.takes_classes else None
        return ask(graph, images, classes)

    def _faithfulness(
        self, judged: PhotoSet, reference: Answers, found: Answers
    ) -> list[DropIncreaseRecord]:
        images = to_float(judged.pixels[: len(reference.probability)])

        def prepare(masked: NDArray[np.float32]) -> NDArray[np.generic]:
            if self.manifest.takes_uint8:
                return np.rint(masked.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
            return np.ascontiguousarray(masked)

        self.say(f"Average drop and increase in confidence on {len(images)} of them ...")
        return faithfulness(self.reference_graph, images, reference, found, prepare)

    def _calibrate(self) -> None:
        options = self.options
        methods = calibration.METHODS if options.method == "sweep" else (options.method,)
        data = calibration.data_sha256(self.calibrated.pixels)
        results: dict[CalibrationMethod, tuple[float, calibration.Ranges]] = {}
        for method in methods:
            self.ranges = self._ranges(method, self._key(method, data))
            self._forget()
            if len(methods) == 1:
                results[method] = (0.0, self.ranges)
                break
            wrong = error(self.reference, self._ask(self.path(options.keep), None))
            self.say(f"  {method}: error {wrong:.4f}")
            results[method] = (wrong, self.ranges)
        best = min(results, key=lambda method: results[method][0])
        self.ranges = results[best][1]
        self._forget()
        self.calibration = CalibrationRecord(
            method=best,
            photos=len(self.calibrated),
            data_sha256=data,
            key=self._key(best, data),
            swept={m: wrong for m, (wrong, _) in results.items()} if len(methods) > 1 else {},
        )

    def _ranges(self, method: CalibrationMethod, key: str) -> calibration.Ranges:
        cache = self.options.cache
        found = None if cache is None else calibration.read_cache(cache, key)
        if found is not None:
            self.say(f"Calibration ({method}) from its cache, key {key[:12]}")
            return found
        self.say(f"Calibrating ({method}) on {len(self.calibrated)} photos ...")
        ranges = calibration.calibrate(
            self.prepared,
            self._feed,
            len(self.calibrated),
            method,
            sorted({*int8.CPU_OPERATORS, *int8.TENSORRT_OPERATORS}),
            external=self.external,
        )
        if cache is not None:
            calibration.write_cache(cache, key, ranges)
        return ranges

    def _key(self, method: CalibrationMethod, data: str) -> str:
        return calibration.calibration_key(self.manifest.files[GRAPH_FILE].sha256, data, method)

    def _feed(self, part: slice) -> dict[str, NDArray[np.generic]]:
        feed = {"image": self.calibrated.images(part, self.manifest)}
        if self.manifest.takes_classes:  # which, does not matter: no lowered layer sees them
            feed["class_index"] = np.zeros((part.stop - part.start, 1), np.int64)
        return feed

    def _open(self, path: Path) -> Graph:
        session = open_session(path, threads=self.options.threads)
        names = [output.name for output in session.get_outputs()]

        def run(images: NDArray[np.generic], classes: NDArray[np.int64] | None) -> Outputs:
            feeds = {"image": images}
            if self.manifest.takes_classes:
                assert classes is not None
                feeds["class_index"] = classes
            return dict(zip(names, session.run(names, feeds), strict=True))

        return run


def prepare_graph(source: Path, path: Path, *, external: bool) -> None:
    """Write the FP32 graph with every tensor's type known, and with layers joined that belong so.

    Args:
        source: the graph.
        path: the file to write.
        external: weights go to a file beside it.

    Raises:
        CheckFailedError: ONNX Runtime's preparation fails.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        quant_pre_process(
            source,
            path,
            skip_symbolic_shape=True,
            save_as_external_data=external,
            all_tensors_to_one_file=True,
            external_data_location=f"{path.name}.data",
        )
    except OSError:
        raise
    except Exception as failure:  # native optimisers share no base but Exception
        reason = str(failure).split("\n", maxsplit=1)[0]
        message = f"The graph cannot be prepared for a precision pass: {reason}"
        raise CheckFailedError(message) from failure


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


def _tightened(limits: Tolerance) -> Tolerance:
    return Tolerance(
        top1_agreement=1 - MARGIN * (1 - limits.top1_agreement),
        map_mean=None if limits.map_mean is None else MARGIN * limits.map_mean,
        pearson=None if limits.pearson is None else 1 - MARGIN * (1 - limits.pearson),
    )
