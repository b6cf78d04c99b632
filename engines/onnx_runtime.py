"""ONNX Runtime as a `Runtime`: the embedded default."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from engines.runtime import Arrays
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.errors import ArtifactError, InvalidInputError
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

    def check_border(self, manifest: GraphManifest) -> None:
        """Compare the graph's inputs and outputs with what its manifest says.

        Raises:
            ArtifactError: they differ.
        """
        pairs = (
            (manifest.inputs, self._session.get_inputs()),
            (manifest.outputs, self._session.get_outputs()),
        )
        for told, found in pairs:
            expected = [(t.name, t.dtype, t.shape) for t in told]
            actual = [(v.name, _TYPES.get(v.type), list(v.shape)) for v in found]
            if expected != actual:
                message = f"The graph has {actual}, its manifest says {expected}."
                raise ArtifactError(message)
        height, width = manifest.preprocessing.input_size
        shape = [height, width, 3] if manifest.takes_uint8 else [3, height, width]
        if manifest.inputs[0].shape[1:] != shape:
            message = (
                f"The manifest prepares images of {height}x{width} for a graph that takes "
                f"{manifest.inputs[0].shape}."
            )
            raise ArtifactError(message)
        if manifest.outputs[0].shape[1:] != [manifest.classifier.num_classes]:
            message = (
                f"The manifest tells of {manifest.classifier.num_classes} classes, the graph of "
                f"{manifest.outputs[0].shape}."
            )
            raise ArtifactError(message)

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
