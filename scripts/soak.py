"""Does memory stay flat over thousands of requests and photos? What `make soak` runs.

Sends requests of three kinds to `ptame serve` from several clients, and explains a folder of as
many photos with `ptame explain`; the processes' resident memory is read twice a second. Every
answer is checked. Writes one JSON, and exits 1 where memory grew by more than the limit between
the first tenth of the work and its end.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from bench.device import describe_device
from bench.memory import resident_bytes
from bench.servers import ptame_serve
from bench.suite import exit_code
from engines.explainer import Explainer
from engines.triton.config import DATATYPES
from ptame_deploy.cli import console
from ptame_deploy.errors import CheckFailedError, MissingRequirementError
from ptame_deploy.provenance import Provenance
from ptame_deploy.storage import check_writable, write_text

SECONDS_BETWEEN = 0.5
WARM = 0.1  # of the work, after which memory should stay where it is
LIMIT_SHARE, LIMIT_MB = 0.05, 20.0


def main() -> int:
    """Soak, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of an exported graph")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--json", type=Path, default=Path("bench-work/soak.json"))
    arguments = parser.parse_args()
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    check_writable(arguments.json.parent)
    with TemporaryDirectory(prefix="ptame-soak-") as folder:
        workspace = Path(folder)
        report = {
            "provenance": Provenance.here(seed=0).model_dump(mode="json"),
            "device": describe_device().model_dump(mode="json"),
            "classifier": Explainer.load(arguments.model).manifest.classifier.name,
            "serve": _soak_serve(arguments, workspace),
            "explain": _soak_explain(arguments, workspace),
        }
    write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    console.result(f"Wrote {arguments.json}")
    grown = [name for name in ("serve", "explain") if not report[name]["flat"]]
    if grown:
        message = f"Memory grows in {', '.join(grown)}: see {arguments.json}."
        raise CheckFailedError(message)


def _soak_serve(arguments: argparse.Namespace, workspace: Path) -> dict[str, Any]:
    explainer = Explainer.load(arguments.model)
    photos = _photos(workspace / "sent", 16)
    bodies = [path.read_bytes() for path in photos]
    expected = [int(explainer(path).class_index[0, 0]) for path in photos]
    infer = [json.dumps(_tensor(explainer, path)).encode() for path in photos]
    name = arguments.model.resolve().name
    with ptame_serve(arguments.model, workspace, ["--name", name]) as server:
        parts = urlsplit(server.http)
        done = 0
        lock = threading.Lock()

        def client(number: int) -> None:
            nonlocal done
            connection = HTTPConnection(str(parts.hostname), parts.port, timeout=120)
            for turn in range(number, arguments.requests, arguments.clients):
                which = turn % len(photos)
                if turn % 3 == 0:
                    path, kind, body = f"/v2/models/{name}/infer", "application/json", infer[which]
                else:
                    path, kind, body = "/explain", "image/png", bodies[which]
                accept = "image/png" if turn % 3 == 1 else "application/json"
                connection.request("POST", path, body, {"Content-Type": kind, "Accept": accept})
                answer = connection.getresponse()
                content = answer.read()
                _check_answer(turn % 3, answer.status, content, expected[which])
                with lock:
                    done += 1
            connection.close()

        with _watched(server.pid, lambda: done / arguments.requests) as samples:
            began = time.monotonic()
            with ThreadPoolExecutor(arguments.clients) as pool:
                for one in [pool.submit(client, number) for number in range(arguments.clients)]:
                    one.result()
            seconds = time.monotonic() - began
    return _told("ptame serve", "requests", arguments.requests, seconds, samples)


def _check_answer(kind: int, status: int, content: bytes, expected: int) -> None:
    if status != 200:
        message = f"ptame serve answered {status}: {content[:200]!r}"
        raise CheckFailedError(message)
    if kind == 1:
        right = content.startswith(b"\x89PNG")
    elif kind == 0:
        outputs = {one["name"]: one["data"] for one in json.loads(content)["outputs"]}
        right = int(np.argmax(outputs["logits"])) == expected
    else:
        right = f'"class_index":{expected},' in content.decode().replace(" ", "")
    if not right:
        message = f"ptame serve answered something else than the local run: {content[:200]!r}"
        raise CheckFailedError(message)


def _tensor(explainer: Explainer, path: Path) -> dict[str, Any]:
    prepared = explainer.manifest.preprocessing.apply(Image.open(path))[None]
    (image,) = explainer.inputs_of(prepared).values()
    datatype = DATATYPES[str(image.dtype)]
    tensor = {"name": "image", "datatype": datatype, "shape": list(image.shape)}
    return {"inputs": [tensor | {"data": np.round(image, 4).reshape(-1).tolist()}]}


def _soak_explain(arguments: argparse.Namespace, workspace: Path) -> dict[str, Any]:
    originals = _photos(workspace / "photos", 16)
    for number in range(len(originals), arguments.photos):
        (workspace / "photos" / f"{number:06}.png").hardlink_to(originals[number % len(originals)])
    out = workspace / "explained"
    words = [sys.executable, "-m", "ptame_deploy", "--quiet", "explain", str(arguments.model)]
    began = time.monotonic()
    process = subprocess.Popen([*words, str(workspace / "photos"), "-o", str(out)])
    with _watched(process.pid, lambda: _pictures(out) / arguments.photos) as samples:
        code = process.wait()
    seconds = time.monotonic() - began
    if code != 0 or _pictures(out) != arguments.photos:
        message = f"ptame explain ended with {code}, after {_pictures(out)} pictures."
        raise CheckFailedError(message)
    return _told("ptame explain", "photos", arguments.photos, seconds, samples)


def _pictures(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.png"))


def _photos(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    dice = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(dice.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        path = folder / f"{number:06}.png"
        # Many sizes, as photos have them: memory is returned and asked for in other pieces.
        coarse.resize((200 + 13 * number, 160 + 7 * number), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


@contextmanager
def _watched(pid: int, share: Callable[[], float]) -> Iterator[list[tuple[float, float]]]:
    """Collect (share of the work done, resident MB) of a process until the block ends."""
    samples: list[tuple[float, float]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN):
            try:
                held = resident_bytes("VmRSS", Path(f"/proc/{pid}/status"))
            except (OSError, MissingRequirementError):  # it ended
                return
            samples.append((share(), held / 1e6))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _told(
    what: str, of: str, count: int, seconds: float, samples: list[tuple[float, float]]
) -> dict[str, Any]:
    """Compare memory early and late: medians of the tenth after the warm-up, and of the last."""
    early = np.median([mb for share, mb in samples if WARM <= share < 2 * WARM])
    late = np.median([mb for share, mb in samples if share >= 1 - WARM])
    most = max(mb for _, mb in samples)
    flat = bool(late - early <= max(LIMIT_SHARE * early, LIMIT_MB))
    console.result(
        f"{what}: {count} {of} in {seconds:.0f} s; {early:.0f} MB after {WARM:.0%}, {late:.0f} MB "
        f"at the end, {most:.0f} MB at most: {'flat' if flat else 'GROWS'}"
    )
    step = max(1, len(samples) // 50)
    return {
        of: count,
        "seconds": round(seconds, 1),
        "early_mb": round(float(early), 1),
        "late_mb": round(float(late), 1),
        "most_mb": round(most, 1),
        "limit_mb": round(max(LIMIT_SHARE * float(early), LIMIT_MB), 1),
        "flat": flat,
        "curve": [[round(share, 3), round(mb, 1)] for share, mb in samples[::step]],
    }


if __name__ == "__main__":
    sys.exit(main())
