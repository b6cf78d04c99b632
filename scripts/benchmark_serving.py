"""Throughput and latency of servers under load, with and without dynamic batching.

What `make bench-serving` runs: tritonserver and `ptame serve` with one graph, several numbers of
clients at once, contenders in turns. Writes one JSON; `scripts/readme_table.py --serving` puts it
into the README.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.serving import LoadOptions, bench_serving
from bench.serving_results import serving_table
from bench.suite import exit_code
from bench.timing import Sampling
from ptame_deploy.artifact_files import manifest_json
from ptame_deploy.cli import console
from ptame_deploy.cli.options import seconds
from ptame_deploy.storage import check_writable, write_text


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of an exported graph")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8], help="at once")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each cell of the table")
    parser.add_argument("--rounds", type=int, default=20, help="turns that they are divided into")
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--queue-delay", default="2ms")
    parser.add_argument("--threads", type=int, default=0, help="of a run; 0 for one a core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("bench-work/bench-serving.json"))
    arguments = parser.parse_args()
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    check_writable(arguments.json.parent)
    options = LoadOptions(
        clients=arguments.clients,
        # Connections are warm after a few requests, and the servers warmed their graphs up.
        sampling=Sampling(
            seconds=arguments.seconds, rounds=arguments.rounds, warmup_seconds=0.0, warmup_runs=2
        ),
        max_batch=arguments.max_batch,
        queue_delay=seconds("--queue-delay", arguments.queue_delay),
        threads=arguments.threads,
        seed=arguments.seed,
    )
    with TemporaryDirectory(prefix="ptame-serving-") as folder:
        report = bench_serving(arguments.model, options, Path(folder), say=console.info)
    write_text(arguments.json, manifest_json(report))
    console.result(serving_table(report))
    console.result(f"Wrote {arguments.json}")


if __name__ == "__main__":
    sys.exit(main())
