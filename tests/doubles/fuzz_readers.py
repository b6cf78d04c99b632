"""Everything that reads a file, for `fuzzing`; by itself, ``make fuzz``.

    python tests/doubles/fuzz_readers.py --graph FOLDER --count 2000 [--only NAME] [--seed N]

FOLDER is any exported graph. Prints a line for each reader, and exits 1 where one has a fault.
"""

import argparse
import hashlib
import io
import json
import shutil
import sys
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from fuzzing import Reader, attack
from PIL import Image

from bench.compare_runs import read_reports
from bench.evaluation.merge import read_evaluation
from bench.measures.boxes import read_boxes
from bench.methods.given_maps import GivenMaps, given_method
from engines.explainer import Explainer
from engines.plan import PLAN_MANIFEST, read_plan
from engines.serve.protocol import read_request
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GRAPH_MANIFEST, GraphManifest
from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.explainer import start_explainer
from ptame_deploy.explainer_store import load_explainer, record_explainer, save_explainer
from ptame_deploy.foreign_graph import read_foreign_graph
from ptame_deploy.photos import open_photo
from ptame_deploy.precision.calibration import read_cache, write_cache
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.sources.load import load_backbone
from ptame_deploy.tar_photos import photos_in_tar
from ptame_deploy.weights import read_state_dict
from trainer.checkpoints import read_checkpoint
from trainer.loss_weights import read_loss

MAGIC = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tif": "TIFF"}


def readers(graph: Path) -> list[Reader]:
    """List the cases.

    Args:
        graph: folder of an exported graph.
    """
    photos = [
        Reader(f"photo.{ending}", partial(_photo, ending=ending), _prepare) for ending in MAGIC
    ]
    copied = partial(_copy, graph)
    return [
        *photos,
        Reader("model.json", partial(copied, "model.json"), _manifest),
        Reader("model.json, loaded", partial(copied, "model.json"), _explain),
        Reader("model.onnx", partial(copied, "model.onnx"), _explain),
        Reader("model.onnx, hash repaired", partial(copied, "model.onnx"), _explain, _rehash),
        Reader("foreign.onnx", _foreign, read_foreign_graph),
        Reader("explainer.json", partial(_explainer, "explainer.json"), _load_explainer),
        Reader(
            "explainer.safetensors, hash repaired",
            partial(_explainer, "explainer.safetensors"),
            _load_explainer,
            _rehash,
        ),
        Reader("model.plan.json", partial(_plan, graph), lambda path: read_plan(path.parent)),
        Reader("weights.safetensors", partial(_weights, "safetensors"), read_state_dict),
        Reader("weights.pth", partial(_weights, "pth"), read_state_dict),
        Reader("checkpoint of a training", _checkpoint, read_checkpoint),
        Reader("calibration cache", _cache, lambda path: read_cache(path.parent, path.stem)),
        Reader("loss weights", _loss, read_loss),
        Reader("boxes, COCO", _coco, read_boxes),
        Reader("boxes, VOC", _voc, read_boxes),
        Reader("class names.json", _names, _named),
        Reader("report of ptame bench", partial(_result, "bench-cpu.json"), read_reports),
        Reader("results.json", partial(_result, "evaluation-lite2-cpu.json"), read_evaluation),
        Reader("map of another tool", _given_map, _read_given_map),
        Reader("tar of photos", _tar, _read_tar),
        Reader("request of the v2 protocol", _request, _read_request),
    ]


def _photo(folder: Path, ending: str) -> Path:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    path = folder / f"photo.{ending}"
    Image.fromarray(coarse).resize((60, 50), Image.Resampling.BICUBIC).save(path, MAGIC[ending])
    return path


def _prepare(path: Path) -> None:
    Preprocessing(input_size=(32, 32), resize=40).apply(open_photo(path))


def _copy(graph: Path, name: str, folder: Path) -> Path:
    shutil.copytree(graph, folder / "model")
    return folder / "model" / name


def _manifest(path: Path) -> None:
    read_manifest(path.parent, GRAPH_MANIFEST, GraphManifest)


def _explain(path: Path) -> None:
    explainer = Explainer.load(path.parent, threads=1)
    height, width = explainer.manifest.preprocessing.input_size
    explainer(Image.new("RGB", (width, height), (200, 100, 50)))


def _rehash(path: Path) -> None:
    """Write a broken file's hash and size into the JSON beside it."""
    for manifest in path.parent.glob("*.json"):
        try:
            document = json.loads(manifest.read_text())
            files = document["files"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(files, dict) and isinstance(files.get(path.name), dict):
            data = path.read_bytes()
            files[path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            manifest.write_text(json.dumps(document))


def _foreign(folder: Path) -> Path:
    from onnx_classifiers import classifier

    path = folder / "foreign.onnx"
    path.write_bytes(classifier().SerializeToString())
    return path


def _networks():
    torch.set_num_threads(1)
    sizes = {"input_size": (64, 64), "resize": 72}
    backbone = load_backbone("mobilenet_v3_small", weights="random", preprocessing=sizes)
    auxiliary = load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(64,))
    return backbone, auxiliary


def _explainer(name: str, folder: Path) -> Path:
    backbone, auxiliary = _networks()
    net, start = start_explainer(auxiliary, backbone.num_classes, backbone.class_names)
    record = record_explainer(net, auxiliary, state="initialised", start=start)
    save_explainer(net, record, backbone, folder / "explainer", seed=0)
    return folder / "explainer" / name


def _load_explainer(path: Path) -> None:
    if "networks" not in _KEPT:
        _KEPT["networks"] = _networks()
    load_explainer(path.parent, *_KEPT["networks"])


_KEPT: dict[str, tuple] = {}


def _plan(graph: Path, folder: Path) -> Path:
    from cpp_doubles import write_engine

    return write_engine(graph, folder / "plan") / PLAN_MANIFEST


def _weights(ending: str, folder: Path) -> Path:
    from safetensors.torch import save_file

    state = {"a.weight": torch.randn(8, 4), "a.bias": torch.randn(8), "b": torch.arange(5)}
    path = folder / f"weights.{ending}"
    if ending == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path)
    return path


def _checkpoint(folder: Path) -> Path:
    path = folder / "last.ckpt"
    tensors = {"a": torch.randn(6)}
    torch.save({"ptame": {"seed": 0}, "callbacks": {}, "state_dict": tensors}, path)
    return path


def _cache(folder: Path) -> Path:
    write_cache(folder, "0" * 64, {"a": (0.0, 1.0), "b": (-1.0, 2.0)})
    return folder / f"{'0' * 64}.json"


def _written(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def _loss(folder: Path) -> Path:
    from dataclasses import asdict

    from trainer.loss_weights import LOSSES

    return _written(folder / "loss.json", asdict(next(iter(LOSSES.values()))))


def _coco(folder: Path) -> Path:
    image = {"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}
    box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1.0, 2.0, 30.0, 20.0]}
    whole = {"images": [image], "annotations": [box], "categories": [{"id": 3, "name": "cat"}]}
    return _written(folder / "boxes.json", whole)


def _voc(folder: Path) -> Path:
    path = folder / "a.xml"
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    path.write_text(
        "<annotation><filename>a.jpg</filename><size><width>80</width><height>60</height></size>"
        f"<object><name>cat</name>{box}</object></annotation>"
    )
    return path


def _names(folder: Path) -> Path:
    return _written(folder / "names.json", [f"class {i}" for i in range(10)])


def _named(path: Path) -> None:
    from ptame_deploy.sources.load import read_class_names

    read_class_names(str(path))


def _result(name: str, folder: Path) -> Path:
    path = folder / "results.json"
    path.write_bytes((Path(__file__).parents[2] / "results" / name).read_bytes())
    return path


def _given_map(folder: Path) -> Path:
    path = folder / "photo.npy"
    np.save(path, np.zeros((7, 7), np.float32))
    return path


def _read_given_map(path: Path) -> None:
    given_method(GivenMaps("Tool", path.parent), {"": "photo.png"}, (224, 224))


def _tar(folder: Path) -> Path:
    path = folder / "photos.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(3):
            data = _photo(folder, "png").read_bytes()
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def _read_tar(path: Path) -> None:
    from ptame_deploy.errors import InvalidInputError

    try:
        with path.open("rb") as file:
            for photo in photos_in_tar(file):
                file.seek(photo.offset)
                file.read(min(photo.size, 10**8))
    except (tarfile.TarError, OSError) as error:  # as documented
        raise InvalidInputError(str(error)) from error


def _request(folder: Path) -> Path:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 3, 2, 2], "data": [0.5] * 12}
    return _written(folder / "request.json", {"id": "1", "inputs": [tensor]})


def _read_request(path: Path) -> None:
    read_request(path.read_bytes(), None)


def main() -> int:
    """Attack every reader."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    told = {}
    for reader in readers(arguments.graph):
        if arguments.only and not any(text in reader.name for text in arguments.only):
            continue
        outcome = attack(reader, arguments.count, arguments.seed)
        counts = ", ".join(f"{count} {kind}" for kind, count in outcome.kinds.most_common())
        print(f"{reader.name:<40} {counts}", flush=True)
        for fault in outcome.faults[:10]:
            print(f"    {fault}", flush=True)
        told[reader.name] = dict(outcome.kinds) | {"faults": outcome.faults}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(told, indent=2))
    return 1 if any(one["faults"] for one in told.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
