"""Reading, cleaning and writing ONNX files, with weights beside the graph where it is too large."""

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx

from ptame_deploy.errors import ArtifactError, CheckFailedError, reason_of

# Protobuf refuses messages over 2 GiB; weights then go to a file beside the graph.
EXTERNAL_DATA_BYTES = 1_900_000_000
_SCOPES = "pkg.torch.onnx.name_scopes"  # of all that the exporter notes, what names a node's module


def load_graph(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """Read a graph.

    Args:
        path: the file.
        weights: also those that lie in a file beside it.

    Raises:
        ArtifactError: not an ONNX graph, or its weights are missing.
    """
    try:
        return onnx.load(path, load_external_data=weights)
    except OSError:
        raise
    except Exception as error:  # protobuf's and onnx's own share no base but Exception
        reason = reason_of(error)
        message = f"{path} cannot be read as an ONNX graph: {reason}"
        raise ArtifactError(message) from error


def check_graph_file(path: Path) -> None:
    """Run the ONNX checker, shapes and types included.

    Raises:
        CheckFailedError: it refuses the graph.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        message = f"The ONNX checker refuses the graph: {reason_of(error)}"
        raise CheckFailedError(message) from error


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the ONNX operators that a graph uses."""
    versions = [int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return versions[0]


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph; weights over 2 GB in total go to ``<path>.data``.

    Args:
        model: with all its weights loaded. Large ones are emptied as they are written.
        path: the file to write.
    """
    onnx.save(model, path, save_as_external_data=is_large(model), location=f"{path.name}.data")


def is_large(model: onnx.ModelProto) -> bool:
    """Whether a graph's weights, loaded or not, are too large for one file."""
    total = 0
    for weight in model.graph.initializer:
        size = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize
        for length in weight.dims:
            size *= length
        total += size
    return total > EXTERNAL_DATA_BYTES


def forget_sources(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes of the source code: paths and lines of the user's files.

    The names of the modules stay, by which precision passes name blocks.
    """
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output]:
        kept = [entry for entry in part.metadata_props if entry.key == _SCOPES]
        del part.metadata_props[:]
        part.metadata_props.extend(kept)
        part.doc_string = ""
    for weight in graph.initializer:
        del weight.metadata_props[:]
        weight.doc_string = ""


def walk_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes, and those of their inner graphs (of If, Loop)."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from walk_nodes(inner.node)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put a graph's nodes in topological order (converters append what they add at the end).

    Raises:
        CheckFailedError: the graph has a cycle.
    """
    producers = {output: position for position, n in enumerate(graph.node) for output in n.output}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for position, node in enumerate(graph.node):
        sorter.add(position, *(producers[name] for name in node.input if name in producers))
    try:
        order = list(sorter.static_order())
    except CycleError as error:
        message = "The converted graph has a cycle."
        raise CheckFailedError(message) from error
    nodes = [graph.node[position] for position in order]
    del graph.node[:]
    graph.node.extend(nodes)


def name_scopes(node: onnx.NodeProto) -> list[str]:
    """Return the modules that a node came from, outermost first; empty where nobody noted them."""
    import ast

    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError):
                return []
            return [scope for scope in scopes[:-1] if isinstance(scope, str)]
    return []
