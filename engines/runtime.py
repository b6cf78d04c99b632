"""What every runtime offers, whether it is ONNX Runtime, TensorRT or PyTorch."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class Runtime(Protocol):
    """Runs one graph: named arrays in, named arrays out, on the host's side."""

    @property
    def description(self) -> str:
        """Name, version and device, for tables and reports."""
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the graph on a batch.

        Args:
            inputs: every input by name, batch first.

        Returns:
            Every output by name.

        Raises:
            InvalidInputError: an input of a wrong name, shape or type.
        """
        ...
