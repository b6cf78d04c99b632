"""The layers that an engine was built into, as TensorRT's inspector tells of them."""

import json
import re
from dataclasses import dataclass
from typing import Any

from engines.tensorrt.staged import LoadedEngine
from ptame_deploy.errors import CheckFailedError

# The inspector writes of types in sentences: "Channel major FP16 format where channel % 8 == 0".
_TYPES = {
    "float": "fp32", "fp32": "fp32", "half": "fp16", "fp16": "fp16", "bfloat16": "bf16",
    "bf16": "bf16", "fp8": "fp8", "fp4": "fp4", "int8": "int8", "int4": "int4", "uint8": "uint8",
    "int32": "int32", "int64": "int64", "bool": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Attributes:
        name: usually the names of the graph's nodes that were fused into it.
        kind: such as ``CaskConvolution``; empty where the plan was built without details.
        precisions: of its outputs, such as ``fp16``; the inspector's own words where unknown.
    """

    name: str
    kind: str
    precisions: tuple[str, ...]


def read_layers(loaded: LoadedEngine) -> list[Layer]:
    """Ask the inspector for every layer, at the batch that the plan is tuned for.

    Raises:
        MissingRequirementError: too little GPU memory.
        CheckFailedError: the inspector's answer cannot be read.
    """
    shapes = {binding.name: binding.tuned for binding in loaded.bindings if binding.is_input}
    # Without the shapes the inspector does not tell types.
    context, _ = loaded.new_context(shapes, graphs=False)
    inspector = loaded.engine.create_engine_inspector()
    inspector.execution_context = context
    text = inspector.get_engine_information(loaded.flavour.module.LayerInformationFormat.JSON)
    try:
        entries = json.loads(text)["Layers"]
        return [_layer(entry) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{loaded.flavour.title} tells of the plan's layers in an unknown form: {error}"
        raise CheckFailedError(message) from error


def _layer(entry: Any) -> Layer:
    if isinstance(entry, str):  # a plan that was built without details
        return Layer(entry, "", ())
    outputs = [str(output.get("Format/Datatype", "?")) for output in entry.get("Outputs", [])]
    precisions = tuple(dict.fromkeys(map(_precision, outputs)))
    return Layer(str(entry["Name"]), str(entry.get("LayerType", "")), precisions)


def _precision(text: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return next((_TYPES[word] for word in words if word in _TYPES), text)
