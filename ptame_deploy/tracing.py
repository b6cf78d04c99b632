"""From a module of PyTorch to ONNX: the exporter, and how its failures are told."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import nn

from ptame_deploy.errors import CheckFailedError, reason_of
from ptame_deploy.graph_file import forget_sources
from ptame_deploy.onnx_classifier import foreign_graphs, splice
from ptame_deploy.quiet_exporter import quiet_exporter


def trace(
    module: nn.Module,
    arguments: Sequence[torch.Tensor],
    dynamic: Sequence[dict[int, Any]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """Trace a module as ONNX.

    Args:
        module: in eval mode.
        arguments: an example of each input.
        dynamic: the axes of each that vary.
        inputs: their names.
        outputs: the outputs' names.
        opset: ONNX's.

    Raises:
        CheckFailedError: the exporter fails.
    """
    graphs = foreign_graphs(module)

    def export() -> onnx.ModelProto:
        with quiet_exporter():
            program = torch.onnx.export(
                module,
                tuple(arguments),
                dynamo=True,
                dynamic_shapes=tuple(dynamic),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=opset,
                verbose=False,
            )
        assert program is not None
        graph: onnx.ModelProto = program.model_proto
        return graph

    try:
        with _out_of_place(module, arguments):
            graph = _exported(module, export)
    except Exception as error:  # the exporter wraps whatever the traced model raises
        message = f"PyTorch could not export the model as ONNX: {_innermost(error)}"
        raise CheckFailedError(message) from error
    forget_sources(graph)
    splice(graph, graphs)
    return graph


def _exported(module: nn.Module, export: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """Export, a second time with attention written out where it may be that which failed."""
    try:
        return export()
    except Exception:
        with _attention_written_out(module) as changed:
            if not changed:
                raise
            return export()


@contextmanager
def _out_of_place(module: nn.Module, arguments: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let activations write to memory of their own: tracing takes half the time, the graph is one.

    The exporter knows ``hardtanh`` and ``hardswish`` as they are, and takes ``hardtanh_`` apart, at
    a symbolic batch. A module that reads what an activation overwrote (a shortcut past it) would
    answer otherwise, and is traced as it is.
    """
    parts = [
        part
        for part in module.modules()
        if getattr(part, "inplace", None) is True and not isinstance(part, torch.jit.ScriptModule)
    ]
    try:
        if parts and not _same_answers(module, arguments, parts):
            _set_inplace(parts, inplace=True)
        yield
    finally:
        _set_inplace(parts, inplace=True)


def _same_answers(
    module: nn.Module, arguments: Sequence[torch.Tensor], parts: Sequence[nn.Module]
) -> bool:
    """Whether a module answers the same with ``parts`` out of place, which they are afterwards."""
    image, *others = arguments
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    image = noise if image.is_floating_point() else (255 * noise).to(image.dtype)
    answers = []
    for inplace in (True, False):
        _set_inplace(parts, inplace=inplace)
        with torch.no_grad():
            found = module(image.clone(), *others)
        answers.append(found if isinstance(found, tuple) else (found,))
    return all(torch.equal(one, other) for one, other in zip(*answers, strict=True))


def _set_inplace(parts: Sequence[nn.Module], *, inplace: bool) -> None:
    for part in parts:
        part.inplace = inplace  # type: ignore[assignment]


@contextmanager
def _attention_written_out(module: nn.Module) -> Iterator[bool]:
    """Let timm's attention be matrix products and softmax rather than PyTorch's one operator.

    ONNX has that operator for four axes alone; Hiera and NesT have five. The numbers are the same.

    Yields:
        Whether there is such attention.
    """
    fused = [part for part in module.modules() if getattr(part, "fused_attn", None) is True]
    for part in fused:
        part.fused_attn = False  # type: ignore[assignment]
    try:
        yield bool(fused)
    finally:
        for part in fused:
            part.fused_attn = True  # type: ignore[assignment]


def _innermost(error: BaseException) -> str:
    """Return the first line of what went wrong first: the exporter wraps it in advice to itself."""
    while error.__cause__ is not None:
        error = error.__cause__
    return reason_of(error)
