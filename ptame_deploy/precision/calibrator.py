"""Ranges of activations for one graph and one set of photos, from their cache where it has them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.artifacts import GRAPH_FILE, GraphManifest
from ptame_deploy.precision import bias_correction, calibration, int8
from ptame_deploy.precision.candidates import Candidates
from ptame_deploy.precision.options import QuantizeOptions
from ptame_deploy.precision.prepared_photos import PhotoSet
from ptame_deploy.progress import Progress
from ptame_deploy.records import CalibrationMethod, CalibrationRecord


class Calibrator:
    """Finds ranges by one method or by all."""

    def __init__(
        self,
        manifest: GraphManifest,
        candidates: Candidates,
        photos: PhotoSet,
        options: QuantizeOptions,
        say: Callable[[str], None],
        progress: Progress,
    ) -> None:
        """Calibrate on these photos.

        Args:
            manifest: of the FP32 graph.
            candidates: get the ranges.
            photos: to calibrate on.
            options: which methods, and where the cache is.
            say: is told what is happening.
            progress: shows how far it is.
        """
        self._manifest, self._candidates, self._photos = manifest, candidates, photos
        self._options, self._say, self._progress = options, say, progress
        self._data = calibration.data_sha256(photos.pixels)
        self._found: dict[CalibrationMethod, calibration.Ranges] = {}

    def run(self, error_of: Callable[[Path], float]) -> CalibrationRecord:
        """Give the candidates the ranges of the asked method, or of the best of all, and means.

        Args:
            error_of: how wrong a lowered graph is; asked only where methods are compared.
        """
        options, found = self._options, self._candidates
        methods = calibration.METHODS if options.method == "sweep" else (options.method,)
        means = bias_correction.mean_inputs(
            found.prepared, self._feed, len(self._photos), threads=options.threads
        )
        swept: dict[CalibrationMethod, float] = {}
        if len(methods) > 1:
            for method in methods:
                found.use_calibration(self._ranges(method), means)
                swept[method] = error_of(found.path(options.keep))
                self._say(f"  {method}: error {swept[method]:.4f}")
        best = min(methods, key=lambda method: swept.get(method, 0.0))
        found.use_calibration(self._ranges(best), means)
        return CalibrationRecord(
            method=best,
            photos=len(self._photos),
            data_sha256=self._data,
            key=self._key(best),
            swept=swept,
        )

    def _ranges(self, method: CalibrationMethod) -> calibration.Ranges:
        if method in self._found:
            return self._found[method]
        cache, key = self._options.cache, self._key(method)
        known = None if cache is None else calibration.read_cache(cache, key)
        if known is not None:
            self._say(f"Calibration ({method}) from its cache, key {key[:12]}")
            self._found[method] = known
            return known
        self._say(f"Calibrating ({method}) on {len(self._photos)} photos ...")
        with self._progress("Photos", len(self._photos)) as advance:
            ranges = calibration.calibrate(
                self._candidates.prepared,
                self._feed,
                len(self._photos),
                method,
                sorted({*int8.CPU_OPERATORS, *int8.TENSORRT_OPERATORS}),
                external=self._candidates.external,
                advance=advance,
            )
        if cache is not None:
            calibration.write_cache(cache, key, ranges)
        self._found[method] = ranges
        return ranges

    def _key(self, method: CalibrationMethod) -> str:
        graph = self._manifest.files[GRAPH_FILE].sha256
        return calibration.calibration_key(graph, self._data, method)

    def _feed(self, part: slice) -> dict[str, NDArray[np.generic]]:
        feed = {"image": self._photos.images(part, self._manifest)}
        if self._manifest.takes_classes:  # which, does not matter: no lowered layer sees them
            feed["class_index"] = np.zeros((part.stop - part.start, 1), np.int64)
        return feed
