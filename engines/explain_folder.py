"""Explaining many photos: batches in, pictures, maps and one table out."""

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.beside import Beside, Others
from engines.explainer import Explainer
from engines.explanation import Explanation
from engines.gallery import gallery_page
from engines.masked_confidence import masked_confidence
from engines.results_table import Row, rows_of, write_tables
from ptame_deploy.colormaps import ColorMap
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import UnreadablePhotoError, open_photo, printable
from ptame_deploy.rendering import Panel, crop_seen, render
from ptame_deploy.storage import atomic_file, write_text

MAX_STEM_BYTES = 230


@dataclass
class Summary:
    """What was done.

    Attributes:
        rows: of the table.
        skipped: photos that could not be read, each with the reason.
        model_share: of the time, in which the model ran; the rest waited for photos and pictures.
        others: pictures and maps in the folder that this run did not write.
    """

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    model_share: float = 0.0
    others: int = 0


def explain_folder(
    explainer: Explainer,
    photos: Sequence[Path],
    directory: Path,
    *,
    class_index: Sequence[int] | None = None,
    save_maps: bool = False,
    colormap: ColorMap = "inferno",
    opacity: float = 0.6,
    beside: Beside | None = None,
    keep: int | None = None,
    page: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Summary:
    """Explain photos batch by batch, and write a picture for each and a table for all.

    Threads decode the next batch and draw the last one meanwhile, so that the model sets the pace;
    no more than these are held in memory. Photos that cannot be decoded are skipped and named, in
    the summary and in ``results.json``.

    Args:
        explainer: the exported graph or the plan.
        photos: files.
        directory: gets ``NAME.png`` a photo, ``results.csv`` and ``results.json``.
        class_index: K classes for all photos, where the graph takes classes.
        save_maps: also write ``NAME.npy``: float32 (K, h, w) at the graph's resolution.
        colormap: of the pictures.
        opacity: of the map over the photo, 0 to 1.
        beside: another graph, whose maps of the same classes are drawn beside.
        keep: percent of the pixels, those with the highest values, that are outlined; the
            classifier is asked again with only these left, and without them.
        page: also write ``index.html``, with all pictures.
        advance: called with the number of photos that were just finished or skipped.

    Raises:
        InvalidInputError: the folder cannot be written, classes that do not fit, a picture would
            take the place of a photo, or the other graph sees photos otherwise.
        MissingRequirementError: the disk is full.
    """
    summary = Summary()
    names = _output_names(photos)
    _refuse_overwriting(photos, directory, names)
    cautions = list(explainer.manifest.cautions)
    if beside is not None:
        beside.check(explainer)
        cautions += [f"{beside.name}: {text}" for text in beside.explainer.manifest.cautions]
    pictures = _Pictures(directory, cautions, colormap, opacity, save_maps=save_maps)
    began, running = time.monotonic(), 0.0
    with ThreadPoolExecutor(_workers(), thread_name_prefix="ptame-photos") as pool:
        drawn: list[Future[None]] = []
        for batch in _opened(explainer, photos, pool):
            summary.skipped += [str(one) for one in batch if isinstance(one, UnreadablePhotoError)]
            readable = [one for one in batch if not isinstance(one, UnreadablePhotoError)]
            if readable:
                prepared = np.stack([one.prepared for one in readable])
                asked = explainer.classes_for(class_index, len(readable))
                started = time.monotonic()
                explanation = explainer.explain_prepared(prepared, asked)
                others = None if beside is None else beside.panels(prepared, explanation)
                sure = None
                if keep is not None:
                    sure = masked_confidence(explainer, prepared, explanation, keep)
                running += time.monotonic() - started
                _finish(drawn)  # of the batch before: two batches are held, not more
                for position, one in enumerate(readable):
                    own = None if sure is None else sure[position]
                    panels = _panels(explanation, position, others, keep, own)
                    maps = explanation.saliency[position]
                    drawn.append(
                        pool.submit(pictures.write, names[one.path], one.seen, panels, maps)
                    )
                    summary.rows += rows_of(
                        explanation, position, one.path, names[one.path], own, saved=save_maps
                    )
            advance(len(batch))
        _finish(drawn)
    summary.model_share = running / max(time.monotonic() - began, 1e-9)
    write_tables(explainer, summary.rows, summary.skipped, directory)
    summary.others = _others(directory, summary.rows)
    if page:
        title = f"What {explainer.manifest.classifier.name} looks at"
        text = gallery_page(title, summary.rows, cautions, summary.skipped)
        write_text(directory / "index.html", text)
    return summary


@dataclass(frozen=True)
class _Opened:
    """A photo, decoded: what the classifier needs and what is drawn, not the whole photo."""

    path: Path
    prepared: NDArray[np.uint8]
    seen: Image.Image


@dataclass(frozen=True)
class _Pictures:
    """Writes what is seen of an explanation."""

    directory: Path
    cautions: Sequence[str]
    colormap: ColorMap
    opacity: float
    save_maps: bool

    def write(
        self, name: str, seen: Image.Image, panels: Sequence[Panel], maps: NDArray[np.float32]
    ) -> None:
        """Write a photo's picture and, where they are asked for, its maps (K, h, w)."""
        picture = render(
            seen, panels, cautions=self.cautions, colormap=self.colormap, opacity=self.opacity
        )
        with atomic_file(self.directory / f"{name}.png") as temporary:
            picture.save(temporary, format="PNG")
        if self.save_maps:
            buffer = io.BytesIO()
            np.save(buffer, maps)
            with atomic_file(self.directory / f"{name}.npy") as temporary:
                temporary.write_bytes(buffer.getvalue())


def _workers() -> int:
    return min(4, os.cpu_count() or 1)


def _opened(
    explainer: Explainer, photos: Sequence[Path], pool: ThreadPoolExecutor
) -> Iterator[list[_Opened | UnreadablePhotoError]]:
    """Decode batch after batch, the next one while the last one is explained."""

    def begin(start: int) -> list[Future[_Opened | UnreadablePhotoError]]:
        batch = photos[start : start + explainer.batch_size]
        return [pool.submit(_open, explainer, path) for path in batch]

    ahead = begin(0)
    for start in range(0, len(photos), explainer.batch_size):
        batch, ahead = ahead, begin(start + explainer.batch_size)
        yield [one.result() for one in batch]


def _finish(drawn: list[Future[None]]) -> None:
    """Wait for pictures; what went wrong with one is raised."""
    for one in drawn:
        one.result()
    drawn.clear()


def _open(explainer: Explainer, path: Path) -> _Opened | UnreadablePhotoError:
    try:
        photo = open_photo(path)
        prepared = explainer.prepare(photo)
    except UnreadablePhotoError as error:
        return error
    except InvalidInputError as error:
        return UnreadablePhotoError(f"{printable(path)}: {error}")
    return _Opened(path, prepared, crop_seen(photo, explainer.manifest.preprocessing))


def _output_names(photos: Sequence[Path]) -> dict[Path, str]:
    """Name each photo's files after it; a stem that several share gets a number."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in photos:
        # Room for a number and an ending within the 255 bytes of a file name.
        stem = os.fsdecode(os.fsencode(path.stem)[:MAX_STEM_BYTES])
        name, number = stem, 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        names[path] = name
    return names


def _refuse_overwriting(photos: Sequence[Path], directory: Path, names: dict[Path, str]) -> None:
    inputs = {os.path.realpath(path) for path in photos}  # does not fail on loops of links
    for name in names.values():
        target = os.path.realpath(directory / f"{name}.png")
        if target in inputs:
            message = (
                f"{printable(target)} is a photo and would be replaced by its own picture. "
                "Choose another -o."
            )
            raise InvalidInputError(message)


def _others(directory: Path, rows: Sequence[Row]) -> int:
    """Count pictures and maps of earlier runs, which the tables do not tell of."""
    written = {name for row in rows for name in (row.overlay, row.map)}
    found = [path for path in directory.iterdir() if path.suffix in (".png", ".npy")]
    return sum(printable(path.name) not in written for path in found)


def _panels(
    explanation: Explanation,
    position: int,
    others: Others | None,
    keep: int | None,
    sure: NDArray[np.float32] | None,
) -> list[Panel]:
    panels = []
    for rank, saliency in enumerate(explanation.saliency[position]):
        note = ""
        if sure is not None:
            kept, hidden = sure[rank]
            note = f"outlined {keep} % alone, rest black: {kept:.1%}; these black: {hidden:.1%}"
        panels.append(Panel(explanation.heading(position, rank), saliency, keep, note))
        other = None if others is None else others[position][rank]
        if other is not None:
            panels.append(other)
    return panels
