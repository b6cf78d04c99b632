"""Broken files by the thousand: each is read in a process that may hang, burst or crash alone.

A reader holds where every broken file is either read or refused with one of `ptame`'s own errors,
within a time and an amount of memory, and nothing but its own outputs is written.
"""

import copy
import faulthandler
import json
import os
import pickle
import random
import resource
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptame_deploy.errors import PtameError

SECONDS = 30  # of one file, on a busy machine
MEGABYTES = 1500  # by which one file may make the process grow
UNREADABLE = 77
ODD = [
    None, True, -1, 0, 1, 2**31, 2**63, -(2**70), 1e308, 1e-320, "", "\x00", "..", "/etc/passwd",
    "../x", "x" * 5000, "\ud800", [], {}, [[]], {"": None}, [None] * 300, "float32", "1e999",
]  # fmt: skip
INTERESTING = [b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80", b"%n"]


@dataclass(frozen=True)
class Reader:
    """Something that reads a file.

    Attributes:
        name: of the case.
        make: writes whole files below a folder and returns the one that is broken.
        read: reads it, or the folder in which it lies.
        repair: makes hashes of the broken file right again, as an attacker would.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    repair: Callable[[Path], None] | None = None


@dataclass
class Outcome:
    """What became of the files."""

    kinds: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def broken(data: bytes, dice: random.Random, *, suffix: str) -> bytes:
    """Break a file: its bytes, or of JSON its values."""
    if suffix == ".json" and dice.random() < 0.7:
        return _broken_json(data, dice)
    made = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 8, 64])):
        if not made:
            break
        head = min(len(made), 400)  # where formats keep their sizes and counts
        place = dice.randrange(len(made) if dice.random() < 0.6 else head)
        match dice.randrange(6):
            case 0:
                made[place] ^= 1 << dice.randrange(8)
            case 1:
                made[place] = dice.randrange(256)
            case 2:
                del made[place : place + dice.choice([1, 4, 100, len(made)])]
            case 3:
                made[place:place] = dice.choice(INTERESTING)
            case 4:
                chunk = dice.choice(INTERESTING)
                made[place : place + len(chunk)] = chunk
            case 5:
                end = place + dice.choice([1, 16, 500])
                made[place:place] = made[place:end]
    return bytes(made)


def _broken_json(data: bytes, dice: random.Random) -> bytes:
    document = json.loads(data)
    for _ in range(dice.choice([1, 1, 1, 3])):
        places: list[tuple[Any, Any]] = []
        todo = [document]
        while todo:
            one = todo.pop()
            keys = list(one) if isinstance(one, dict) else range(len(one))
            places += [(one, key) for key in keys]
            todo += [one[key] for key in keys if isinstance(one[key], dict | list)]
        if not places:
            return dice.choice([b"null", b"[", b"[" * 100_000, b"1" * 5000, b'"'])
        holder, key = dice.choice(places)
        if dice.random() < 0.2:
            del holder[key]
        elif isinstance(holder, dict) and dice.random() < 0.1:
            holder[dice.choice(["", "x" * 300, "files", "__class__"])] = copy.deepcopy(
                dice.choice(ODD)
            )
        else:
            holder[key] = copy.deepcopy(dice.choice(ODD))
    return json.dumps(document).encode("utf-8", "surrogatepass")


def attack(reader: Reader, count: int, seed: int = 0) -> Outcome:
    """Break a reader's file many times, and read it each time in a child process."""
    outcome, number = Outcome(), 0
    with tempfile.TemporaryDirectory(prefix="ptame-fuzz-") as folder:
        path = reader.make(Path(folder))
        whole = path.read_bytes()
        while number < count:
            number = _children(reader, path, whole, range(number, count), seed, outcome)
    return outcome


def _children(
    reader: Reader, path: Path, whole: bytes, numbers: range, seed: int, outcome: Outcome
) -> int:
    """Read broken files in one child until it ends; return the number of the next one."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _read_all(reader, path, whole, numbers, seed, os.fdopen(sending, "wb"))
        os._exit(0)
    os.close(sending)
    last = numbers.start - 1
    with os.fdopen(receiving, "rb") as answers:
        while True:
            try:
                last, kind, fault = pickle.load(answers)
            except (EOFError, pickle.UnpicklingError):
                break
            outcome.kinds[kind] += 1
            if fault:
                outcome.faults.append(f"{reader.name}, file {last} of seed {seed}: {fault}")
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and last < numbers.stop - 1:
        code, number = os.WEXITSTATUS(status), last + 1
        if code == UNREADABLE:
            message = f"{reader.name} does not read the file as it was made"
            raise AssertionError(message)
        outcome.kinds["exit"] += 1
        outcome.faults.append(f"{reader.name}, file {number} of seed {seed}: exit {code}")
        return number + 1
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status)).name
        outcome.kinds[number] += 1
        outcome.faults.append(f"{reader.name}, file {last + 1} of seed {seed}: ended by {number}")
        return last + 2
    return last + 1


def _read_all(
    reader: Reader, path: Path, whole: bytes, numbers: range, seed: int, answers: Any
) -> None:
    faulthandler.disable()
    if numbers.start == 0:
        try:  # what is whole is read; in here, since threads do not outlive a fork
            reader.read(path)
        except BaseException:
            traceback.print_exc()
            os._exit(UNREADABLE)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends what hangs in foreign code, too
    for number in numbers:
        dice = random.Random(f"{reader.name} {seed} {number}")
        path.write_bytes(broken(whole, dice, suffix=path.suffix))
        if reader.repair is not None:
            reader.repair(path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        fault = ""
        signal.alarm(SECONDS)
        try:
            reader.read(path)
            kind = "read"
        except PtameError as error:
            kind = "refused"
            if len(str(error)) > 3000 or "\n" in str(error).strip()[:200]:
                fault = f"a long message: {str(error)[:200]!r}"
        except MemoryError:
            kind, fault = "memory", "MemoryError"
        except BaseException as error:
            kind = "fault"
            where = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"{type(error).__name__}: {str(error)[:200]} ({where.filename}:{where.lineno})"
        signal.alarm(0)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        if grown > MEGABYTES and not fault:
            kind, fault = "memory", f"grew by {grown:.0f} MB"
        pickle.dump((number, kind, fault), answers)
        answers.flush()
