"""What an evaluation has done so far, on disk, so that a kill costs minutes and not hours.

Every part is a file of its own, named by all that its content depends on: a run that is started
again finds what is done, and whatever was set differently has another name.
"""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.measures.measure import Reading
from ptame_deploy.storage import atomic_file, write_text

Part = TypeVar("Part")

VERSION = 1  # of what the parts hold; raised when methods or measures compute something else


@dataclass(frozen=True)
class StoredMaps:
    """Maps of a few photos.

    Attributes:
        maps: (B, h, w) float32, as the method gave them.
        classes: (B,) the explained classes.
    """

    maps: NDArray[np.float32]
    classes: NDArray[np.int64]


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that stand for everything given."""
    text = json.dumps([VERSION, *parts], sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:16]


class Store:
    """Finished parts in a folder."""

    def __init__(self, directory: Path) -> None:
        """Use a folder; it is made with the first part."""
        self.directory = directory

    def maps(self, method: str, key: str) -> StoredMaps | None:
        """Return stored maps, or None.

        Args:
            method: its name.
            key: fingerprint of all that they depend on.
        """
        return _read(self._path("maps", method, key, "npz"), _read_maps)

    def keep_maps(self, method: str, key: str, stored: StoredMaps) -> None:
        """Store maps."""
        buffer = io.BytesIO()
        np.savez(buffer, maps=stored.maps, classes=stored.classes)
        with atomic_file(self._path("maps", method, key, "npz")) as temporary:
            temporary.write_bytes(buffer.getvalue())

    def readings(self, method: str, measure: str, key: str) -> list[Reading] | None:
        """Return a measure's readings of a few photos, or None."""
        return _read(self._path(f"values/{measure}", method, key, "json"), _read_readings)

    def keep_readings(
        self, method: str, measure: str, key: str, readings: Sequence[Reading]
    ) -> None:
        """Store a measure's readings of a few photos."""
        rows = [
            {
                "values": dict(reading.values),
                "curve": None if reading.curve is None else [float(v) for v in reading.curve],
            }
            for reading in readings
        ]
        self._write(self._path(f"values/{measure}", method, key, "json"), rows)

    def numbers(
        self, kind: str, method: str, key: str, parse: Callable[[Any], Part]
    ) -> Part | None:
        """Return a stored JSON value, or None.

        Args:
            kind: of numbers.
            method: its name.
            key: fingerprint of all that they depend on.
            parse: makes of it what is asked for; a `ValueError`, `KeyError` or `TypeError` of it
                says that the file is broken.
        """
        path = self._path(kind, method, key, "json")
        return _read(path, lambda found: parse(json.loads(found.read_text(encoding="utf-8"))))

    def keep_numbers(self, kind: str, method: str, key: str, value: Any) -> None:
        """Store a JSON value."""
        self._write(self._path(kind, method, key, "json"), value)

    def _path(self, kind: str, method: str, key: str, ending: str) -> Path:
        return self.directory / kind / method / f"{key}.{ending}"

    def _write(self, path: Path, value: Any) -> None:
        write_text(path, json.dumps(value))


def _read(path: Path, read: Callable[[Path], Part]) -> Part | None:
    """Read a part; one that is not there or cannot be read is computed again."""
    try:
        return read(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _read_maps(path: Path) -> StoredMaps:
    with np.load(path, allow_pickle=False) as found:
        return StoredMaps(found["maps"], found["classes"])


def _read_readings(path: Path) -> list[Reading]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [
        Reading(
            row["values"],
            None if row["curve"] is None else np.array(row["curve"], np.float32),
        )
        for row in rows
    ]
