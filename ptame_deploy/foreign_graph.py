"""An ONNX classifier of somebody else's: which tensors are image and logits, and what it takes.

Exporters agree on little. The image may be NCHW or NHWC, float or uint8, the batch fixed, softmax
inside, the answer one output of several. All of that is read off the graph and off one run of it;
what cannot be told is asked for by name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, inliner, shape_inference

from ptame_deploy.any_batch import noise, quietly, with_any_batch
from ptame_deploy.errors import ArtifactError, CheckFailedError, InvalidInputError, reason_of
from ptame_deploy.foreign_border import (
    DTYPES,
    Layout,
    before_activation,
    find_image,
    find_output,
    image_shape,
)
from ptame_deploy.graph_file import is_large, load_graph, opset_of, walk_nodes
from ptame_deploy.heads import Head, are_shares
from ptame_deploy.onnx_session import open_session

if TYPE_CHECKING:
    import onnxruntime

DEFAULT_SIDE = 224
_WEIGHTS_ALONE = 4  # version of ONNX's format from which weights need not be inputs


@dataclass(frozen=True)
class ForeignGraph:
    """A classifier with one image input, one output, and any batch.

    Attributes:
        model: ends where its logits are, or its probabilities where those come from no softmax.
        sha256: of the file, weights outside included.
        input: name of the image input.
        output: name of the output.
        layout: order of the image's axes.
        dtype: of the image.
        size: height and width of the image.
        any_size: whether it takes others, too.
        num_classes: length of the answer.
        head: what makes probabilities of its logits.
        gives_probabilities: the output is probabilities.
        bgr: whether the image's colours are blue, green, red (OpenCV's order).
    """

    model: onnx.ModelProto
    sha256: str
    input: str
    output: str
    layout: Layout
    dtype: np.dtype[Any]
    size: tuple[int, int]
    any_size: bool
    num_classes: int
    head: Head
    gives_probabilities: bool
    bgr: bool = False

    @property
    def opset(self) -> int:
        """Version of the ONNX operators that it uses."""
        return opset_of(self.model)


def read_foreign_graph(
    path: Path,
    *,
    input_name: str | None = None,
    output_name: str | None = None,
    size: tuple[int, int] | None = None,
) -> ForeignGraph:
    """Read a classifier from an ONNX file.

    Args:
        path: the file; weights outside lie beside it.
        input_name: of the image, where there are several candidates.
        output_name: of the answer, where there are several candidates.
        size: height and width where the graph takes any (224 x 224).

    Raises:
        InvalidInputError: no input or output can be a classifier's, or several can; or the graph
            is a fused one.
        ArtifactError: the file is no ONNX graph.
        CheckFailedError: it does not run, or only for one fixed batch.
    """
    if not path.is_file():
        message = f"{path} does not exist."
        raise InvalidInputError(message)
    model = load_graph(path)
    if output_name is None and {"logits", "saliency"} <= {one.name for one in model.graph.output}:
        message = (
            f"{path} explains already, as what ptame export writes: give the classifier that it "
            "was made of."
        )
        raise InvalidInputError(message)
    if is_large(model):
        message = f"{path} holds over 2 GB of weights, which cannot be merged."
        raise InvalidInputError(message)
    try:
        model = inliner.inline_local_functions(model)
        digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
        _drop_weights_from_inputs(model)
        model = shape_inference.infer_shapes(model)
    except Exception as error:  # ONNX's own share no base but Exception
        reason = reason_of(error)
        message = f"{path} is an ONNX graph that contradicts itself: {reason}"
        raise ArtifactError(message) from error
    _drop_unread_inputs(model, output_name)
    image, layout = find_image(path, model, input_name)
    shape = image_shape(image, layout, size or (DEFAULT_SIDE, DEFAULT_SIDE))
    any_size = 0 in image_shape(image, layout, (0, 0))[1:]
    dtype = DTYPES[image.type.tensor_type.elem_type]
    example = noise(shape, dtype)
    try:
        answers = _run(path, model, {image.name: example})
    except CheckFailedError as error:
        if not any_size or size is not None:
            raise
        message = f"{error} It may take another size only: say which with --input-size."
        raise InvalidInputError(message) from error
    output = find_output(path, answers, len(example), output_name)
    if not np.isfinite(answers[output]).all():
        message = (
            f"{path} answers with NaN or infinity to an image of noise: its weights are broken."
        )
        raise InvalidInputError(message)
    cut, head = before_activation(model, output)
    logits = cut if answers[output].ndim == 2 else _flatten(model, cut)
    _keep_only(model, image, logits, shape, answers[output].reshape(len(example), -1).shape[1])
    model = with_any_batch(path, model, image.name, shape, dtype)
    found = np.concatenate([a.reshape(len(a), -1) for a in _probe(path, model, shape, dtype)])
    probabilities = cut == output and are_shares(found)
    return ForeignGraph(
        model=model,
        sha256=digest,
        input=image.name,
        output=logits,
        layout=layout,
        dtype=dtype,
        size=(shape[1], shape[2]) if layout == "nhwc" else (shape[2], shape[3]),
        any_size=any_size,
        num_classes=found.shape[1],
        head=head,
        gives_probabilities=probabilities,
    )


def _drop_weights_from_inputs(model: onnx.ModelProto) -> None:
    """Older graphs list their weights as inputs, too."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, _WEIGHTS_ALONE)


def _flatten(model: onnx.ModelProto, answer: str) -> str:
    """Bring an answer (B, classes, 1, 1) to (B, classes); return the new tensor's name."""
    flat = f"{answer}/flat"
    model.graph.node.append(onnx.helper.make_node("Flatten", [answer], [flat], name=flat, axis=1))
    return flat


def _drop_unread_inputs(model: onnx.ModelProto, output_name: str | None) -> None:
    """Forget inputs that do not matter: to the output that was named, or to any."""
    graph = model.graph
    outputs = [output.name for output in graph.output]
    if output_name in outputs:
        outputs = [output_name]
        kept = [output for output in graph.output if output.name == output_name]
        del graph.output[:]
        graph.output.extend(kept)
    nodes = _leading_to(graph, outputs)
    read = {name for node in nodes for name in _reads(node)} | set(outputs)
    for part, wanted in (
        ("node", nodes), ("input", [value for value in graph.input if value.name in read]),
    ):  # fmt: skip
        copies = [type(one).FromString(one.SerializeToString()) for one in wanted]
        del getattr(graph, part)[:]
        getattr(graph, part).extend(copies)


def _leading_to(graph: onnx.GraphProto, outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """Return the nodes that outputs are made by, in the graph's order."""
    makers = {name: node for node in graph.node for name in node.output}
    wanted, stack = set(), list(outputs)
    while stack:
        node = makers.get(stack.pop())
        if node is not None and id(node) not in wanted:
            wanted.add(id(node))
            stack += _reads(node)
    return [node for node in graph.node if id(node) in wanted]


def _session(path: Path, model: onnx.ModelProto) -> "onnxruntime.InferenceSession":
    try:
        return open_session(model.SerializeToString())
    except ArtifactError as error:
        message = str(error).replace("The graph", str(path), 1)
        raise CheckFailedError(message) from error


def _run(
    path: Path, model: onnx.ModelProto, feed: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Run a graph on the CPU, and give all its outputs by name.

    Raises:
        CheckFailedError: ONNX Runtime cannot load or run it.
    """
    session = _session(path, model)
    names = [output.name for output in session.get_outputs()]
    try:
        answers = zip(names, session.run(names, feed, quietly()), strict=True)
    except Exception as error:  # ONNX Runtime's own share no base but Exception
        reason = reason_of(error)
        shape = next(iter(feed.values())).shape
        message = f"{path} does not run on an image of {shape}: {reason}"
        raise CheckFailedError(message) from error
    return {name: answer for name, answer in answers if isinstance(answer, np.ndarray)}


def _keep_only(
    model: onnx.ModelProto,
    image: onnx.ValueInfoProto,
    output: str,
    shape: tuple[int, int, int, int],
    classes: int,
) -> None:
    """Cut a graph to what leads from the image to one output, with a batch of any size."""
    graph = model.graph
    nodes = _leading_to(graph, [output])
    read = {name for node in nodes for name in _reads(node)}
    weights = [weight for weight in graph.initializer if weight.name in read]
    elem_type = next(
        (v.type.tensor_type.elem_type for v in [*graph.output, *graph.value_info]
         if v.name == output),
        TensorProto.FLOAT,
    )  # fmt: skip
    for part, kept in (("node", nodes), ("initializer", weights), ("value_info", [])):
        copies = [type(one).FromString(one.SerializeToString()) for one in kept]
        del getattr(graph, part)[:]
        getattr(graph, part).extend(copies)
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(output, elem_type, ["batch", classes]))
    for axis, length in zip(image.type.tensor_type.shape.dim, ("batch", *shape[1:]), strict=True):
        axis.Clear()
        if isinstance(length, str):
            axis.dim_param = length
        else:
            axis.dim_value = length


def _reads(node: onnx.NodeProto) -> list[str]:
    """List what a node and its inner graphs read."""
    return [name for one in walk_nodes([node]) for name in one.input]


def _probe(
    path: Path, model: onnx.ModelProto, shape: tuple[int, int, int, int], dtype: np.dtype[Any]
) -> list[NDArray[Any]]:
    """Return the answers to a few images of noise, darker and lighter."""
    name = model.graph.input[0].name
    found = []
    for seed, scale in enumerate((1.0, 0.5, 0.0)):
        image = (noise(shape, dtype, 1, seed).astype(np.float32) * scale).astype(dtype)
        found.append(next(iter(_run(path, model, {name: image}).values())))
    return found
