"""The photos of an evaluation: which, in which order, and what the judge says of them."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.evaluation.store import fingerprint
from bench.measures.judge import Judge
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import UnreadablePhotoError, open_photo, printable
from ptame_deploy.preprocessing import Preprocessing, to_float
from ptame_deploy.storage import write_text


@dataclass(frozen=True)
class Photo:
    """One photo and the judge's opinion of it.

    Attributes:
        name: unique, printable; the path below the folder that it was found in.
        path: of the file.
        sha256: of the pixels that the classifier sees.
        width: of the whole photo.
        height: of the whole photo.
        class_index: the judge's best class: the one that is explained.
        second_index: its second best.
        probability: of the best one.
    """

    name: str
    path: str
    sha256: str
    width: int
    height: int
    class_index: int
    second_index: int
    probability: float


@dataclass(frozen=True)
class Chosen:
    """The photos of one evaluation, and those that could not be read."""

    photos: list[Photo]
    skipped: list[str]

    @property
    def sha256(self) -> str:
        """Hash of the photos' hashes, in their order."""
        return sha256(" ".join(photo.sha256 for photo in self.photos).encode()).hexdigest()


def choose_photos(
    paths: Sequence[Path], names: Sequence[str], limit: int | None, seed: int
) -> list[tuple[Path, str]]:
    """Order photos by chance, so that the first few are a sample of all, and take so many.

    Args:
        paths: files.
        names: of each.
        limit: how many; None for all.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(len(paths))
    return [(paths[i], names[i]) for i in order[:limit]]


def photo_names(paths: Sequence[Path], roots: Sequence[Path]) -> list[str]:
    """Name photos by their paths below the folders that were given; a name twice gets a number."""
    names: dict[str, None] = {}
    for path in paths:
        root = next((root for root in roots if root.is_dir() and path.is_relative_to(root)), None)
        name = printable(path.relative_to(root) if root is not None else path.name)
        free, number = name, 2
        while free in names:
            free, number = f"{name} ({number})", number + 1
        names[free] = None
    return list(names)


def judge_photos(
    chosen: Sequence[tuple[Path, str]],
    preprocessing: Preprocessing,
    judge: Judge,
    judge_identity: str,
    workspace: Path,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> Chosen:
    """Read every photo once, and ask the judge for its best classes.

    What was found is kept in the workspace, and taken from there where files and judge are the
    same.

    Args:
        chosen: files with their names.
        preprocessing: the classifier's.
        judge: the classifier.
        judge_identity: hash of it.
        workspace: a folder.
        advance: called with the number of photos that were just done.

    Raises:
        InvalidInputError: no photo can be read, or the classifier has one class only.
    """
    key = fingerprint(
        [(_state(path), name) for path, name in chosen], preprocessing.model_dump(), judge_identity
    )
    kept = workspace / f"photos-{key}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        data = json.loads(kept.read_text(encoding="utf-8"))
        return Chosen([Photo(**photo) for photo in data["photos"]], data["skipped"])
    photos: list[Photo] = []
    skipped: list[str] = []
    for start in range(0, len(chosen), judge.batch):
        part = chosen[start : start + judge.batch]
        found, pixels = [], []
        for path, name in part:
            try:
                seen, size = _read(path, preprocessing)
            except UnreadablePhotoError as error:
                skipped.append(str(error))
                continue
            found.append((path, name, size))
            pixels.append(seen)
        if found:
            probability = judge.classify(to_float(np.stack(pixels)))
            if probability.shape[1] < 2:
                message = "The classifier has one class: there is nothing to tell apart."
                raise InvalidInputError(message)
            order = np.argsort(-probability, axis=1, kind="stable")
            for row, (path, name, size) in enumerate(found):
                photos.append(
                    Photo(
                        name=name,
                        path=str(path),
                        sha256=sha256(pixels[row].tobytes()).hexdigest(),
                        width=size[0],
                        height=size[1],
                        class_index=int(order[row, 0]),
                        second_index=int(order[row, 1]),
                        probability=float(probability[row, order[row, 0]]),
                    )
                )
        advance(len(part))
    if not photos:
        message = f"None of the {len(chosen)} photos can be read: {skipped[0]}"
        raise InvalidInputError(message)
    content = {"photos": [asdict(photo) for photo in photos], "skipped": skipped}
    write_text(kept, json.dumps(content))
    return Chosen(photos, skipped)


def load_images(photos: Sequence[Photo], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Read photos as the classifier sees them.

    Returns:
        (B, 3, H, W) RGB in [0, 1].

    Raises:
        InvalidInputError: a photo is not what it was when the evaluation began.
    """
    pixels = []
    for photo in photos:
        seen, _ = _read(Path(photo.path), preprocessing)
        if sha256(seen.tobytes()).hexdigest() != photo.sha256:
            message = f"{photo.name} was changed while it was evaluated. Evaluate again."
            raise InvalidInputError(message)
        pixels.append(seen)
    return to_float(np.stack(pixels))


def _read(path: Path, preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    photo = open_photo(path)
    try:
        return preprocessing.apply(photo), photo.size
    except InvalidInputError as error:
        message = f"{printable(path)}: {error}"
        raise UnreadablePhotoError(message) from error


def _state(path: Path) -> tuple[str, int, int]:
    """Tell one state of a file from another without reading it."""
    try:
        found = path.stat()
    except OSError:
        return printable(path), -1, -1
    return printable(path), found.st_size, found.st_mtime_ns
