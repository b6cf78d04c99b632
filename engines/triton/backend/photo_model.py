"""From a photo file's bytes to a classifier's input, in Triton's Python backend.

The very code that ``ptame explain`` prepares photos with. Needs NumPy, Pillow and ptame-deploy
(without PyTorch) in the backend's Python.
"""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import FORMATS, decode_photo
from ptame_deploy.preprocessing import Preprocessing, to_float


class TritonPythonModel:
    """One instance."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Leave the configuration as it is."""
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Read how photos are prepared."""
        config = json.loads(args["model_config"])
        text = config["parameters"]["preprocessing"]["string_value"]
        self.preprocessing = Preprocessing.model_validate_json(text)
        self.as_uint8 = config["output"][0]["data_type"] == "TYPE_UINT8"

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Decode each request's photos; one that cannot be decoded fails its own request alone."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        files = pb_utils.get_input_tensor_by_name(request, "photo").as_numpy().reshape(-1)
        try:
            images = np.stack([self._prepare(content, i) for i, content in enumerate(files)])
        except InvalidInputError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        ready = images if self.as_uint8 else to_float(images)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("image", ready)])

    def _prepare(self, content: bytes, number: int) -> Any:
        name = f"photo {number} of the request"
        photo = decode_photo(lambda: io.BytesIO(content), name, formats=FORMATS)
        return self.preprocessing.apply(photo)
