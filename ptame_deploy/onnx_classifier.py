"""An ONNX graph as a classifier among PyTorch's: run by ONNX Runtime, merged when exported.

While a model around it is exported, the graph stands in it as one node; `splice` then puts its own
nodes there. So the fused graph holds somebody's classifier as it came, and nobody's source code.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import compose, version_converter
from torch import Tensor, nn

from ptame_deploy.errors import (
    CheckFailedError,
    InvalidInputError,
    MissingRequirementError,
    reason_of,
)
from ptame_deploy.foreign_graph import ForeignGraph
from ptame_deploy.graph_file import opset_of, walk_nodes
from ptame_deploy.onnx_session import open_session
from ptame_deploy.vision import import_torchvision

if TYPE_CHECKING:
    import onnxruntime

DOMAIN = "ptame"
_PLACE = "OnnxClassifier"
_PREFIX = "classifier/"
_TINY = 1e-12
_TOLERANCE = 1e-3
GRADIENT_EXTRA = 'pip install "ptame-deploy[onnx-gradient]"'


class OnnxClassifier(nn.Module):
    """Somebody's ONNX graph, from normalised images (B, 3, H, W) to logits (B, classes)."""

    def __init__(self, graph: ForeignGraph, name: str) -> None:
        """Take a graph.

        Args:
            graph: the classifier.
            name: how the user named it, for errors.
        """
        super().__init__()
        self.graph, self.name = graph, name
        self._session: onnxruntime.InferenceSession | None = None
        self._translated: nn.Module | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Classify; with a gradient where one is asked for and the graph can be translated.

        Raises:
            InvalidInputError: an operator has no gradient.
            MissingRequirementError: the package that translates is not there.
        """
        taken = self._as_the_graph_takes_it(image.float())
        if torch.compiler.is_exporting():
            answer = torch.onnx.ops.symbolic(
                f"{DOMAIN}::{_PLACE}",
                (taken,),
                {"graph": self.graph.sha256},
                dtype=self._answer_dtype,
                shape=(image.shape[0], self.graph.num_classes),
                version=1,
            )
        elif torch.is_grad_enabled() and image.requires_grad:
            answer = self._with_gradient(taken)
        else:
            answer = self._run(taken)
        logits = answer.float()
        return logits.clamp(min=_TINY).log() if self.graph.gives_probabilities else logits

    def _as_the_graph_takes_it(self, image: Tensor) -> Tensor:
        if self.graph.bgr:
            image = image.flip(1)
        if self.graph.layout == "nhwc":
            image = image.permute(0, 2, 3, 1)
        if self.graph.dtype == np.uint8:
            return (image * 255).round().clamp(0, 255).to(torch.uint8)
        return image.half() if self.graph.dtype == np.float16 else image

    @property
    def _answer_dtype(self) -> torch.dtype:
        half = onnx.TensorProto.FLOAT16
        output = self.graph.model.graph.output[0].type.tensor_type
        return torch.float16 if output.elem_type == half else torch.float32

    def _run(self, image: Tensor) -> Tensor:
        if self._session is None:
            self._session = open_session(self.graph.model.SerializeToString())
        feed = {self.graph.input: np.ascontiguousarray(image.detach().cpu().numpy())}
        answer = self._session.run(None, feed)[0]
        return torch.from_numpy(answer.reshape(len(answer), -1)).to(image.device)

    def _with_gradient(self, image: Tensor) -> Tensor:
        if self._translated is None:
            self._translated = _translate(self.graph, self.name)
            with torch.no_grad():
                expected, found = self._run(image), self._translated(image).flatten(1)
            worst = float((expected.float() - found.float()).abs().max())
            if worst > _TOLERANCE * max(float(expected.abs().max()), 1.0):
                self._translated = None
                message = (
                    f"{self.name} answers otherwise when translated to PyTorch (by {worst:.2g}): "
                    "no gradient of it can be trusted. --preset few needs none."
                )
                raise InvalidInputError(message)
        answer: Tensor = self._translated(image)
        return answer.flatten(1)

    def __getstate__(self) -> dict[str, Any]:
        """Copy without the session, which cannot be copied."""
        return self.__dict__ | {"_session": None}


def _translate(graph: ForeignGraph, name: str) -> nn.Module:
    import_torchvision()  # onnx2torch imports it, and must find it whole
    try:
        from onnx2torch import convert
    except ImportError as error:
        message = f"A gradient of {name} needs onnx2torch: {GRADIENT_EXTRA}"
        raise MissingRequirementError(message) from error
    if graph.dtype != np.float32:
        message = f"{name} takes {graph.dtype} images, which have no gradient. Use --preset few."
        raise InvalidInputError(message)
    try:
        translated: nn.Module = convert(graph.model)
    except Exception as error:  # it raises what it comes across
        kinds = ", ".join(_untranslatable(graph.model)) or reason_of(error)
        message = (
            f"{name} gives no gradient: PyTorch has no translation of {kinds}. --preset few needs "
            "no gradient."
        )
        raise InvalidInputError(message) from error
    return translated.eval().requires_grad_(requires_grad=False)


def _untranslatable(model: onnx.ModelProto) -> list[str]:
    """List the operators that onnx2torch does not know."""
    from onnx2torch.node_converters.registry import get_converter

    versions = {one.domain: one.version for one in model.opset_import}
    missing = set()
    for node in model.graph.node:
        try:
            get_converter(
                domain=node.domain,
                operation_type=node.op_type,
                version=versions.get(node.domain, 1),
            )
        except NotImplementedError:
            missing.add(node.op_type)
    return sorted(missing)


def foreign_graphs(module: nn.Module) -> dict[str, ForeignGraph]:
    """Return the graphs inside a model, by hash."""
    found = [part.graph for part in module.modules() if isinstance(part, OnnxClassifier)]
    return {graph.sha256: graph for graph in found}


def splice(model: onnx.ModelProto, graphs: Mapping[str, ForeignGraph]) -> None:
    """Put graphs in the place of the nodes that stand for them.

    Args:
        model: changed in place.
        graphs: by hash.

    Raises:
        CheckFailedError: a graph's operators cannot be brought to the model's version.
    """
    for position, node in reversed(list(enumerate(model.graph.node))):
        if (node.domain, node.op_type) == (DOMAIN, _PLACE):
            key = next(a.s.decode() for a in node.attribute if a.name == "graph")
            _put(model, position, _renamed(graphs[key], model, node))
    kept = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _renamed(
    graph: ForeignGraph, around: onnx.ModelProto, place: onnx.NodeProto
) -> onnx.ModelProto:
    """Return a graph whose names are its own, but for where it is joined."""
    prefixed = compose.add_prefix(_lifted(graph, opset_of(around)), _PREFIX)
    names = {
        _PREFIX + graph.input: place.input[0],
        _PREFIX + graph.output: place.output[0],
    }
    taken = {""}
    for number, node in enumerate(prefixed.graph.node):  # precision passes tell nodes by name
        if node.name.removeprefix(_PREFIX) in taken:
            node.name = f"{_PREFIX}{node.op_type}_{number}"
        taken.add(node.name.removeprefix(_PREFIX))
    for node in walk_nodes(prefixed.graph.node):
        for edges in (node.input, node.output):
            for position, name in enumerate(edges):
                edges[position] = names.get(name, name)
    return prefixed


def _lifted(graph: ForeignGraph, opset: int) -> onnx.ModelProto:
    if graph.opset == opset:
        return graph.model
    try:
        lifted: onnx.ModelProto = version_converter.convert_version(graph.model, opset)
    except Exception as error:  # the converter's own share no base but Exception
        reason = reason_of(error)
        message = (
            f"The classifier's operators cannot be lifted from opset {graph.opset} to {opset}: "
            f"{reason}"
        )
        raise CheckFailedError(message) from error
    return lifted


def _put(model: onnx.ModelProto, position: int, part: onnx.ModelProto) -> None:
    graph = model.graph
    nodes = [*graph.node[:position], *part.graph.node, *graph.node[position + 1 :]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    graph.initializer.extend(part.graph.initializer)
    known = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(e for e in part.opset_import if e.domain not in {*known, "ai.onnx"})
    model.ir_version = max(model.ir_version, part.ir_version)
