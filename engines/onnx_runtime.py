"""ONNX Runtime as a `Runtime`: the embedded default."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from engines.runtime import Arrays
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.onnx_session import CPU_PROVIDER, open_session

_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}


class OnnxRuntime:
    """A graph in ONNX Runtime."""

    def __init__(
        self, model: Path | bytes, *, providers: Sequence[str] = (CPU_PROVIDER,), threads: int = 0
    ) -> None:
        """Open a graph; see `ptame_deploy.onnx_session.open_session` for arguments and errors."""
        self._session = open_session(model, providers=providers, threads=threads)
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def description(self) -> str:
        """Name, version and provider."""
        import onnxruntime

        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        return f"ONNX Runtime {onnxruntime.__version__} {provider}"

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the graph; see `Runtime.run`."""
        self._check(inputs)
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))

    def _check(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        expected = {value.name: value for value in self._session.get_inputs()}
        if inputs.keys() != expected.keys():
            message = f"The graph takes {sorted(expected)}, got {sorted(inputs)}."
            raise InvalidInputError(message)
        for name, array in inputs.items():
            dtype, shape = _TYPES.get(expected[name].type), expected[name].shape
            fits = len(shape) == array.ndim and all(
                given >= 1 if isinstance(size, str) else given == size
                for size, given in zip(shape, array.shape, strict=True)
            )
            if not fits or str(array.dtype) != dtype:
                got = f"{array.dtype} {array.shape}"
                message = f"Input {name!r} must be {dtype} {tuple(shape)}, got {got}."
                raise InvalidInputError(message)
