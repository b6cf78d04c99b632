"""Which operators a graph's time goes to, beside their share of its multiply-adds."""

import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from engines.runtime import Arrays
from ptame_deploy.macs import macs_by_node
from ptame_deploy.onnx_session import open_session

_JOINED = ("Add", "Clip", "HardSigmoid", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Tanh")


@dataclass(frozen=True)
class OperatorCost:
    """One operator of the graph as it runs.

    Attributes:
        name: of its node, after ONNX Runtime fused some.
        operator: its type; after fusing, the type of the fused one.
        time_ms: mean time a run.
        time_share: of all operators' time, 0 to 1.
        macs_share: of the graph's multiply-adds, 0 to 1.
    """

    name: str
    operator: str
    time_ms: float
    time_share: float
    macs_share: float


def operator_costs(
    graph: Path, inputs: Arrays, *, threads: int = 0, runs: int = 10
) -> list[OperatorCost]:
    """Run a graph under ONNX Runtime's profiler.

    Args:
        graph: the ONNX file.
        inputs: every input by name.
        threads: threads within an operator; 0 for one a core.
        runs: profiled runs, after two that are not counted.

    Returns:
        Operators by time, the most expensive first.
    """
    macs = {node.name: node.macs for node in macs_by_node(graph, len(inputs["image"]))}
    with tempfile.TemporaryDirectory(prefix="ptame-profile-") as folder:
        session = open_session(graph, threads=threads, profile=Path(folder) / "profile")
        for _ in range(2 + runs):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            durations[name, event["args"]["op_name"]].append(event["dur"] / 1e3)
    mean = {key: sum(times[-runs:]) / runs for key, times in durations.items()}
    total, all_macs = sum(mean.values()), max(1, sum(macs.values()))
    sources = _sources(graph, [name for name, _ in mean], macs)
    costs = [
        OperatorCost(name, operator, ms, ms / total, macs.get(sources[name], 0) / all_macs)
        for (name, operator), ms in mean.items()
    ]
    return sorted(costs, key=lambda cost: cost.time_ms, reverse=True)


def _sources(graph: Path, running: list[str], macs: dict[str, int]) -> dict[str, str]:
    """Find, for each node as it runs, the graph's multiplying node in it ("" where there is none).

    ONNX Runtime joins convolutions with the activation or sum behind them and names the result
    after their last output, with ``_nchwc`` for its own layout.
    """
    import onnx

    nodes = onnx.load(graph, load_external_data=False).graph.node
    producer = {output: node for node in nodes for output in node.output}
    sources = {name: name if name in macs else "" for name in running}
    open_ends: dict[str, list[str]] = {}
    for name in running:
        tensor = name.removesuffix("_nchwc")
        if tensor in producer and name not in macs:
            open_ends[name] = [tensor]
    claimed = set(sources.values())
    while open_ends:  # breadth first: a node's own output before what was joined to it
        for name, tensors in list(open_ends.items()):
            found = [producer[t] for t in tensors if t in producer]
            own = [node.name for node in found if node.name in macs and node.name not in claimed]
            if own:
                sources[name] = own[0]
                claimed.add(own[0])
            open_ends[name] = [
                tensor for node in found if node.op_type in _JOINED for tensor in node.input
            ]
            if own or not open_ends[name]:
                del open_ends[name]
    return sources
