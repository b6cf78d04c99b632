"""Every reader of files meets broken ones: a short run of ``make fuzz``."""

import json
import random
import subprocess
import sys
from pathlib import Path

import fuzz_readers
import pytest
from fuzzing import Reader, attack, broken

from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.integration
SCRIPT = Path(fuzz_readers.__file__)


def test_broken_files_are_refused_or_read(tiny_artifact, tmp_path):
    """In a process of its own: this one has threads, which do not outlive a fork."""
    told = tmp_path / "told.json"
    words = [sys.executable, str(SCRIPT), "--graph", str(tiny_artifact), "--count", "40"]
    done = subprocess.run(
        [*words, "--json", str(told)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(told.read_text())
    assert len(found) == len(fuzz_readers.readers(tiny_artifact))
    for name, kinds in found.items():
        assert kinds.get("read", 0) + kinds.get("refused", 0) == 40, name


def hang():
    while True:
        pass


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (lambda: 1 / 0, "fault"),
        (lambda: bytearray(b"1" * 300 * 2**20) and None, "memory"),
        (lambda: __import__("os").abort(), "SIGABRT"),
        (hang, "SIGALRM"),
    ],
)
def test_it_notices(tmp_path, monkeypatch, behaviour, kind):
    """Faults, bursts, crashes and hangs are told from refusals."""
    monkeypatch.setattr("fuzzing.SECONDS", 1 if behaviour is hang else 30)
    monkeypatch.setattr("fuzzing.MEGABYTES", 100)

    def make(folder):
        (folder / "file").write_bytes(bytes(range(100)))
        return folder / "file"

    def read(path):
        if path.read_bytes() == bytes(range(100)):
            return
        if path.read_bytes()[0] % 2:
            message = "refused"
            raise InvalidInputError(message)
        behaviour()

    outcome = attack(Reader("toy", make, read), 3)
    assert outcome.kinds[kind] == len(outcome.faults) > 0


def test_json_is_broken_in_its_values():
    dice, whole = random.Random(0), json.dumps({"a": [1, {"b": 2}], "c": "d"}).encode()
    made = [broken(whole, dice, suffix=".json") for _ in range(200)]
    assert len(set(made)) > 100
    parsed = 0
    for one in made:
        try:
            json.loads(one)
        except (ValueError, RecursionError):
            continue
        parsed += 1
    assert parsed > 100
