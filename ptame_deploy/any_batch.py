"""ONNX graphs that were exported for one batch, made to take any."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ptame_deploy.errors import CheckFailedError
from ptame_deploy.onnx_session import open_session

_TOLERANCE = 1e-3  # of the largest answer


def with_any_batch(
    path: Path,
    model: onnx.ModelProto,
    image: str,
    shape: tuple[int, int, int, int],
    dtype: np.dtype[Any],
) -> onnx.ModelProto:
    """Make sure that a graph answers to each image of a batch as to the image alone.

    Exported for one batch, graphs keep it in the shapes that they reshape to.

    Args:
        path: the file, for errors.
        model: declares a dynamic batch, right or wrong.
        image: name of its input.
        shape: of the image; the batch it was exported for, or 0.
        dtype: of the image.

    Raises:
        CheckFailedError: it does not, whatever is tried.
    """
    batch = shape[0] or 1
    if _answers_alike(model, image, shape, dtype, batch):
        return model
    freed: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    _free_reshapes(freed, batch)
    if _answers_alike(freed, image, shape, dtype, batch):
        return freed
    if not _answers_alike(model, image, shape, dtype, batch, times=1):
        message = (
            f"{path} answers otherwise when it is asked the same again: it holds random operators. "
            "Export it anew in eval mode."
        )
        raise CheckFailedError(message)
    message = (
        f"{path} is fixed to a batch of {batch}: it answers otherwise, or not at all, to batches "
        "of another size. Export it anew with a dynamic batch."
    )
    raise CheckFailedError(message)


def quietly() -> Any:
    """Return options of a run that may fail: what goes wrong is told once, not by the runtime."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    return options


def _answers_alike(
    model: onnx.ModelProto,
    image: str,
    shape: tuple[int, int, int, int],
    dtype: np.dtype[Any],
    batch: int,
    times: int = 3,
) -> bool:
    """Whether so many batches together are answered as they are apart."""
    together = noise(shape, dtype, times * batch)
    try:
        session = open_session(model.SerializeToString())
        whole = session.run(None, {image: together}, quietly())[0]
        apart = [
            session.run(None, {image: together[i : i + batch]}, quietly())[0]
            for i in range(0, len(together), batch)
        ]
    except Exception:  # noqa: BLE001 - ONNX Runtime's own; a graph that fails here is not alike
        return False
    expected = np.concatenate(apart).astype(np.float32)
    if whole.shape != expected.shape or len(whole) != len(together):
        return False
    scale = max(float(np.abs(expected).max()), 1e-6)
    return float(np.abs(whole - expected).max()) <= _TOLERANCE * scale


def _free_reshapes(model: onnx.ModelProto, batch: int) -> None:
    """Let constant target shapes that begin with the batch take any."""
    graph = model.graph
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for weight in graph.initializer:
        if weight.name in shapes:
            weight.CopyFrom(_freed(weight, batch))
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in shapes:
            for attribute in node.attribute:
                if attribute.name == "value":
                    attribute.t.CopyFrom(_freed(attribute.t, batch))


def _freed(shape: onnx.TensorProto, batch: int) -> onnx.TensorProto:
    lengths = numpy_helper.to_array(shape).copy()
    if lengths.ndim != 1 or not len(lengths) or lengths[0] != batch:
        return shape
    lengths[0] = 0 if -1 in lengths else -1  # 0: as it comes in
    return numpy_helper.from_array(lengths, shape.name)


def noise(
    shape: Sequence[int], dtype: np.dtype[Any], batch: int | None = None, seed: int = 0
) -> NDArray[Any]:
    """Return images of noise: ``batch`` of them, or as many as ``shape`` says."""
    generator = np.random.default_rng(seed)
    count = batch or shape[0] or 1
    values = generator.random((count, *shape[1:]), dtype=np.float32)
    return (values * 255).astype(dtype) if dtype == np.uint8 else values.astype(dtype)
