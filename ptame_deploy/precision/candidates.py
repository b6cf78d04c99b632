"""Lowered graphs that differ in what stays in FP32, each made once."""

from collections.abc import Collection
from pathlib import Path

import onnx

from ptame_deploy.errors import CheckFailedError, InvalidInputError, reason_of
from ptame_deploy.graph_file import is_large, load_graph, save_graph
from ptame_deploy.precision import bias_correction, calibration, fp16, int8
from ptame_deploy.precision.blocks import find_blocks, weighted_nodes
from ptame_deploy.precision.options import QuantizeOptions


class Candidates:
    """All the graphs that one FP32 graph may become.

    Attributes:
        layers: names of its weighted nodes.
        blocks: those that may be lowered, by block.
        external: whether weights lie beside the graph.
        prepared: the FP32 graph as the passes take it, a file.
    """

    def __init__(self, source: Path, folder: Path, options: QuantizeOptions) -> None:
        """Read a graph and prepare it.

        Args:
            source: the FP32 graph.
            folder: an empty one, for all that is made.
            options: which precision, and in which form.

        Raises:
            InvalidInputError: a block that shall stay in FP32 does not exist.
            CheckFailedError: ONNX Runtime's preparation fails.
        """
        model = load_graph(source, weights=False)
        fixed = set(int8.border_layers(model.graph) if options.precision == "int8" else ())
        self.layers = {node.name for node in weighted_nodes(model.graph)}
        self.blocks = {
            block: free
            for block, nodes in find_blocks(model.graph).items()
            if (free := [node for node in nodes if node not in fixed])
        }
        unknown = [block for block in options.keep if block not in self.blocks]
        if unknown:
            known = ", ".join(self.blocks)
            message = f"No block is called {unknown[0]!r}. There are: {known}."
            raise InvalidInputError(message)
        self.external = is_large(model)
        self.prepared = folder / "prepared.onnx"
        prepare_graph(source, self.prepared, external=self.external)
        self._folder, self._options = folder, options
        self._ranges: calibration.Ranges = {}
        self._means: bias_correction.Means = {}
        self._made: dict[tuple[str, ...], Path] = {}
        self._all_int8: onnx.ModelProto | None = None

    def use_calibration(self, ranges: calibration.Ranges, means: bias_correction.Means) -> None:
        """Make all INT8 graphs from now on with these.

        Args:
            ranges: of activations.
            means: of the layers' inputs.
        """
        self._ranges, self._means = ranges, means
        self._made.clear()
        self._all_int8 = None

    def path(self, kept: Collection[str]) -> Path:
        """Return the lowered graph with these blocks in FP32; made if need be."""
        key = tuple(sorted(kept))
        if key not in self._made:
            nodes = [node for block in key for node in self.blocks[block]]
            prepared = load_graph(self.prepared)
            if self._options.precision == "fp16":
                model = fp16.to_fp16(prepared, nodes)
            else:
                model = onnx.ModelProto()
                model.CopyFrom(self._lowered_whole())
                int8.put_back(model, prepared, nodes)
            path = self._folder / f"candidate-{len(self._made)}.onnx"
            save_graph(model, path)
            self._made[key] = path
        return self._made[key]

    def count_lowered(self, path: Path) -> int:
        """Count the layers that a candidate computes in the lower precision."""
        count = {"fp16": fp16.lowered, "int8": int8.lowered}[self._options.precision]
        return count(load_graph(path, weights=False), self.layers)

    def _lowered_whole(self) -> onnx.ModelProto:
        """Return the graph with every layer in INT8 that may be; made once for all candidates."""
        if self._all_int8 is None:
            ranges = calibration.tensors_data(self._ranges)
            rounded = int8.to_int8(self.prepared, ranges, self._options.target)
            corrected = load_graph(self.prepared)
            bias_correction.correct_biases(corrected, rounded, self._means)
            path = self._folder / "corrected.onnx"
            save_graph(corrected, path)
            self._all_int8 = int8.to_int8(path, ranges, self._options.target)
        return self._all_int8


def prepare_graph(source: Path, path: Path, *, external: bool) -> None:
    """Write the FP32 graph with every tensor's type known, and with layers joined that belong so.

    Args:
        source: the graph.
        path: the file to write.
        external: weights go to a file beside it.

    Raises:
        CheckFailedError: ONNX Runtime's preparation fails.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        quant_pre_process(
            source,
            path,
            skip_symbolic_shape=True,
            save_as_external_data=external,
            all_tensors_to_one_file=True,
            external_data_location=f"{path.name}.data",
        )
    except OSError:
        raise
    except Exception as failure:  # native optimisers share no base but Exception
        reason = reason_of(failure)
        message = f"The graph cannot be prepared for a precision pass: {reason}"
        raise CheckFailedError(message) from failure
