"""From an ONNX file to TensorRT's network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.flavours import Flavour
from engines.tensorrt.log import Log
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.errors import ArtifactError, InvalidInputError


@dataclass(frozen=True)
class ParsedGraph:
    """A network and what must live as long as it does.

    Attributes:
        log: the builder's.
        builder: an ``IBuilder``.
        network: a strongly typed ``INetworkDefinition``.
        parser: the ``OnnxParser``, which owns the network's weights.
    """

    log: Log
    builder: Any
    network: Any
    parser: Any


def parse(flavour: Flavour, graph: Path) -> ParsedGraph:
    """Parse an ONNX file.

    Raises:
        InvalidInputError: TensorRT cannot; the message names the nodes.
    """
    log = Log(flavour)
    builder = flavour.module.Builder(log.logger)
    network = builder.create_network(flavour.network_flags())
    parser = flavour.module.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(graph)):
        parser_errors = [parser.get_error(number) for number in range(parser.num_errors)]
        listed = "; ".join(
            f"node {parser_error.node_name() or '?'} ({parser_error.node_operator() or '?'}): "
            f"{parser_error.desc()}"
            for parser_error in parser_errors[:3]
        )
        message = (
            f"{flavour.name} {flavour.version} cannot parse {graph}: {listed or log.last_error}. "
            "Export with another --opset, or choose a classifier without that operator."
        )
        raise InvalidInputError(message)
    return ParsedGraph(log, builder, network, parser)


def check_border(flavour: Flavour, parsed: ParsedGraph, manifest: GraphManifest) -> None:
    """Compare a parsed network's inputs and outputs with what the graph's manifest says.

    Raises:
        ArtifactError: they differ.
    """
    network = parsed.network
    found = [
        (tensor.name, flavour.module.nptype(tensor.dtype).__name__, list(tensor.shape))
        for tensor in (
            *(network.get_input(number) for number in range(network.num_inputs)),
            *(network.get_output(number) for number in range(network.num_outputs)),
        )
    ]
    told = [
        (t.name, t.dtype, [-1 if isinstance(size, str) else size for size in t.shape])
        for t in [*manifest.inputs, *manifest.outputs]
    ]
    if found != told:
        message = f"The parsed network has {found}, the graph's manifest says {told}."
        raise ArtifactError(message)
