"""What every runtime offers, whether it is ONNX Runtime, TensorRT or PyTorch."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from ptame_deploy.artifacts import TensorRecord
from ptame_deploy.errors import InvalidInputError

Arrays = dict[str, NDArray[Any]]


class Staged(Protocol):
    """One batch with buffers of its own, so that transfers and computing can be told apart.

    Each step is over when it returns. Several staged batches of one runtime may run at once, each
    from a thread of its own.
    """

    def upload(self) -> None:
        """Copy the inputs from the host to where the runtime computes."""
        ...

    def compute(self) -> None:
        """Run the graph on the inputs that were uploaded last."""
        ...

    def download(self) -> Arrays:
        """Copy the outputs of the last run to the host, and return them by name."""
        ...


class Runtime(Protocol):
    """Runs one graph: named arrays in, named arrays out."""

    @property
    def description(self) -> str:
        """Name, version and device, for tables and reports."""
        ...

    @property
    def copies(self) -> bool:
        """Whether it computes elsewhere than in the host's memory, so that transfers take time."""
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the graph on a batch, transfers included.

        Args:
            inputs: every input by name, batch first.

        Returns:
            Every output by name.

        Raises:
            InvalidInputError: an input of a wrong name, shape or type.
        """
        ...

    def stage(self, inputs: Mapping[str, NDArray[Any]]) -> Staged:
        """Make buffers for a batch of this size and put it there; it is uploaded already.

        Args:
            inputs: as for `run`.

        Raises:
            InvalidInputError: an input of a wrong name, shape or type.
        """
        ...


def check_inputs(expected: Sequence[TensorRecord], inputs: Mapping[str, NDArray[Any]]) -> None:
    """Compare arrays with what a graph takes; a dimension with a name may have any size.

    Raises:
        InvalidInputError: an input is missing or unknown, or has a wrong shape or type.
    """
    names = {record.name for record in expected}
    if inputs.keys() != names:
        message = f"The graph takes {sorted(names)}, got {sorted(inputs)}."
        raise InvalidInputError(message)
    check_arrays(expected, inputs, "input")


def check_arrays(
    expected: Sequence[TensorRecord], arrays: Mapping[str, NDArray[Any]], what: str
) -> None:
    """Compare arrays with the records of the same names.

    Args:
        expected: a record for each array.
        arrays: by name.
        what: they are: ``input`` or ``output``.

    Raises:
        InvalidInputError: one has a wrong shape or type.
    """
    records = {record.name: record for record in expected}
    for name, array in arrays.items():
        dtype, shape = records[name].dtype, records[name].shape
        fits = len(shape) == array.ndim and all(
            given >= 1 if isinstance(size, str) else given == size
            for size, given in zip(shape, array.shape, strict=True)
        )
        if not fits or str(array.dtype) != dtype:
            got = f"{array.dtype} {array.shape}"
            message = f"{what.capitalize()} {name!r} must be {dtype} {tuple(shape)}, got {got}."
            raise InvalidInputError(message)
