"""P-TAME in production: a classifier that explains itself, as one ONNX graph.

The names below load their modules, and torch where they need it, when they are first used.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ptame_deploy.errors import (
    ArtifactError,
    CheckFailedError,
    InvalidInputError,
    MissingRequirementError,
    PtameError,
)

if TYPE_CHECKING:
    from engines.archive.contents import ArchivedExplanation, read_archive
    from engines.explainer import Explainer
    from engines.explanation import Explanation
    from ptame_deploy.artifacts import GraphManifest
    from ptame_deploy.auxiliaries import load_auxiliary
    from ptame_deploy.backbones import Backbone
    from ptame_deploy.explainer import ExplainerNet, start_explainer
    from ptame_deploy.explainer_store import (
        load_explainer,
        read_explainer_manifest,
        record_explainer,
        save_explainer,
    )
    from ptame_deploy.graph_options import GraphOptions
    from ptame_deploy.onnx_export import export
    from ptame_deploy.precision.options import QuantizeOptions
    from ptame_deploy.precision.passes import quantize
    from ptame_deploy.preprocessing import Preprocessing
    from ptame_deploy.rendering import Panel, crop_seen, render
    from ptame_deploy.sources.load import load_backbone

try:
    __version__ = version("ptame-deploy")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"

_LAZY = {
    "ArchivedExplanation": "engines.archive.contents",
    "Backbone": "ptame_deploy.backbones",
    "Explainer": "engines.explainer",
    "ExplainerNet": "ptame_deploy.explainer",
    "Explanation": "engines.explanation",
    "GraphManifest": "ptame_deploy.artifacts",
    "GraphOptions": "ptame_deploy.graph_options",
    "Panel": "ptame_deploy.rendering",
    "Preprocessing": "ptame_deploy.preprocessing",
    "crop_seen": "ptame_deploy.rendering",
    "export": "ptame_deploy.onnx_export",
    "QuantizeOptions": "ptame_deploy.precision.options",
    "load_auxiliary": "ptame_deploy.auxiliaries",
    "load_backbone": "ptame_deploy.sources.load",
    "load_explainer": "ptame_deploy.explainer_store",
    "quantize": "ptame_deploy.precision.passes",
    "read_archive": "engines.archive.contents",
    "read_explainer_manifest": "ptame_deploy.explainer_store",
    "record_explainer": "ptame_deploy.explainer_store",
    "render": "ptame_deploy.rendering",
    "save_explainer": "ptame_deploy.explainer_store",
    "start_explainer": "ptame_deploy.explainer",
}

__all__ = [
    "ArchivedExplanation",
    "ArtifactError",
    "Backbone",
    "CheckFailedError",
    "Explainer",
    "ExplainerNet",
    "Explanation",
    "GraphManifest",
    "GraphOptions",
    "InvalidInputError",
    "MissingRequirementError",
    "Panel",
    "Preprocessing",
    "PtameError",
    "QuantizeOptions",
    "crop_seen",
    "export",
    "load_auxiliary",
    "load_backbone",
    "load_explainer",
    "quantize",
    "read_archive",
    "read_explainer_manifest",
    "record_explainer",
    "render",
    "save_explainer",
    "start_explainer",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
