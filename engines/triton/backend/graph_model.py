"""A graph of ptame-deploy in Triton's Python backend: ONNX Runtime runs it.

Needs NumPy, ONNX Runtime and ptame-deploy (without PyTorch) in the backend's Python. Where Triton
has its own onnxruntime backend, that one is faster: ptame triton --backend onnxruntime.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from engines.onnx_runtime import OnnxRuntime
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST, GraphManifest
from ptame_deploy.errors import PtameError
from ptame_deploy.onnx_session import PROVIDERS


class TritonPythonModel:
    """One instance: a session of its own."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Leave the configuration as it is: it was made from the graph."""
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph, after its hash was checked where its JSON lies beside it."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        if (folder / GRAPH_MANIFEST).exists():
            read_manifest(folder, GRAPH_MANIFEST, GraphManifest)
        threads = config["parameters"].get("intra_op_thread_count", {}).get("string_value", "0")
        on_gpu = args["model_instance_kind"] == "GPU"
        providers = PROVIDERS["cuda"] if on_gpu else PROVIDERS["cpu"]
        self.runtime = OnnxRuntime(folder / GRAPH_FILE, providers=providers, threads=int(threads))
        self.inputs = [one["name"] for one in config["input"]]
        self.outputs = [one["name"] for one in config["output"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests: those of one shape together, in one run."""
        responses: list[Any] = [None] * len(requests)
        alike: dict[tuple[Any, ...], list[int]] = {}
        given = []
        for number, request in enumerate(requests):
            arrays = {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in self.inputs
            }
            given.append(arrays)
            shapes = tuple(array.shape[1:] for array in arrays.values())
            alike.setdefault(shapes, []).append(number)
        for numbers in alike.values():
            try:
                answers = self._run([given[number] for number in numbers])
            except PtameError as error:
                failed = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
                for number in numbers:
                    responses[number] = failed
                continue
            for number, answer in zip(numbers, answers, strict=True):
                tensors = [pb_utils.Tensor(name, answer[name]) for name in self.outputs]
                responses[number] = pb_utils.InferenceResponse(output_tensors=tensors)
        return responses

    def _run(self, given: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        joined = {name: np.concatenate([one[name] for one in given]) for name in self.inputs}
        found = self.runtime.run(joined)
        ends = np.cumsum([len(one[self.inputs[0]]) for one in given])[:-1]
        parts = {name: np.split(found[name], ends) for name in self.outputs}
        return [{name: parts[name][number] for name in parts} for number in range(len(given))]
