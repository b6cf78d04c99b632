"""Make every committed number, table and picture again, and tell which moved.

Each result is made by its own commands (`scripts/experiments.py`) under --work and compared with
the committed one: tables figure by figure, pictures pixel by pixel. What was made stays, so that a
kill loses one experiment. What cannot be made here (photos, a classifier or a GPU are missing) is
named. Takes about a day on two cores; ``--only`` makes some.

    python scripts/reproduce.py --photos FOLDER --classifier my.py:build
    python scripts/reproduce.py --only bench-cpp-cpu,bench-archive-cpu
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from compare_results import Figure, compare_figures, compare_tables
from experiments import EXPERIMENTS, Experiment
from PIL import Image
from readme_table import COST, DATA, PRECISION, SERVING, SUMMARY, make_table

from ptame_deploy.photos import find_photos
from ptame_deploy.storage import write_text

# What the README shows of the demo, and where `make demo` writes it.
PICTURES = {
    "docs/demo.png": "demo/explained/camera.png",
    "docs/contrast.png": "demo/contrast-explained/coffee.png",
}
PICTURE_TOLERANCE = 2.0  # of 255, mean over the pixels
_OF_MACHINE = {
    COST, PRECISION, SERVING, SUMMARY,
    "archive-numbers", "cpp-numbers", "classes-numbers", "forms-numbers",
}  # fmt: skip
Verdicts = dict[str, str]


def main() -> int:
    """Make, compare, and return 1 where something moved or failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of hundreds of photos")
    parser.add_argument("--classifier", help="a ResNet-50 of ImageNet's classes: file.py:factory")
    parser.add_argument("--only", default="", help="results to make, or 'pictures'; with commas")
    parser.add_argument("--work", type=Path, default=Path("bench-work/reproduced"))
    parser.add_argument("--list", action="store_true", help="say what there is, and make nothing")
    arguments = parser.parse_args()
    only = {name for name in arguments.only.split(",") if name}
    unknown = only - {one.result for one in EXPERIMENTS} - {"pictures"}
    if unknown:
        parser.error(f"no such result: {', '.join(sorted(unknown))} (see --list)")
    chosen = [one for one in EXPERIMENTS if not only or one.result in only]
    if arguments.list:
        for one in chosen:
            needs = f", needs {' and '.join(sorted(one.needs))}" if one.needs else ""
            print(f"{one.result}: about {one.minutes} minutes{needs}")
        return 0
    given = _given(arguments.photos, arguments.classifier, arguments.work)
    verdicts = {one.result: _made(one, arguments.work, given) for one in chosen}
    figures = _tables(arguments.work, verdicts) + _cited(arguments.work, chosen, verdicts)
    if not only or "pictures" in only:
        verdicts |= _pictures()
    text = _report(verdicts, figures)
    write_text(arguments.work / "report.md", text)
    print(f"{text}\nWrote {arguments.work / 'report.md'}")
    bad = any(verdict.startswith("FAILED") for verdict in verdicts.values())
    return int(bad or any(figure.moved for figure in figures))


def _given(photos: Path | None, classifier: str | None, work: Path) -> dict[str, str]:
    """Return what commands may name, with photos split as the committed results say."""
    given = {} if classifier is None else {"classifier": classifier}
    if photos is None:
        return given
    found = sorted(find_photos([photos]))
    held_out = found[3::4]
    others = [path for path in found if path not in set(held_out)]
    for name, part in (("held_out", held_out), ("others", others)):
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in part:
            link = folder / path.name
            if not link.exists():
                link.symlink_to(path.resolve())
        given[name] = str(folder)
    return given | {"photos": str(photos)}


def _made(one: Experiment, work: Path, given: Mapping[str, str]) -> str:
    """Make a result, unless it is there, and say what became of it."""
    out = work / "results" / f"{one.result}.json"
    if out.is_file():
        return "was made before"
    missing = one.needs - given.keys()
    if "gpu" in missing and _has_gpu():
        missing -= {"gpu"}
    if missing:
        return f"not made: needs {' and '.join(sorted(missing))}"
    folder = work / one.result
    folder.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Commands and scripts of this environment, whatever else is on the path.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    began = time.monotonic()
    with (folder / "log.txt").open("a") as log:
        for template in one.commands:
            command = template.format(out=out, work=folder, **given)
            print(f"{one.result}: {command}", flush=True)
            done = subprocess.run(
                shlex.split(command), stdout=log, stderr=log, env=environment, check=False
            )
            if done.returncode:
                return f"FAILED with {done.returncode}: {command} (see {folder / 'log.txt'})"
    return f"made in {time.monotonic() - began:.0f} s"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _tables(work: Path, verdicts: Verdicts) -> list[Figure]:
    """Compare the README's tables whose results were all made."""
    readme = Path("README.md").read_text(encoding="utf-8")
    figures = []
    for name, paths in DATA.items():
        again = [work / "results" / Path(path).name for path in paths]
        if not all(path.is_file() for path in again):
            continue
        table = make_table(name, [path.read_text(encoding="utf-8") for path in again])
        before = readme.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]
        try:
            figures += compare_tables(name, before, table, of_machine=name in _OF_MACHINE)
        except ValueError as error:
            verdicts[name] = f"FAILED: {error}"
    return figures


def _cited(work: Path, chosen: Sequence[Experiment], verdicts: Verdicts) -> list[Figure]:
    """Compare figures that text cites without a table."""
    figures = []
    for one in chosen:
        again = work / "results" / f"{one.result}.json"
        if again.is_file():
            pair = [json.loads(path.read_text(encoding="utf-8")) for path in (one.path, again)]
            try:
                figures += compare_figures(one.result, one.figures, *pair)
            except ValueError as error:
                verdicts[one.result] = f"FAILED: {error}"
    return figures


def _pictures() -> Verdicts:
    """Make the demo again and compare its pictures."""
    done = subprocess.run(["make", "demo"], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"pictures": f"FAILED: make demo: {done.stderr[-500:]}"}
    return {name: _picture(Path(name), Path(again)) for name, again in PICTURES.items()}


def _picture(before: Path, now: Path) -> str:
    old, new = (np.asarray(Image.open(path).convert("RGB"), float) for path in (before, now))
    if old.shape != new.shape:
        return f"FAILED: MOVED, from {old.shape[1::-1]} to {new.shape[1::-1]} pixels"
    difference = float(np.abs(old - new).mean())
    moved = "FAILED: MOVED" if difference > PICTURE_TOLERANCE else "held"
    return f"{moved}: {difference:.2f} of 255 a pixel"


def _report(verdicts: Verdicts, figures: Sequence[Figure]) -> str:
    moved = [figure for figure in figures if figure.moved]
    lines = [
        "# What was made again", "",
        "| result | |", "|---|---|",
        *(f"| {name} | {verdict} |" for name, verdict in verdicts.items()), "",
        f"{len(figures)} figures compared, {len(moved)} moved.", "",
    ]  # fmt: skip
    if moved:
        lines += ["| figure | before | now |", "|---|---:|---:|"]
        lines += [f"| {one.where} | {one.before:g} | {one.now:g} |" for one in moved]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
