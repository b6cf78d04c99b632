"""The same classifier explained by P-TAME and by OpenVINO XAI: times and faithfulness, one JSON.

Times are of four graphs in OpenVINO, in turns: the classifier alone, with OpenVINO XAI's
ReciproCAM branch, and fused with explainers on the classifier's own features (`self`) and on an
auxiliary network's, both trained here. Maps are judged by `ptame evaluate` on photos that nothing
was trained on.

    make compare-openvino TRAIN=FOLDER PHOTOS=FOLDER COMPARE_JSON=FILE
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from bench.device import describe_device
from bench.graphs import graphs_of_artifact
from bench.suite import exit_code
from ptame_deploy.errors import PtameError
from ptame_deploy.provenance import Provenance
from ptame_deploy.storage import write_text

BACKBONE = "timm:tf_efficientnet_lite2"
RECIPROCAM = "ReciproCAM (OpenVINO XAI)"
OWN, OTHER = "self", "efficientnet_lite0"  # auxiliaries: the classifier's features, another network


class StepFailedError(PtameError):
    """A step of the comparison fails."""

    exit_code = 1


def main() -> int:
    """Compare, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="to judge by")
    parser.add_argument("--train", type=Path, required=True, help="others, to train on")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--openvino", type=Path, required=True, help="Python with OpenVINO XAI")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    return exit_code(lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> None:
    work: Path = arguments.work
    if work.exists():
        shutil.rmtree(work)
    maps, times, evaluation = (work / name for name in ("maps", "times.json", "evaluation"))
    train, photos, openvino = map(
        shlex.quote, map(str, (arguments.train, arguments.photos, arguments.openvino))
    )
    for auxiliary in (OWN, OTHER):
        explainer = work / f"explainer-{auxiliary}"
        _run(f"ptame train {train} --backbone {BACKBONE} --auxiliary {auxiliary} -o {explainer}")
        _run(f"ptame export --backbone {BACKBONE} --explainer {explainer} -o {work / auxiliary}")
    _run(f"ptame explain {work / OTHER} {photos} --save-maps -o {work / 'other-maps'}")
    graphs = graphs_of_artifact(work / OWN, work / "alone")
    fused = " ".join(f"--fused {work / auxiliary}" for auxiliary in (OWN, OTHER))
    _run(
        f"{openvino} {Path(__file__).with_name('openvino_xai_maps.py')} {graphs.classifier} "
        f"{photos} {fused} --maps {maps} --json {times}"
    )
    given = {RECIPROCAM: maps, f"P-TAME with {OTHER}": work / "other-maps"}
    named = " ".join(f"--maps {shlex.quote(f'{label}={path}')}" for label, path in given.items())
    _run(
        f"ptame evaluate --model {work / OWN} --backbone {BACKBONE} --explainer "
        f"{work / f'explainer-{OWN}'} --images {photos} {named} --methods grad-cam "
        "--measures drop-matched,insertion,deletion --steps 10 --sanity-photos 0 --no-gallery "
        f"-o {evaluation}"
    )
    report = {
        "provenance": Provenance.here(seed=0).model_dump(mode="json"),
        "device": describe_device().model_dump(mode="json"),
        "openvino": json.loads(times.read_text(encoding="utf-8")),
        "evaluation": json.loads((evaluation / "results.json").read_text(encoding="utf-8")),
    }
    write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    print(f"Wrote {arguments.json}")


def _run(command: str) -> None:
    """Run a program beside this Python, or one by its whole path."""
    print(f"$ {command}", flush=True)
    program, *words = shlex.split(command)
    found = Path(sys.executable).parent / program
    code = subprocess.run([str(found), *words], check=False).returncode
    if code:
        message = f"{program} ended with {code}."
        raise StepFailedError(message)


if __name__ == "__main__":
    sys.exit(main())
