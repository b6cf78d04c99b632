"""Classifiers that are an ONNX file, whatever exported it."""

import hashlib
from dataclasses import replace
from pathlib import Path

from ptame_deploy.backbones import PREPARATION, RESIZING, Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.foreign_graph import ForeignGraph, read_foreign_graph
from ptame_deploy.onnx_classifier import OnnxClassifier
from ptame_deploy.part_records import WeightsRecord
from ptame_deploy.preprocessing import Preprocessing

_SUFFIX = ".onnx"


def is_onnx(name: str) -> bool:
    """Whether a classifier's name is that of an ONNX file."""
    return Path(_split(name)[0]).suffix.lower() == _SUFFIX


def from_onnx(name: str, size: tuple[int, int] | None) -> Backbone:
    """Read an ONNX file.

    Args:
        name: the file; with ``@input=NAME,output=NAME,channels=bgr`` behind it, or some of these,
            where the graph has several candidates, or takes blue first.
        size: height and width of the image where the graph takes any (224 x 224).

    Normalisation is taken to be ImageNet's for float images, and none for uint8, since a graph does
    not say it.

    Raises:
        InvalidInputError: no input or output can be a classifier's, or several can.
        ArtifactError: the file is no ONNX graph.
        CheckFailedError: it does not run, or only for one fixed batch.
    """
    file, chosen = _split(name)
    path, said = Path(file), _said(name, chosen)
    graph = read_foreign_graph(
        path, input_name=said.get("input"), output_name=said.get("output"), size=size
    )
    bgr = said.get("channels") == "bgr"
    return of_graph(name, replace(graph, bgr=bgr), f"file {path.name}{', BGR' if bgr else ''}")


def _split(name: str) -> tuple[str, str]:
    """Part a file from what is said behind it; its folders may hold an @, too."""
    folder, slash, last = name.rpartition("/")
    file, sign, chosen = last.partition(f"{_SUFFIX}@")
    return (folder + slash + file + _SUFFIX, chosen) if sign else (name, "")


def _said(name: str, chosen: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, chosen.split(",")):
        key, _, value = part.partition("=")
        orders = key != "channels" or value in ("rgb", "bgr")
        if key not in ("input", "output", "channels") or not value or not orders:
            message = (
                f"{name}: behind the file stands @input=NAME, @output=NAME, @channels=bgr, or "
                f"several with commas between; got {part!r}."
            )
            raise InvalidInputError(message)
        found[key] = value
    return found


def _identity(graph: ForeignGraph) -> str:
    """Return a hash of all that tells one classifier from another: colours are the graph's own."""
    if not graph.bgr:
        return graph.sha256
    return hashlib.sha256(f"{graph.sha256} bgr".encode()).hexdigest()


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
        weights=WeightsRecord(source=source, sha256=_identity(graph)),
        head=graph.head,
        assumed=assumed,
    )
