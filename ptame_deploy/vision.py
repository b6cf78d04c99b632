"""Importing torchvision and timm where torchvision's compiled operators are missing.

A torchvision whose operators were compiled for another build of torch fails at import with
``operator torchvision::nms does not exist``. Nothing here uses those operators, so declaring
their schemas is enough. Where torchvision is healthy, this module only imports it.
"""

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

from ptame_deploy.errors import MissingRequirementError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# Held for ever: a Library takes its definitions back when it is collected.
_libraries: list[Any] = []


@cache
def import_torchvision() -> ModuleType:
    """Import torchvision, with the schemas of its missing operators declared where need be.

    Raises:
        MissingRequirementError: torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    except ImportError as error:
        message = f"torchvision cannot be imported ({error}). Install it: pip install torchvision"
        raise MissingRequirementError(message) from error

    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    return importlib.import_module("torchvision")


@cache
def import_timm() -> ModuleType:
    """Import timm, which itself imports torchvision.

    Raises:
        MissingRequirementError: timm is not installed.
    """
    import_torchvision()
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        message = f"timm cannot be imported ({error}). Install it: pip install timm"
        raise MissingRequirementError(message) from error
