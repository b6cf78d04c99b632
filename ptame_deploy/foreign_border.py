"""Which tensors of somebody's ONNX graph are the image and the logits."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.heads import Head

Layout = Literal["nchw", "nhwc"]
DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.UINT8: np.dtype(np.uint8),
}
_COLOURS = 3


def find_image(
    path: Path, model: onnx.ModelProto, name: str | None
) -> tuple[onnx.ValueInfoProto, Layout]:
    """Return the image input, and the order of its axes.

    Args:
        path: the file, for errors.
        model: the graph, weights not among its inputs.
        name: of the input, or None to find it.

    Raises:
        InvalidInputError: none, several, or further inputs beside it.
    """
    inputs = list(model.graph.input)
    told = ", ".join(f"{value.name} {_told(value)}" for value in inputs) or "none"
    candidates = {v.name: layout for v in inputs if (layout := _layout(v)) is not None}
    if name is not None:
        if name not in candidates:
            message = (
                f"Input {name!r} of {path} is no image input (4 axes, 3 colours; float or uint8). "
                f"Its inputs: {told}."
            )
            raise InvalidInputError(message)
        candidates = {name: candidates[name]}
    if not candidates:
        message = (
            f"{path} has no image input (4 axes, 3 colours; float or uint8). Its inputs: {told}."
        )
        raise InvalidInputError(message)
    if len(candidates) > 1:
        message = (
            f"{path} takes several images ({', '.join(candidates)}), and one photo is explained. "
            f"If an output needs but one, name it behind the file ({path.name}@output=NAME); else "
            "make the others constants first, for instance with onnx_graphsurgeon."
        )
        raise InvalidInputError(message)
    found, layout = next(iter(candidates.items()))
    others = [value.name for value in inputs if value.name != found]
    if others:
        message = (
            f"{path} takes more than an image ({', '.join(others)}): make them constants first, "
            "for instance with onnxsim or onnx_graphsurgeon."
        )
        raise InvalidInputError(message)
    return next(value for value in inputs if value.name == found), layout


def _layout(value: onnx.ValueInfoProto) -> Layout | None:
    tensor = value.type.tensor_type
    axes = [axis.dim_value for axis in tensor.shape.dim]
    if tensor.elem_type not in DTYPES or len(axes) != 4:
        return None
    if axes[1] == _COLOURS:
        return "nchw"
    return "nhwc" if axes[3] == _COLOURS else None


def _told(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    axes = [axis.dim_param or axis.dim_value or "?" for axis in tensor.shape.dim]
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return f"{kind} ({', '.join(map(str, axes))})"


def image_shape(
    image: onnx.ValueInfoProto, layout: Layout, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the image's shape; the batch is 0 where the graph takes any."""
    axes = [max(axis.dim_value, 0) for axis in image.type.tensor_type.shape.dim]  # some write -1
    first = 1 if layout == "nhwc" else 2
    for axis, side in zip((first, first + 1), size, strict=True):
        axes[axis] = axes[axis] or side
    batch, one, two, three = axes
    return batch, one, two, three


def find_output(
    path: Path,
    answers: dict[str, NDArray[Any]],
    batch: int,
    name: str | None,
) -> str:
    """Return the name of the output that has one float a class.

    Args:
        path: the file, for errors.
        answers: all outputs, of one run.
        batch: images of that run.
        name: of the output, or None to find it.

    Raises:
        InvalidInputError: none, or several.
    """
    listed = [f"{key} {value.dtype} {value.shape}" for key, value in answers.items()]
    told = ", ".join(listed) or "no tensors"
    candidates = [
        key
        for key, value in answers.items()
        if value.dtype in (np.float32, np.float16)
        and value.ndim >= 2
        and value.shape[0] == batch
        and value.size == batch * max(value.shape[1:])
    ]
    if name is not None:
        if name not in candidates:
            message = (
                f"Output {name!r} of {path} is no classifier's answer (one float a class). Its "
                f"outputs: {told}."
            )
            raise InvalidInputError(message)
        return name
    if not candidates:
        message = (
            f"{path} has no output that could be a classifier's answer (one float a class). Its "
            f"outputs: {told}."
        )
        raise InvalidInputError(message)
    if len(candidates) > 1 and "logits" in candidates:
        return "logits"
    if len(candidates) > 1:
        message = (
            f"{path} has several outputs that could be the answer ({', '.join(candidates)}): name "
            f"the right one behind the file, {path.name}@output=NAME."
        )
        raise InvalidInputError(message)
    return candidates[0]


def before_activation(model: onnx.ModelProto, output: str) -> tuple[str, Head]:
    """Return the tensor that holds the logits: in front of a last softmax or sigmoid."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found, head = output, "softmax"
    while (node := makers.get(found)) is not None:
        if node.op_type in ("Softmax", "LogSoftmax", "Sigmoid"):
            return node.input[0], "sigmoid" if node.op_type == "Sigmoid" else "softmax"
        if node.op_type not in ("Identity", "Cast"):
            break
        found = node.input[0]
    return output, head  # type: ignore[return-value]
