"""The committed benchmark of archives: photos a second by one worker and by two.

What `make bench-archive` runs: the demo's classifier and photos (crops of them, each many times
over), `ptame explain-archive` by one worker and by two with all cores between them, in turns.
A run's rate is of the time between its first photo and its last, without the start of Ray and of
the models, which is told apart: an archive of millions pays it once. Hours for a million photos are
extrapolated from that rate, and labelled so. Writes one JSON.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.device import describe_device
from bench.suite import exit_code
from ptame_deploy import read_archive
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GRAPH_MANIFEST, GraphManifest
from ptame_deploy.cli import console
from ptame_deploy.errors import CheckFailedError
from ptame_deploy.photos import find_photos
from ptame_deploy.provenance import Provenance
from ptame_deploy.storage import write_text

WORKERS = (1, 2)
MILLION = 1_000_000
SECONDS_AN_HOUR = 3600
# In a process of its own, as a user's: Ray's start is part of what is measured.
RUN = """
import json, sys, time
from pathlib import Path
from engines.archive.explain_archive import explain_archive, plan_archive
from engines.archive.manifest import Settings
from engines.archive.ray_pool import Asked, ray_runner
from engines.archive.worker import Task
from engines.artifact import Artifact
from ptame_deploy.onnx_session import PROVIDERS

given = json.loads(sys.argv[1])
began = time.time()
model = Artifact.read(Path(given["model"]).resolve())
settings = Settings(map_dtype="uint8", class_index=None, shard_size=given["shard_size"],
                    image_column=None, key_column=None)
plan = plan_archive([given["photos"]], model, given["output"], settings)
task = Task(model.directory, plan.manifest.graph_sha256, plan.folder.location, settings,
            PROVIDERS["cpu"], 1, given["batch"])
pools = []
summary = explain_archive(
    plan, lambda: ray_runner(Asked(workers=given["workers"]), task, pools.append)
)
print(json.dumps({"photos": summary.done, "bad": summary.bad, "seconds": summary.seconds,
                  "whole_seconds": time.time() - began, "threads": pools[0].threads}))
"""


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("bench-work/archive-model"))
    parser.add_argument("--photos", type=Path, default=Path("bench-work/crops"))
    parser.add_argument("--count", type=int, default=2000, help="photos of a run")
    parser.add_argument("--shard-size", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("bench-work/bench-archive.json"))
    arguments = parser.parse_args()
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    manifest = read_manifest(arguments.model, GRAPH_MANIFEST, GraphManifest)
    runs: dict[int, list[dict[str, Any]]] = {workers: [] for workers in WORKERS}
    with tempfile.TemporaryDirectory(prefix="ptame-", dir=arguments.photos.parent) as work:
        photos = _repeat(arguments.photos, Path(work) / "photos", arguments.count)
        for number in range(arguments.rounds):
            for workers in WORKERS:
                output = Path(work) / f"out-{workers}"
                runs[workers].append(_measure(arguments, photos, output, workers))
                shutil.rmtree(output)
                told = runs[workers][-1]
                console.info(
                    f"round {number + 1} of {arguments.rounds}, {workers} worker(s) of "
                    f"{told['threads']} threads: {told['photos'] / told['seconds']:.1f} photos/s"
                )
    report = {
        "provenance": Provenance.here(seed=0).model_dump(mode="json"),
        "device": describe_device().model_dump(mode="json"),
        "archive_versions": {name: version(name) for name in ("ray", "pyarrow")},
        "classifier": manifest.classifier.name,
        "auxiliary": manifest.explainer.auxiliary_label,
        "precision": manifest.precision,
        "weights": "random" if manifest.classifier.weights.random else "real",
        "photos": arguments.count,
        "shard_size": arguments.shard_size,
        "batch": arguments.batch,
        "pools": [_pool(workers, found) for workers, found in runs.items()],
        "times_faster": statistics.median(
            _rate(two) / _rate(one) for one, two in zip(runs[1], runs[2], strict=True)
        ),
    }
    write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    for pool in report["pools"]:
        console.result(
            f"{pool['workers']} worker(s) of {pool['threads']} threads: "
            f"{pool['photos_per_s']:.1f} photos a second; {pool['start_s']:.0f} s until the first; "
            f"{pool['hours_per_million_extrapolated']:.1f} h for a million (extrapolated)"
        )
    console.result(f"Wrote {arguments.json}")


def _pool(workers: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    rates = [_rate(run) for run in runs]
    rate = statistics.median(rates)
    return {
        "workers": workers,
        "threads": runs[0]["threads"],
        "photos_per_s": rate,
        "photos_per_s_min": min(rates),
        "photos_per_s_max": max(rates),
        "start_s": statistics.median(run["whole_seconds"] - run["seconds"] for run in runs),
        "hours_per_million_extrapolated": MILLION / rate / SECONDS_AN_HOUR,
        "core_hours_per_million_extrapolated": (
            workers * runs[0]["threads"] * MILLION / rate / SECONDS_AN_HOUR
        ),
        "runs": runs,
    }


def _rate(run: dict[str, Any]) -> float:
    return float(run["photos"] / run["seconds"])


def _repeat(source: Path, folder: Path, count: int) -> Path:
    """Fill a folder with links to photos, each as often as it takes."""
    found = find_photos([source])
    folder.mkdir()
    for number in range(count):
        photo = found[number % len(found)].resolve()
        (folder / f"{number:06}{photo.suffix}").symlink_to(photo)
    return folder


def _measure(
    arguments: argparse.Namespace, photos: Path, output: Path, workers: int
) -> dict[str, Any]:
    given = {
        "model": str(arguments.model),
        "photos": str(photos),
        "output": str(output),
        "shard_size": arguments.shard_size,
        "batch": arguments.batch,
        "workers": workers,
    }
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(given)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]
        message = f"The run with {workers} worker(s) failed: {last}"
        raise CheckFailedError(message)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    found["process_seconds"] = time.time() - began
    rows = sum(1 for _ in read_archive(str(output)))
    if rows != arguments.count or found["bad"]:
        message = f"{rows} rows for {arguments.count} photos, {found['bad']} of them bad."
        raise CheckFailedError(message)
    return found


if __name__ == "__main__":
    sys.exit(main())
