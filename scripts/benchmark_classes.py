"""What more classes, contrasts, superpixels and own features cost: a classifier's graphs in turns.

Part of `make bench`. Five classes must cost under 3 % over one (the median of the rounds' ratios):
the features are there already, and only five small maps are made of them. Writes one JSON; exit 1
where the limit is missed.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bench.device import describe_device
from bench.graphs import graphs_of_artifact
from bench.suite import exit_code
from bench.timing import Sampling, measure_latency, paired_ratio, summarise_latency
from ptame_deploy.artifacts import GRAPH_FILE
from ptame_deploy.cli import console, loading
from ptame_deploy.errors import CheckFailedError
from ptame_deploy.explainer import start_explainer
from ptame_deploy.explainer_store import record_explainer
from ptame_deploy.graph_options import GraphOptions
from ptame_deploy.onnx_export import export
from ptame_deploy.onnx_session import open_session
from ptame_deploy.part_records import SuperpixelRecord
from ptame_deploy.provenance import Provenance
from ptame_deploy.sources.load import load_backbone
from ptame_deploy.storage import write_text
from ptame_deploy.synthetic import synthetic_images

ALONE, ONE, FIVE = "classifier alone", "one class", "five classes"
LIMIT = 1.03


@dataclass(frozen=True)
class Variant:
    """A graph of the classifier: what it explains, and from whose features."""

    options: GraphOptions = field(default_factory=GraphOptions)
    own_features: bool = False
    superpixels: bool = False


VARIANTS = {
    ONE: Variant(),
    FIVE: Variant(GraphOptions(top_k=5)),
    "one class against another": Variant(GraphOptions(contrastive=True)),
    "one class, with superpixels": Variant(superpixels=True),
    "own features": Variant(own_features=True),
    "own features, with superpixels": Variant(own_features=True, superpixels=True),
}


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="timm:tf_efficientnet_lite2")
    parser.add_argument("--class-names")
    parser.add_argument("--auxiliary", default="efficientnet_lite0")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each graph")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0, help="of a run; 0 for one a core")
    parser.add_argument("--limit", type=float, default=LIMIT)
    parser.add_argument("--json", type=Path, default=Path("bench-work/bench-classes.json"))
    arguments = parser.parse_args()
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="ptame-classes-") as folder:
        graphs = _export(arguments, Path(folder))
        found = [_compare(arguments, graphs, batch) for batch in arguments.batches]
    report = {
        "schema_version": 1,
        "kind": "classes-latency",
        "provenance": Provenance.here(seed=0).model_dump(mode="json"),
        "device": describe_device().model_dump(mode="json"),
        "classifier": arguments.backbone.rpartition("/")[2],  # not the user's folders
        "auxiliary": arguments.auxiliary,
        "limit": arguments.limit,
        "batches": found,
    }
    write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    console.result(f"Wrote {arguments.json}")
    over = [one["batch"] for one in found if one["ratios"][FIVE]["value"] > arguments.limit]
    if over:
        message = f"Five classes cost over {arguments.limit} times one class at batch {over}."
        raise CheckFailedError(message)


def _export(arguments: argparse.Namespace, folder: Path) -> dict[str, Path]:
    backbone = load_backbone(arguments.backbone, class_names=arguments.class_names)
    auxiliaries = {
        own: loading.load_auxiliary(backbone, name, None, None, seed=0)
        for own, name in ((False, arguments.auxiliary), (True, "self"))
    }
    found = {}
    for number, (name, variant) in enumerate(VARIANTS.items()):
        auxiliary = auxiliaries[variant.own_features]
        net, start = start_explainer(auxiliary, backbone.num_classes, backbone.class_names)
        net.superpixels = SuperpixelRecord() if variant.superpixels else None
        record = record_explainer(net, auxiliary, state="initialised", start=start)
        console.info(f"Exporting {name} ...")
        export(backbone, auxiliary, net, record, folder / str(number), options=variant.options)
        found[name] = folder / str(number) / GRAPH_FILE
    found[ALONE] = graphs_of_artifact(found[ONE].parent, folder / "alone").classifier
    return found


def _compare(
    arguments: argparse.Namespace, graphs: dict[str, Path], batch: int
) -> dict[str, object]:
    runs = {}
    for name, path in graphs.items():
        session = open_session(path, threads=arguments.threads)
        height, width = session.get_inputs()[0].shape[2:]
        images = synthetic_images(batch, height, width)
        runs[name] = lambda session=session, images=images: session.run(None, {"image": images})
    sampling = Sampling(seconds=arguments.seconds, rounds=arguments.rounds)
    timed = measure_latency(runs, sampling)
    ratios, over_alone = (
        {name: paired_ratio(own, timed[base]) for name, own in timed.items() if name != base}
        for base in (ONE, ALONE)
    )
    for name, ratio in ratios.items():
        alone = f", {over_alone[name].value:.3f} of the classifier's" if name in over_alone else ""
        console.result(
            f"Batch {batch}, {name}: {ratio.value:.3f} of one class's time "
            f"({ratio.p25:.3f} - {ratio.p75:.3f}, {ratio.rounds} rounds){alone}"
        )
    return {
        "batch": batch,
        "latency": {
            name: summarise_latency(own.all, batch).model_dump(mode="json")
            for name, own in timed.items()
        },
        "ratios": {name: ratio.model_dump(mode="json") for name, ratio in ratios.items()},
        "over_alone": {n: ratio.model_dump(mode="json") for n, ratio in over_alone.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
