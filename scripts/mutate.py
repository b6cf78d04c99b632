"""Change the numeric core, one operator or constant at a time: do the tests notice?

Each module is mutated by cosmic-ray in a clone, against the tests of its own. Prints what survived,
by module, and writes the counts. What is known of the survivors: docs/mutation.md.

    python scripts/mutate.py --work bench-work/mutants
    python scripts/mutate.py --only trainer/losses.py
    python scripts/mutate.py --only bench/measures/imputation.py --sample 200
"""

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

# Module: tests that are to notice.
CORE = {
    "ptame_deploy/faithfulness.py": ["tests/ptame_deploy/test_faithfulness.py"],
    "ptame_deploy/heads.py": ["tests/ptame_deploy/test_heads.py"],
    "ptame_deploy/bootstrap.py": ["tests/ptame_deploy/test_bootstrap.py"],
    "ptame_deploy/class_maps.py": ["tests/ptame_deploy/test_explainer.py"],
    "ptame_deploy/fused.py": ["tests/ptame_deploy/test_fused.py"],
    "ptame_deploy/preprocessing.py": ["tests/ptame_deploy/test_preprocessing.py"],
    "ptame_deploy/superpixels.py": ["tests/ptame_deploy/test_superpixels.py"],
    "trainer/mask_projector.py": ["tests/trainer/test_amortised.py"],
    "trainer/masking.py": ["tests/trainer/test_losses.py"],
    "trainer/losses.py": ["tests/trainer/test_losses.py"],
    "trainer/amortised.py": ["tests/trainer/test_amortised.py"],
    "bench/measures/curves.py": ["tests/bench/measures/test_curves.py"],
    "bench/measures/drop_increase.py": ["tests/bench/measures/test_drop_increase.py"],
    "bench/measures/imputation.py": ["tests/bench/measures/test_imputation.py"],
    "bench/measures/pointing.py": ["tests/bench/measures/test_pointing.py"],
    "bench/measures/road.py": ["tests/bench/measures/test_road.py"],
    "bench/measures/similarity.py": ["tests/bench/measures/test_similarity.py"],
}
_FORKED = "tests/doubles/forked_pytest.py"
_TIMEOUT = 60.0


def main() -> int:
    """Mutate, report, and return 0: survivors are for people to judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("bench-work/mutants"))
    parser.add_argument("--only", choices=CORE, action="append", help="repeatable")
    parser.add_argument("--sample", type=int, help="of each module, so many mutants at random")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    clone = work / "clone"
    if not clone.is_dir():
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
    for module in arguments.only or CORE:
        counts = _mutate(module, work, clone, arguments.sample)
        print(f"{module}: {counts['killed']} of {counts['run']} noticed", flush=True)
        _keep(work / "mutants.json", module, counts)
    return 0


def _mutate(module: str, work: Path, clone: Path, sample: int | None) -> dict[str, int]:
    name = module.replace("/", "-").removesuffix(".py")
    config, session = work / f"{name}.toml", work / f"{name}.sqlite"
    tests = " ".join(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *CORE[module]])
    config.write_text(
        f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {_TIMEOUT}\nexcluded-modules = []\n'
        f'test-command = "{sys.executable} {_FORKED} {tests}"\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    environment = os.environ | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}

    def call(*command: str) -> str:
        done = subprocess.run(
            command, cwd=clone, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    call("git", "checkout", "--quiet", "--", ".")  # a run that was killed left its mutant there
    if not session.exists():
        call("cosmic-ray", "init", str(config), str(session))
        if sample is not None:
            _thin(session, sample)
    served = [sys.executable, _FORKED, "--serve"]
    call(*served, "cosmic-ray", "baseline", str(config))  # the tests pass as the code is
    call(*served, "cosmic-ray", "exec", str(config), str(session))
    print(call("cr-report", "--show-diff", "--surviving-only", str(session)))
    outcomes = [json.loads(line) for line in call("cosmic-ray", "dump", str(session)).splitlines()]
    results = [result["test_outcome"] for _, result in outcomes if result is not None]
    return {"run": len(results), "killed": sum(one != "survived" for one in results)}


def _thin(session: Path, sample: int) -> None:
    """Leave so many of a session's mutants, the same ones each time."""
    with closing(sqlite3.connect(session)) as database, database:
        found = database.execute(
            "SELECT job_id FROM mutation_specs ORDER BY operator_name, occurrence, operator_args"
        ).fetchall()
        left_out = random.Random(0).sample(found, max(0, len(found) - sample))
        for table in ("mutation_specs", "work_items"):
            database.executemany(f"DELETE FROM {table} WHERE job_id = ?", left_out)


def _keep(path: Path, module: str, counts: dict[str, int]) -> None:
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(found | {module: counts}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
