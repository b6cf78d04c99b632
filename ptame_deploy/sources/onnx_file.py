"""Classifiers that are an ONNX file, whatever exported it."""

from pathlib import Path

from ptame_deploy.artifacts import WeightsRecord
from ptame_deploy.backbones import PREPARATION, RESIZING, Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.foreign_graph import ForeignGraph, read_foreign_graph
from ptame_deploy.onnx_classifier import OnnxClassifier
from ptame_deploy.preprocessing import Preprocessing

_SUFFIX = ".onnx"


def is_onnx(name: str) -> bool:
    """Whether a classifier's name is that of an ONNX file."""
    return Path(_split(name)[0]).suffix.lower() == _SUFFIX


def from_onnx(name: str, size: tuple[int, int] | None = None) -> Backbone:
    """Read an ONNX file.

    Args:
        name: the file; with ``@input=NAME,output=NAME`` behind it, or one of the two, where the
            graph has several candidates.
        size: height and width of the image where the graph takes any (224 x 224).

    Normalisation is taken to be ImageNet's for float images, and none for uint8, since a graph does
    not say it.

    Raises:
        InvalidInputError: no input or output can be a classifier's, or several can.
        ArtifactError: the file is no ONNX graph.
        CheckFailedError: it does not run, or only for one fixed batch.
    """
    file, chosen = _split(name)
    path, tensors = Path(file), _tensors(name, chosen)
    graph = read_foreign_graph(
        path, input_name=tensors.get("input"), output_name=tensors.get("output"), size=size
    )
    return of_graph(name, graph, f"file {path.name}")


def _split(name: str) -> tuple[str, str]:
    """Part a file from the tensors that are named behind it; its folders may hold an @, too."""
    folder, slash, last = name.rpartition("/")
    file, sign, chosen = last.partition(f"{_SUFFIX}@")
    return (folder + slash + file + _SUFFIX, chosen) if sign else (name, "")


def _tensors(name: str, chosen: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, chosen.split(",")):
        key, _, value = part.partition("=")
        if key not in ("input", "output") or not value:
            message = (
                f"{name}: behind the file stands @input=NAME, @output=NAME, or both with a comma "
                f"between; got {part!r}."
            )
            raise InvalidInputError(message)
        found[key] = value
    return found


def of_graph(name: str, graph: ForeignGraph, source: str) -> Backbone:
    """Make a classifier of a graph that was read."""
    preprocessing = Preprocessing.usual(graph.size)
    assumed: tuple[str, ...] = PREPARATION
    if graph.dtype.kind == "u":  # bytes are not normalised outside
        preprocessing, assumed = preprocessing.not_normalised(), RESIZING
    if graph.any_size:
        assumed = ("input_size", *assumed)
    return Backbone(
        name=name,
        module=OnnxClassifier(graph, name),
        preprocessing=preprocessing,
        num_classes=graph.num_classes,
        class_names=None,
        weights=WeightsRecord(source=source, sha256=graph.sha256),
        head=graph.head,
        assumed=assumed,
    )
