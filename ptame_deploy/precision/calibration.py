"""Ranges of activations, taken from real photos and kept under a key that new weights break."""

import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.drift import batches
from ptame_deploy.errors import CheckFailedError
from ptame_deploy.records import CalibrationMethod
from ptame_deploy.storage import write_text

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

METHODS: tuple[CalibrationMethod, ...] = ("minmax", "percentile", "entropy")
PERCENTILE = 99.999
# Photos whose activations are held at once; histograms of a chunk are merged with the others'.
CHUNK = 8
CACHE_SCHEMA = 1
CACHE = "calibration"

Ranges = Mapping[str, tuple[float, float]]
Feed = Callable[[slice], dict[str, NDArray[Any]]]


def calibration_key(graph_sha256: str, data_sha256: str, method: CalibrationMethod) -> str:
    """Return the key of a calibration: graph, data, method and tools.

    Any change of a weight changes the graph's hash, so that no cache of other weights is met.
    """
    tools = [f"{name} {metadata.version(name)}" for name in ("ptame-deploy", _onnxruntime())]
    parts = [str(CACHE_SCHEMA), graph_sha256, data_sha256, method, str(PERCENTILE), *tools]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def data_sha256(images: NDArray[np.uint8]) -> str:
    """Hash prepared photos: their pixels, count and order, as the graph is going to see them."""
    digest = hashlib.sha256(f"{images.dtype} {images.shape}\n".encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def read_cache(folder: Path, key: str) -> Ranges | None:
    """Return the ranges that were kept under a key; None where there are none, or broken ones."""
    try:
        document = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        if document["key"] != key or document["schema_version"] != CACHE_SCHEMA:
            return None
        ranges = {
            str(n): (float(low), float(high)) for n, (low, high) in document["ranges"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    usable = all(np.isfinite(pair).all() and pair[0] <= pair[1] for pair in ranges.values())
    return ranges if ranges and usable else None


def write_cache(folder: Path, key: str, ranges: Ranges) -> None:
    """Keep ranges under a key.

    Raises:
        InvalidInputError: the folder cannot be written.
        MissingRequirementError: the disk is full.
    """
    document = {"schema_version": CACHE_SCHEMA, "key": key, "ranges": dict(ranges)}
    write_text(folder / f"{key}.json", json.dumps(document) + "\n")


def calibrate(
    prepared: Path,
    feed: Feed,
    count: int,
    method: CalibrationMethod,
    operators: Sequence[str],
    *,
    external: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Ranges:
    """Run photos through a graph and find the range of every activation.

    Args:
        prepared: the FP32 graph as `prepare_graph` wrote it.
        feed: gives the graph's inputs for a slice of the photos.
        count: number of photos.
        method: ``minmax`` takes the extremes; ``percentile`` leaves the rarest 0.001 % out;
            ``entropy`` takes the range whose histogram loses the least information.
        operators: whose inputs and outputs are looked at.
        external: the graph's weights lie beside it.
        advance: called with the number of photos that were just run.

    Raises:
        CheckFailedError: a range is not finite.
    """
    from onnxruntime.quantization import CalibrationMethod as OrtMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    kinds = {
        "minmax": OrtMethod.MinMax,
        "percentile": OrtMethod.Percentile,
        "entropy": OrtMethod.Entropy,
    }
    options = {"percentile": PERCENTILE} if method == "percentile" else {}
    with tempfile.TemporaryDirectory(prefix="ptame-calibration-") as folder, _silent():
        calibrator = create_calibrator(
            prepared,
            list(operators),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=kinds[method],
            use_external_data_format=external,
            extra_options=options,
        )
        for chunk in batches(count, CHUNK):
            calibrator.collect_data(_Reader(feed, chunk))
            advance(chunk.stop - chunk.start)
        found = calibrator.compute_data()
    ranges = {
        name: (np.asarray(data.range_value[0]).item(), np.asarray(data.range_value[1]).item())
        for name, data in found.items()
    }
    broken = [name for name, pair in ranges.items() if not np.isfinite(pair).all()]
    if broken:
        message = f"Calibration found no finite range of {broken[0]} ({len(broken)} such tensors)."
        raise CheckFailedError(message)
    return ranges


def tensors_data(ranges: Ranges) -> "TensorsData":
    """Return ranges as ONNX Runtime's quantiser wants them."""
    from onnxruntime.quantization import CalibrationMethod as OrtMethod
    from onnxruntime.quantization.calibrate import TensorsData

    pairs = {n: (np.float32(low), np.float32(high)) for n, (low, high) in ranges.items()}
    return TensorsData(OrtMethod.MinMax, pairs)


class _Reader:
    """Hands a chunk of photos to a calibrator, one by one."""

    def __init__(self, feed: Feed, chunk: slice) -> None:
        self._inputs = self._read(feed, chunk)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._inputs, None)

    @staticmethod
    def _read(feed: Feed, chunk: slice) -> Iterator[dict[str, NDArray[Any]]]:
        for position in range(chunk.start, chunk.stop):
            yield feed(slice(position, position + 1))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the calibrators' prints from standard output, which is for results."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _onnxruntime() -> str:
    from ptame_deploy.onnx_session import check_onnxruntime

    return check_onnxruntime()
