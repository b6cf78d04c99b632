"""KServe's v2 inference protocol, with Triton's binary extension: requests in, answers out.

https://github.com/kserve/open-inference-protocol; the extension is "binary tensor data" of
Triton's documentation: JSON first, as long as a header says, then the tensors' bytes.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.runtime import Arrays
from engines.triton.config import DATATYPES, MANIFEST_PARAMETER, sizes
from ptame_deploy.artifacts import GraphManifest, TensorRecord
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.records import first_fault

HEADER_LENGTH = "inference-header-content-length"
_DIGITS = 20  # of a length in a header
_LONGEST_NAME = 300  # of a tensor or a type
_LARGEST_SIZE = 2**31 - 1  # of a dimension
_TYPES = {name: np.dtype(dtype) for dtype, name in DATATYPES.items()}


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TensorParameters(_Lenient):
    """Of a tensor."""

    binary_data_size: int | None = Field(default=None, ge=0)
    binary_data: bool = False


class RequestTensor(_Lenient):
    """An input."""

    name: str = Field(max_length=_LONGEST_NAME)
    shape: list[int] = Field(max_length=8)
    datatype: str = Field(max_length=_LONGEST_NAME)
    parameters: TensorParameters = TensorParameters()
    data: list[Any] | None = None


class WantedTensor(_Lenient):
    """An output that is asked for."""

    name: str = Field(max_length=_LONGEST_NAME)
    parameters: TensorParameters = TensorParameters()


class RequestParameters(_Lenient):
    """Of the whole request."""

    binary_data_output: bool = False


class InferRequest(_Lenient):
    """The JSON of a request."""

    id: str | None = None
    parameters: RequestParameters = RequestParameters()
    inputs: list[RequestTensor] = Field(max_length=16)
    outputs: list[WantedTensor] | None = Field(default=None, max_length=16)


def read_request(body: bytes, header_length: str | None) -> tuple[InferRequest, Arrays]:
    """Read a request.

    Args:
        body: of the HTTP request.
        header_length: value of the header that says where JSON ends; None where all is JSON.

    Raises:
        InvalidInputError: it is none, or its tensors are not what they say.
    """
    end = len(body)
    if header_length is not None:
        told = header_length[:_DIGITS]
        if told != header_length or not told.isdecimal() or int(told) > len(body):
            message = f"The header {HEADER_LENGTH} says {told!r} of {len(body)} bytes."
            raise InvalidInputError(message)
        end = int(header_length)
    try:
        request = InferRequest.model_validate_json(body[:end])
    except ValidationError as error:
        message = f"Not a request of the v2 protocol: {first_fault(error)}."
        raise InvalidInputError(message) from error
    rest, arrays = memoryview(body)[end:], {}
    for tensor in request.inputs:
        size = tensor.parameters.binary_data_size
        if size is not None and size > len(rest):
            message = f"Input {tensor.name!r} says {size} bytes, {len(rest)} are left."
            raise InvalidInputError(message)
        if tensor.name in arrays:
            message = f"Input {tensor.name!r} comes twice."
            raise InvalidInputError(message)
        arrays[tensor.name] = _array(tensor, None if size is None else rest[:size])
        rest = rest[size or 0 :]
    if rest:
        message = f"{len(rest)} bytes of the request belong to no input."
        raise InvalidInputError(message)
    return request, arrays


def _array(tensor: RequestTensor, content: memoryview | None) -> NDArray[Any]:
    if tensor.datatype not in _TYPES:
        message = f"Input {tensor.name!r} has type {tensor.datatype!r}, not {', '.join(_TYPES)}."
        raise InvalidInputError(message)
    dtype = _TYPES[tensor.datatype]
    if any(not 1 <= size <= _LARGEST_SIZE for size in tensor.shape) or not tensor.shape:
        message = (
            f"The shape of input {tensor.name!r} is none: sizes start at 1 and end at "
            f"{_LARGEST_SIZE}."
        )
        raise InvalidInputError(message)
    expected = int(np.prod([int(size) for size in tensor.shape], dtype=object))
    if content is not None:
        if expected * dtype.itemsize != len(content):
            message = (
                f"Input {tensor.name!r} of shape {tensor.shape} has {len(content)} bytes, not "
                f"{expected * dtype.itemsize}."
            )
            raise InvalidInputError(message)
        return np.frombuffer(content, dtype).reshape(tensor.shape)
    values = _numbers(tensor.data, dtype)
    if values is None or values.size != expected:
        message = (
            f"The data of input {tensor.name!r} are not {expected} numbers of type "
            f"{tensor.datatype}."
        )
        raise InvalidInputError(message)
    return values.astype(dtype).reshape(tensor.shape)


def _numbers(data: list[Any] | None, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Read JSON's numbers, flat or nested; None where they are none, or not of the type."""
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError):  # of different lengths
        return None
    if dtype.kind == "f":
        return values if values.dtype.kind in "iuf" else None
    if values.dtype.kind not in "iu" or not values.size:
        return None
    limits = np.iinfo(dtype)
    return values if values.min() >= limits.min and values.max() <= limits.max else None


def write_answer(
    name: str, request: InferRequest, outputs: Mapping[str, NDArray[Any]]
) -> tuple[bytes, dict[str, str]]:
    """Write an answer.

    Args:
        name: of the model.
        request: what was asked.
        outputs: all of the graph's, by name.

    Returns:
        The body, and the headers that tell how to read it.

    Raises:
        InvalidInputError: an output is asked for that there is not.
    """
    wanted = request.outputs or [
        WantedTensor(
            name=one,
            parameters=TensorParameters(binary_data=request.parameters.binary_data_output),
        )
        for one in outputs
    ]
    tensors, contents = [], []
    for one in wanted:
        if one.name not in outputs:
            message = f"There is no output {one.name!r}, only {', '.join(outputs)}."
            raise InvalidInputError(message)
        array = np.ascontiguousarray(outputs[one.name])
        tensor: dict[str, Any] = {
            "name": one.name,
            "datatype": DATATYPES[str(array.dtype)],
            "shape": list(array.shape),
        }
        if one.parameters.binary_data:
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            contents.append(array.tobytes())
        else:
            tensor["data"] = array.reshape(-1).tolist()
        tensors.append(tensor)
    told: dict[str, Any] = {"model_name": name, "model_version": "1", "outputs": tensors}
    if request.id is not None:
        told["id"] = request.id
    head = json.dumps(told).encode()
    if not contents:
        return head, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return b"".join([head, *contents]), headers


def describe_model(name: str, manifest: GraphManifest) -> dict[str, Any]:
    """Return a model's metadata."""
    return {
        "name": name,
        "versions": ["1"],
        "platform": "ptame",
        "inputs": [_tensor(record) for record in manifest.inputs],
        "outputs": [_tensor(record) for record in manifest.outputs],
    }


def _tensor(record: TensorRecord) -> dict[str, Any]:
    return {"name": record.name, "datatype": DATATYPES[record.dtype], "shape": sizes(record.shape)}


def describe_config(name: str, manifest: GraphManifest, max_batch: int) -> dict[str, Any]:
    """Return what `ptame client` must know, in the form of Triton's configuration."""

    def tensors(records: Sequence[TensorRecord]) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "data_type": f"TYPE_{DATATYPES[one.dtype]}",
                "dims": sizes(one.shape[1:]),
            }
            for one in records
        ]

    return {
        "name": name,
        "platform": "ptame",
        "max_batch_size": max_batch,
        "input": tensors(manifest.inputs),
        "output": tensors(manifest.outputs),
        "parameters": {MANIFEST_PARAMETER: {"string_value": manifest.model_dump_json()}},
    }
