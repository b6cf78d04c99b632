"""The committed benchmark of the C++ library: its latency beside that of Python's session.

What `make bench-cpp` runs: `ptame-run` and a session of the onnxruntime package take turns, on one
graph, one ONNX Runtime, as many threads, the same prepared photos, in batches of 1 and 8. Python's
time is `session.run` alone; C++'s is `explain_prepared`, which also turns bytes into floats,
checks the answers, and hands out probabilities and maps. Writes one JSON; exit 1 where the answers
differ, or C++ takes over 1.05 times as long (the median of the rounds' ratios).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.cpp_program import CppTurns, build_program
from bench.device import describe_device
from bench.suite import exit_code
from bench.timing import Durations, paired_ratio, summarise_latency
from engines.explainer import Explainer
from ptame_deploy.artifacts import GRAPH_FILE
from ptame_deploy.cli import console
from ptame_deploy.errors import CheckFailedError
from ptame_deploy.onnx_session import open_session
from ptame_deploy.provenance import Provenance
from ptame_deploy.storage import write_text

LIMIT, BATCHES, FEWEST_RUNS = 1.05, (1, 8), 5
TOLERANCE = 1e-4


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of an exported graph")
    parser.add_argument("--headers", type=Path, default=Path(".cpp-headers"))
    parser.add_argument("--build", type=Path, default=Path("bench-work/cpp-build"))
    parser.add_argument("--program", type=Path, help="a ptame-run that is built already")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--runs", type=int, default=20, help="of a turn, at batch 1")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=float, default=LIMIT)
    parser.add_argument("--json", type=Path, default=Path("bench-work/bench-cpp.json"))
    arguments = parser.parse_args()
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    program = arguments.program
    if program is None:
        console.info(f"Building ptame-run in {arguments.build} ...")
        program = build_program(arguments.build, arguments.headers)
    with tempfile.TemporaryDirectory() as scratch:
        photo = Path(scratch) / "photo.png"
        pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photo)
        _check_answers(program, arguments.model, photo)
        found = [_compare(arguments, program, photo, batch) for batch in BATCHES]
    manifest = Explainer.load(arguments.model).manifest
    report = {
        "schema_version": 1,
        "kind": "cpp-latency",
        "provenance": Provenance.here(seed=0).model_dump(mode="json"),
        "device": describe_device().model_dump(mode="json"),
        "classifier": manifest.classifier.name,
        "graph_sha256": manifest.files[GRAPH_FILE].sha256,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "limit": arguments.limit,
        "batches": found,
    }
    write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    console.result(f"Wrote {arguments.json}")
    over = [str(one["batch"]) for one in found if one["ratio"]["value"] > arguments.limit]
    if over:
        message = (
            f"C++ takes over {arguments.limit} times Python's time at batch {', '.join(over)}."
        )
        raise CheckFailedError(message)


def _compare(
    arguments: argparse.Namespace, program: Path, photo: Path, batch: int
) -> dict[str, object]:
    """Measure both at one batch size, in turns."""
    explainer = Explainer.load(arguments.model)
    inputs = explainer.inputs_of(np.stack([explainer.prepare(photo)] * batch))
    session = open_session(arguments.model / GRAPH_FILE, threads=arguments.threads)
    cpp, python = Durations(), Durations()
    runs = max(min(arguments.runs, FEWEST_RUNS), arguments.runs // batch)

    def cpp_turn() -> None:
        told.append(turns.turn())
        cpp.rounds.append([one / 1e3 for one in told[-1]["ms"]])

    def python_turn() -> None:
        times = []
        for _ in range(runs + 1):
            began = time.perf_counter()
            session.run(None, inputs)
            times.append(time.perf_counter() - began)
        python.rounds.append(times[1:])  # the first finds the caches as the other left them

    told: list[dict[str, Any]] = []
    settings = {"threads": arguments.threads, "runs": runs}
    with CppTurns(program, arguments.model, [photo] * batch, **settings) as turns:
        for number in range(arguments.rounds + 1):
            # Every other round goes backwards: a drift within rounds then cancels.
            first, second = (cpp_turn, python_turn) if number % 2 else (python_turn, cpp_turn)
            first()
            second()
            if number == 0:  # which warms up
                cpp.rounds.clear()
                python.rounds.clear()
    ratio = paired_ratio(cpp, python)
    console.result(
        f"Batch {batch}: C++ takes {ratio.value:.3f} of Python's time "
        f"({ratio.p25:.3f} - {ratio.p75:.3f}, {ratio.rounds} rounds)"
    )
    return {
        "batch": batch,
        "runs_of_a_turn": runs,
        "cpp_runtime": told[0]["runtime"],
        "python_runtime": explainer.runtime.description,
        "cpp": summarise_latency(cpp.all, batch).model_dump(mode="json"),
        "python": summarise_latency(python.all, batch).model_dump(mode="json"),
        "ratio": ratio.model_dump(mode="json"),
    }


def _check_answers(program: Path, model: Path, photo: Path) -> None:
    """Compare class and probability: what answers differently is not compared in time.

    Raises:
        CheckFailedError: they differ, or the program fails.
    """
    command = [str(program), str(model), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"ptame-run failed: {done.stderr.strip()}"
        raise CheckFailedError(message)
    expected = Explainer.load(model)(photo)
    for rank, one in enumerate(json.loads(done.stdout)["results"]):
        apart = abs(one["probability"] - float(expected.probability[0, rank]))
        if one["class_index"] != expected.class_index[0, rank] or apart > TOLERANCE:
            message = f"ptame-run answers {one}, Python {expected.heading(0, rank)}."
            raise CheckFailedError(message)


if __name__ == "__main__":
    sys.exit(main())
