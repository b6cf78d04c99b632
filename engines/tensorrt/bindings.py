"""What an engine takes and gives: names, types, shapes, and which batches fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.flavours import Flavour
from ptame_deploy.errors import ArtifactError, InvalidInputError

DYNAMIC = -1


@dataclass(frozen=True)
class Binding:
    """One input or output of an engine.

    Attributes:
        name: its name.
        is_input: else an output.
        dtype: NumPy's name of its type, such as ``float32``.
        shape: dynamic dimensions are -1.
        smallest: the profile's, of an input; empty for an output.
        tuned: the profile's, of an input; empty for an output.
        largest: the profile's, of an input; empty for an output.
    """

    name: str
    is_input: bool
    dtype: str
    shape: tuple[int, ...]
    smallest: tuple[int, ...] = ()
    tuned: tuple[int, ...] = ()
    largest: tuple[int, ...] = ()


def read_bindings(flavour: Flavour, engine: Any) -> list[Binding]:
    """Read every input and output of an ``ICudaEngine``, in its order.

    Raises:
        ArtifactError: a type that NumPy has not, or values that are read on the host.
    """
    trt = flavour.module
    bindings = []
    for number in range(engine.num_io_tensors):
        name = engine.get_tensor_name(number)
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            message = f"The plan reads {name!r} on the host, which no plan of ptame build does."
            raise ArtifactError(message)
        try:
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
        except TypeError as error:
            message = f"The plan's {name!r} has a type that NumPy does not know: {error}"
            raise ArtifactError(message) from error
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        profile = engine.get_tensor_profile_shape(name, 0) if is_input else ((), (), ())
        smallest, tuned, largest = (tuple(sizes) for sizes in profile)
        shape = tuple(engine.get_tensor_shape(name))
        bindings.append(Binding(name, is_input, dtype, shape, smallest, tuned, largest))
    return bindings


def batch_limits(bindings: Sequence[Binding]) -> tuple[int, int]:
    """Return the smallest and the largest batch of an engine."""
    first = next(binding for binding in bindings if binding.is_input)
    return first.smallest[0], first.largest[0]


def check_inputs(bindings: Sequence[Binding], inputs: Mapping[str, NDArray[Any]]) -> None:
    """Compare arrays with an engine's inputs.

    Raises:
        InvalidInputError: a wrong name, type or shape, or a batch outside the profile.
    """
    wanted = {binding.name: binding for binding in bindings if binding.is_input}
    if inputs.keys() != wanted.keys():
        message = f"The plan takes {sorted(wanted)}, got {sorted(inputs)}."
        raise InvalidInputError(message)
    smallest, largest = batch_limits(bindings)
    for name, array in inputs.items():
        binding = wanted[name]
        sizes = list(zip(binding.smallest, binding.largest, strict=True))
        fits = array.ndim == len(sizes) and all(
            low <= size <= high
            for (low, high), size in list(zip(sizes, array.shape, strict=True))[1:]
        )
        if not fits or str(array.dtype) != binding.dtype:
            shown = ", ".join(
                f"{low}" if low == high else f"{low} to {high}" for low, high in sizes
            )
            got = f"{array.dtype} {array.shape}"
            message = f"Input {name!r} must be {binding.dtype} ({shown}), batch first; got {got}."
            raise InvalidInputError(message)
        if not smallest <= len(array) <= largest:
            message = (
                f"This plan takes batches of {smallest} to {largest}, got {len(array)}. Other "
                "batches need another plan: ptame build --min-batch, --max-batch."
            )
            raise InvalidInputError(message)
    if len({len(array) for array in inputs.values()}) > 1:
        listed = ", ".join(f"{name} {len(array)}" for name, array in inputs.items())
        message = f"The inputs have different batches: {listed}."
        raise InvalidInputError(message)
