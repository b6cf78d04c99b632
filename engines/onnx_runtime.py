"""ONNX Runtime as a `Runtime`: the embedded default."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.runtime import Arrays, Staged, check_inputs
from ptame_deploy.artifacts import GraphManifest, TensorRecord
from ptame_deploy.errors import ArtifactError
from ptame_deploy.onnx_session import CPU_PROVIDER, open_session

if TYPE_CHECKING:
    import onnxruntime

_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}


class OnnxRuntime:
    """A graph in ONNX Runtime."""

    def __init__(
        self, model: Path | bytes, *, providers: Sequence[str] = (CPU_PROVIDER,), threads: int = 0
    ) -> None:
        """Open a graph; see `ptame_deploy.onnx_session.open_session` for arguments and errors."""
        self._session = open_session(model, providers=providers, threads=threads)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._inputs = _records(self._session.get_inputs())

    @property
    def description(self) -> str:
        """Name, version and provider."""
        import onnxruntime

        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        return f"ONNX Runtime {onnxruntime.__version__} {provider}"

    @property
    def copies(self) -> bool:
        """Whether the provider computes on a GPU."""
        return bool(self._session.get_providers()[0] != CPU_PROVIDER)

    def check_border(self, manifest: GraphManifest) -> None:
        """Compare the graph's inputs and outputs with what its manifest says.

        Raises:
            ArtifactError: they differ.
        """
        outputs = _records(self._session.get_outputs())
        for told, found in ((manifest.inputs, self._inputs), (manifest.outputs, outputs)):
            if told != found:
                message = f"The graph has {_listed(found)}, its manifest says {_listed(told)}."
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
        check_inputs(self._inputs, inputs)
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))

    def stage(self, inputs: Mapping[str, NDArray[Any]]) -> Staged:
        """Make buffers for a batch; see `Runtime.stage`."""
        check_inputs(self._inputs, inputs)
        if self.copies:
            return BoundBatch(self._session, self._outputs, inputs, "cuda")
        return _HostBatch(self._session, self._outputs, inputs)


def _records(values: Sequence[Any]) -> list[TensorRecord]:
    """Describe a session's inputs or outputs; a type of no graph of ours stays as it is called."""
    return [
        TensorRecord(name=v.name, dtype=_TYPES.get(v.type, v.type), shape=list(v.shape))
        for v in values
    ]


def _listed(records: Sequence[TensorRecord]) -> str:
    return ", ".join(f"{r.name}: {r.dtype} {tuple(r.shape)}" for r in records)


class _HostBatch:
    """A batch on the CPU provider, which reads and writes the host's memory."""

    def __init__(
        self,
        session: "onnxruntime.InferenceSession",
        outputs: Sequence[str],
        inputs: Mapping[str, NDArray[Any]],
    ) -> None:
        self._session, self._names, self._inputs = session, outputs, dict(inputs)
        self._found: list[NDArray[Any]] = []

    def upload(self) -> None:
        """Do nothing: the inputs are where they are needed."""

    def compute(self) -> None:
        """Run the graph."""
        self._found = self._session.run(self._names, self._inputs)

    def download(self) -> Arrays:
        """Return the outputs."""
        return dict(zip(self._names, self._found, strict=True))


class BoundBatch:
    """A batch whose inputs and outputs are bound to a device's memory."""

    def __init__(
        self,
        session: "onnxruntime.InferenceSession",
        outputs: Sequence[str],
        inputs: Mapping[str, NDArray[Any]],
        device: str,
    ) -> None:
        """Put a batch on a device.

        Args:
            session: runs the graph.
            outputs: names of its outputs.
            inputs: every input by name.
            device: ONNX Runtime's name of it: ``cuda``, or ``cpu``.
        """
        from onnxruntime import OrtValue

        self._session, self._names = session, outputs
        self._host = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        self._binding = session.io_binding()
        self._device = {
            name: OrtValue.ortvalue_from_numpy(array, device, 0)
            for name, array in self._host.items()
        }
        for name, value in self._device.items():
            self._binding.bind_ortvalue_input(name, value)
        for name in outputs:
            self._binding.bind_output(name, device)

    def upload(self) -> None:
        """Copy the inputs to the device again."""
        for name, array in self._host.items():
            self._device[name].update_inplace(array)

    def compute(self) -> None:
        """Run the graph, and wait for it."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def download(self) -> Arrays:
        """Copy the outputs to the host."""
        return dict(zip(self._names, self._binding.copy_outputs_to_cpu(), strict=True))
