"""Parts of a fused graph, as graphs of their own: the classifier alone, or with classes given."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.storage import staged_artifact

if TYPE_CHECKING:
    import onnx


def extract_classifier(fused: Path, path: Path) -> None:
    """Write the part of a fused graph that leads from ``image`` to ``logits``.

    Args:
        fused: the fused graph; its external weights lie beside it.
        path: the file to write; weights that were external go to ``<path>.data``.

    Raises:
        InvalidInputError: the folder cannot be written.
        MissingRequirementError: the disk is full.
    """
    import onnx

    model = onnx.load(fused, load_external_data=False)
    for node in model.graph.node:
        # The exporter may ask either input for the batch size, even where only logits need it.
        if node.op_type == "Shape" and node.input[0] == "class_index":
            node.input[0] = "image"
    _extract(model, fused.parent, path, ["image"], ["logits"])


def refuse_contrast(manifest: GraphManifest) -> None:
    """Refuse a graph of contrasts where maps of single classes are needed.

    Raises:
        InvalidInputError: it is one.
    """
    if manifest.contrast is not None:
        message = (
            "Maps of a contrast (--contrast) say why one class and not another: no measure of one "
            "class's map can judge them. Export the graph without --contrast."
        )
        raise InvalidInputError(message)


def choose_classes(fused: Path, manifest: GraphManifest, path: Path) -> Path:
    """Turn a graph that explains its own best classes into one that is told them.

    The same networks and the same arithmetic: the output ``class_index`` becomes an input, and
    what computed it goes. So every graph can explain the class that a judge names, whatever its
    own precision makes of the photo.

    Args:
        fused: the fused graph; its external weights lie beside it.
        manifest: describes it.
        path: the file to write; weights that were external go to ``<path>.data``.

    Returns:
        ``path``, or ``fused`` where it takes the classes already.

    Raises:
        InvalidInputError: the folder cannot be written, or the graph's maps are contrasts.
        MissingRequirementError: the disk is full.
    """
    refuse_contrast(manifest)
    if manifest.takes_classes:
        return fused
    import onnx

    model = onnx.load(fused, load_external_data=False)
    for node in model.graph.node:
        for position, output in enumerate(node.output):
            if output == "class_index":
                node.output[position] = "chosen_by_graph"
    outputs = [output for output in model.graph.output if output.name != "class_index"]
    chosen = next(output for output in model.graph.output if output.name == "class_index")
    model.graph.input.append(chosen)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    _extract(model, fused.parent, path, ["image", "class_index"], ["logits", "saliency"])
    return path


def take_raw_maps(fused: Path, manifest: GraphManifest, path: Path) -> None:
    """Turn a graph into one that is told the classes and gives their maps before min-max.

    Differences of raw maps are contrasts (fusion is linear); differences of stretched ones are not.

    Args:
        fused: the fused graph; its external weights lie beside it.
        manifest: describes it.
        path: the file to write: from ``image`` and ``class_index`` to ``logits`` and ``raw``.

    Raises:
        InvalidInputError: the folder cannot be written, or the graph's maps are contrasts.
        MissingRequirementError: the disk is full.
    """
    import onnx

    from ptame_deploy.precision.blocks import raw_map_tensors

    chosen = choose_classes(fused, manifest, path)
    model = onnx.load(chosen, load_external_data=False)
    (raw,) = raw_map_tensors(model.graph)
    found = onnx.helper.make_tensor_value_info(
        "raw", onnx.TensorProto.FLOAT, ["batch", "classes", None, None]
    )
    model.graph.node.append(onnx.helper.make_node("Identity", [raw], ["raw"], name="raw"))
    model.graph.output.append(found)
    _extract(model, chosen.parent, path, ["image", "class_index"], ["logits", "raw"])


def _extract(
    model: "onnx.ModelProto", folder: Path, path: Path, inputs: list[str], outputs: list[str]
) -> None:
    """Write a part of a graph; weights that lie outside come in last: 2 GB are too much before."""
    import onnx
    from onnx.utils import Extractor

    external = any(
        weight.data_location == onnx.TensorProto.EXTERNAL for weight in model.graph.initializer
    )
    part = Extractor(model).extract_model(inputs, outputs)
    if external:
        onnx.load_external_data_for_model(part, str(folder))
    # Beside an older file, ONNX would add external weights to those that are there.
    with staged_artifact(path.parent, path.name) as stage:
        target = stage / path.name
        onnx.save(part, target, save_as_external_data=external, location=f"{path.name}.data")
