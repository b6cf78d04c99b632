"""The gallery's pictures for the page: read from one folder only, and inside the page."""

import base64
import math
from dataclasses import dataclass
from pathlib import Path

from bench.evaluation.report.cells import digits_of, number
from bench.evaluation.report.comparison import reference_of
from bench.evaluation.results import Choice, Evaluation, GalleryEntry, MeasureRecord

MAX_PICTURE_BYTES = 4 * 2**20
_KINDS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"))


@dataclass(frozen=True)
class Picture:
    """One picture of the gallery; without a source, the note says why."""

    caption: str
    alt: str
    source: str | None
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """One photo of the gallery by all methods."""

    choice: Choice
    title: str
    about: str
    pictures: list[Picture]


class Album:
    """Reads pictures of one evaluation; what does not fit on the page any more is left out.

    Attributes:
        left: bytes that the page may still take.
    """

    def __init__(self, folder: Path, left: int) -> None:
        """Read from a folder, nothing outside of it."""
        self.left = left
        self._folder = folder

    def shown(self, evaluation: Evaluation) -> list[Shown]:
        """Read the pictures of all photos of the gallery."""
        return [self._shown(entry, evaluation) for entry in evaluation.gallery]

    def _shown(self, entry: GalleryEntry, evaluation: Evaluation) -> Shown:
        pictures = [self._picture(entry.picture, "Photo", f"The photo: {entry.title}")]
        for name, file in entry.overlays.items():
            method = evaluation.method(name)
            label = method.label if method else name
            pictures.append(self._picture(file, label, f"Map of {label} over the photo"))
        about = ", ".join(filter(None, (entry.photo, _score(entry, evaluation))))
        return Shown(entry.choice, entry.title, about, pictures)

    def _picture(self, name: str, caption: str, alt: str) -> Picture:
        source, note = self._read(name)
        return Picture(caption, alt, source, note)

    def _read(self, name: str) -> tuple[str | None, str]:
        try:
            root = self._folder.resolve()
            path = (root / name).resolve()
            if not path.is_relative_to(root):
                return None, "not shown: it lies outside the evaluation's folder"
            if not path.is_file():
                return None, "not shown: the file is missing"
            size = path.stat().st_size
            if size > MAX_PICTURE_BYTES:
                return None, f"not shown: over {MAX_PICTURE_BYTES // 2**20} MiB"
            if size > self.left:
                return None, "not shown: the page would become too large"
            data = path.read_bytes()
        except (OSError, ValueError):  # a name with NUL, too long, or no right to read
            return None, "not shown: the file cannot be read"
        kind = next((kind for start, kind in _KINDS if data.startswith(start)), None)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            kind = "webp"
        if kind is None:
            return None, "not shown: neither PNG, JPEG nor WebP"
        self.left -= size
        return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}", ""


def gallery_measure(evaluation: Evaluation) -> MeasureRecord | None:
    """Return the measure that chose the best and the worst."""
    return next((m for m in evaluation.measures if m.name == evaluation.gallery_column), None)


def _score(entry: GalleryEntry, evaluation: Evaluation) -> str:
    measure, reference = gallery_measure(evaluation), reference_of(evaluation)
    if measure is None or entry.score is None or not math.isfinite(entry.score):
        return ""
    name = reference.label if reference else "P-TAME"
    return f"{measure.label} of {name}: {number(entry.score, digits_of(measure))}"
