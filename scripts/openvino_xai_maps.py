"""OpenVINO XAI beside the fused graph, both run by OpenVINO: maps of photos, and times in turns.

OpenVINO XAI puts a ReciproCAM branch into the classifier (a map for each class, as coarse as the
last layer), so that it too gives class and map in one pass. It needs an older NumPy, so that this
runs in an environment of its own; `scripts/compare_openvino.py` starts it.

    python scripts/openvino_xai_maps.py CLASSIFIER.onnx PHOTOS --fused MODEL --maps DIR --json FILE
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_xai
from numpy.typing import NDArray
from openvino_xai.common.parameters import Method, Task

from bench.timing import Sampling, measure_latency, paired_ratio
from engines.artifact import Artifact
from ptame_deploy.artifacts import GRAPH_FILE
from ptame_deploy.photos import find_photos, open_photo
from ptame_deploy.preprocessing import to_float

ALONE, BRANCH, FUSED = "classifier alone", "with ReciproCAM", "fused graph"
MAP = "saliency_map"  # OpenVINO XAI's output: (1, classes, h, w)
SAMPLING = Sampling(seconds=10.0, iterations=100, rounds=10)


def main() -> int:
    """Write a map for each photo, and a JSON of times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classifier", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--fused", type=Path, action="append", required=True)
    parser.add_argument("--maps", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    core = openvino.Core()
    # OpenVINO's own choice on new processors is BF16, which no other row of ours runs in.
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": arguments.threads}

    def compiled(model: Any) -> Any:
        return core.compile_model(model, "CPU", exact | {"PERFORMANCE_HINT": "LATENCY"})

    def with_branch(*, scaled: bool) -> Any:
        return compiled(
            openvino_xai.insert_xai(
                core.read_model(arguments.classifier),
                task=Task.CLASSIFICATION,
                explain_method=Method.RECIPROCAM,
                embed_scaling=scaled,
            )
        )

    artifacts = [Artifact.read(folder) for folder in arguments.fused]
    prepare = artifacts[0].graph.preprocessing.apply
    # Scaled maps are bytes: timed as it ships them, judged as exact as it has them.
    raw = with_branch(scaled=False)
    found = find_photos([arguments.photos])
    for path in found:
        image = to_float(prepare(open_photo(path))[None])
        answer = raw(image)
        best = int(answer["logits"][0].argmax())
        target = (arguments.maps / path.relative_to(arguments.photos)).with_suffix(".npy")
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, answer[MAP][0, best].astype(np.float32))
    models = {
        ALONE: compiled(core.read_model(arguments.classifier)),
        BRANCH: with_branch(scaled=True),
    }
    for artifact in artifacts:
        name = f"{FUSED}, {artifact.graph.explainer.auxiliary_label}"
        models[name] = compiled(core.read_model(artifact.directory / GRAPH_FILE))
    durations = measure_latency(
        {name: _runner(model, image) for name, model in models.items()}, SAMPLING
    )
    times = {}
    for name, one in durations.items():
        beside = paired_ratio(one, durations[ALONE])
        times[name] = {
            "median_ms": 1000 * statistics.median(one.all),
            "over_alone": beside.model_dump(),
        }
    report = {
        "times": times,
        "map_size": list(answer[MAP].shape[2:]),
        "photos": len(found),
        "threads": arguments.threads,
        "versions": {name: metadata.version(name) for name in ("openvino", "openvino-xai")},
    }
    arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _runner(model: Any, image: NDArray[np.float32]) -> Callable[[], object]:
    request = model.create_infer_request()
    return lambda: request.infer([image])


if __name__ == "__main__":
    sys.exit(main())
