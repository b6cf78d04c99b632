"""What a classifier answers to masked copies of a photo: the targets of amortised training.

The perturbations are RISE's (Petsiuk et al., BMVC 2018): a few dozen masks a photo tell too little
for a map, and enough for a model that is fitted to thousands of photos at once, since the noise of
single photos averages out (Jethani et al., "FastSHAP", ICLR 2022; Covert et al., "Stochastic
amortization", NeurIPS 2024).
"""

import errno
import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.errors import CheckFailedError, InvalidInputError
from ptame_deploy.heads import Head, evidence, log_probability
from ptame_deploy.preprocessing import to_float
from ptame_deploy.random_masks import stream_masks
from ptame_deploy.storage import writable

SCHEMA = 2  # raised when masks or scores become others
# Classes of a photo whose scores are kept: the answer, which is fitted, and the next best one, by
# which maps of classes that are not the answer are judged.
SCORED = 2
_BROKEN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)  # no database, or no whole one


class Teacher(Protocol):
    """A classifier that scores masked copies; no gradient is needed, so that any runtime serves.

    Attributes:
        identity: hash of its weights and preparation, and what runs it.
        head: what makes probabilities of its logits.
        batch: copies that it sees at once.
    """

    identity: str
    head: Head
    batch: int

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (B, 3, H, W) RGB in [0, 1] to logits (B, classes)."""
        ...


@dataclass(frozen=True)
class MaskSettings:
    """How photos are perturbed.

    Attributes:
        count: masks a photo.
        cells: side of the coarse random grid.
        keep: probability that a grid cell stays visible.
        seed: of the masks; every photo has its own.
    """

    count: int = 32
    cells: int = 7
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what nothing can be learned from.

        Raises:
            InvalidInputError: fewer than 4 masks: two of their degrees of freedom go to the score's
                level and to how much a mask shows.
        """
        if self.count < 4:
            message = f"--masks must be at least 4, got {self.count}."
            raise InvalidInputError(message)


@dataclass(frozen=True)
class PhotoScores:
    """A photo's best classes, and how sure the classifier is of them behind each mask.

    Of the answer, the log-probability (RISE's probabilities saturate near 0 and 1); of the class
    next to it, `ptame_deploy.heads.evidence`.

    Attributes:
        classes: the classifier's own `SCORED` best for the whole photo, best first.
        scores: (classes, masks) float32.
    """

    classes: tuple[int, ...]
    scores: NDArray[np.float32]

    @property
    def masks(self) -> int:
        """How many masks there are scores for."""
        return int(self.scores.shape[1])

    def of_first(self, masks: int) -> "PhotoScores":
        """Return the scores behind the first masks alone."""
        return PhotoScores(self.classes, self.scores[:, :masks])


def photo_sha256(image: NDArray[np.uint8]) -> str:
    """Hash a prepared photo (H, W, 3): its pixels as the classifier sees them."""
    digest = hashlib.sha256(f"{image.shape}\n".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def masks_of(
    photo: str, settings: MaskSettings, size: tuple[int, int], batch: int = 32
) -> NDArray[np.float32]:
    """Make a photo's masks: the same whenever and in whatever order photos are looked at.

    Args:
        photo: `photo_sha256`.
        settings: how many, and how.
        size: height and width of the prepared photo.
        batch: masks that are made at once.

    Returns:
        (masks, H, W) in [0, 1].
    """
    seed = int(hashlib.sha256(f"{settings.seed} {photo}".encode()).hexdigest()[:16], 16)
    stream = stream_masks(
        settings.count, *size, cells=settings.cells, keep=settings.keep, batch=batch, seed=seed
    )
    return np.concatenate([masks.copy() for masks in stream])


def score_photo(
    teacher: Teacher,
    image: NDArray[np.uint8],
    masks: NDArray[np.float32],
    known: PhotoScores | None = None,
) -> PhotoScores:
    """Classify a photo, and its masked copies.

    Args:
        teacher: the classifier.
        image: (H, W, 3) prepared photo.
        masks: (masks, H, W); hidden pixels become black, as in training with the masking loss.
        known: scores of the first masks, which are not asked for again.

    Raises:
        CheckFailedError: the classifier answers with NaN or infinity.
    """
    whole = to_float(image[None])
    if known is None:
        best = np.argsort(-np.asarray(teacher(whole)[0]), kind="stable")[:SCORED]
        known = PhotoScores(tuple(map(int, best)), np.empty((len(best), 0), np.float32))
    scores = np.empty((len(known.classes), len(masks)), np.float32)
    scores[:, : known.masks] = known.scores
    for start in range(known.masks, len(masks), teacher.batch):
        part = slice(start, start + teacher.batch)
        logits = np.asarray(teacher(whole * masks[part, None]), np.float64)
        with np.errstate(invalid="ignore"):  # what is not finite is told below
            for number, index in enumerate(known.classes):
                measure = evidence if number else log_probability
                scores[number, part] = measure(logits, index, teacher.head)
    if not np.isfinite(scores).all():
        message = (
            "The classifier answers with NaN or infinity to masked photos: there is nothing to "
            "learn from. Its weights are broken."
        )
        raise CheckFailedError(message)
    return PhotoScores(known.classes, scores)


class ScoreCache:
    """Scores that were already asked for, in one file a teacher; a kill loses seconds of them."""

    def __init__(self, folder: Path, teacher: Teacher, settings: MaskSettings) -> None:
        """Use a folder; it is made with the first score.

        Args:
            folder: of caches.
            teacher: whose scores they are.
            settings: of the masks.
        """
        # Not by their number: the first of many masks are what few would have been.
        kind = {name: value for name, value in asdict(settings).items() if name != "count"}
        text = json.dumps([SCHEMA, teacher.identity, kind], sort_keys=True)
        self.path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.sqlite"

    def find(self) -> dict[str, PhotoScores]:
        """Return the scores that are there, by `photo_sha256`; a broken file holds none."""
        if not self.path.is_file():
            return {}
        try:
            with closing(self._open()) as database:
                rows = database.execute("SELECT photo, classes, scores FROM scores").fetchall()
            return {photo: _read(str(classes), scores) for photo, classes, scores in rows}
        except (sqlite3.Error, ValueError):
            return {}

    def keep(self, found: Sequence[tuple[str, PhotoScores]]) -> None:
        """Add scores.

        Raises:
            InvalidInputError: the folder cannot be written.
            MissingRequirementError: the disk is full.
        """
        rows = [
            (photo, " ".join(map(str, one.classes)), one.scores.tobytes()) for photo, one in found
        ]
        with writable(self.path, "say --no-cache, or set XDG_CACHE_HOME"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._insert(rows)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode not in _BROKEN:
                    raise _refused(error) from error
                self.path.unlink()
                self._insert(rows)

    def _insert(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        with closing(self._open()) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS scores "
                "(photo TEXT PRIMARY KEY, classes TEXT NOT NULL, scores BLOB NOT NULL)"
            )
            database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)  # another training may be writing


def _refused(error: sqlite3.DatabaseError) -> Exception:
    """Tell what a file system refuses as such."""
    code = error.sqlite_errorcode & 0xFF  # the rest says where
    number = {
        sqlite3.SQLITE_FULL: errno.ENOSPC,
        sqlite3.SQLITE_READONLY: errno.EROFS,
        sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    }.get(code)
    return error if number is None else OSError(number, os.strerror(number))


def _read(classes: str, scores: bytes) -> PhotoScores:
    indices = tuple(int(index) for index in classes.split())
    return PhotoScores(indices, np.frombuffer(scores, np.float32).reshape(len(indices), -1))
