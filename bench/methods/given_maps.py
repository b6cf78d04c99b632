"""Maps that another tool made, read from files, so that they are judged as all others are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from bench.measures.judge import as_uint8
from bench.methods.method import Classes, Images, Maps, Method
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import printable

SUFFIX = ".npy"
MAX_SIDE = 4096  # pixels of a map: larger ones are no maps of a classifier's input
_SHOWN = 5


@dataclass(frozen=True)
class GivenMaps:
    """A folder of maps.

    Attributes:
        label: in tables.
        folder: holds a file for each photo.
    """

    label: str
    folder: Path

    @property
    def name(self) -> str:
        """In files."""
        return f"given-{re.sub('[^a-z0-9]+', '-', self.label.lower()).strip('-')}"


def given_method(given: GivenMaps, names: Mapping[str, str], size: tuple[int, int]) -> Method:
    """Make a method of maps that are there already.

    The map of the photo ``cats/1.jpg`` is ``cats/1.npy`` in the folder, or ``cats/1.jpg.npy`` where
    another photo is called ``cats/1`` too: numbers (h, w) of any resolution and range, larger is
    more important, over all that the classifier sees of the photo (after its crop), for the class
    that the classifier puts first. Of (K, h, w), as ``ptame explain --save-maps`` writes, the first
    map is taken.

    Args:
        given: label and folder.
        names: hash of the pixels that the classifier sees -> name of the photo.
        size: height and width of what the classifier sees.

    Raises:
        InvalidInputError: maps are missing, or cannot be read; with the first few of them.
    """
    files = _files(given, names)
    maps = {pixels: _read(path, size) for pixels, path in files.items()}
    if len({one.shape for one in maps.values()}) > 1:
        message = f"--maps {given.label}: maps of several sizes in {given.folder}."
        raise InvalidInputError(message)
    digest = sha256()
    for pixels in sorted(maps):
        digest.update(f"{pixels} {maps[pixels].shape} ".encode() + maps[pixels].tobytes())

    def explain(images: Images, _class_index: Classes) -> Maps:
        return np.stack([maps[sha256(one.tobytes()).hexdigest()] for one in as_uint8(images)])

    cautions = ["maps from files, taken to be of the class that the classifier puts first"]
    if flat := sum(one.min() == one.max() for one in maps.values()):
        cautions.append(f"{flat} of {len(maps)} maps are the same everywhere")
    return Method(
        name=given.name,
        label=given.label,
        family="given",
        explain=explain,
        cost=None,
        runtime="made elsewhere",
        precision="-",
        identity=digest.hexdigest(),
        cautions=tuple(cautions),
    )


def _files(given: GivenMaps, names: Mapping[str, str]) -> dict[str, Path]:
    """Find the map of each photo."""
    stems = [_stem(name) for name in dict.fromkeys(names.values())]
    found, missing = {}, []
    for pixels, name in names.items():
        candidates = [given.folder / f"{name}{SUFFIX}"]
        if stems.count(_stem(name)) == 1:
            candidates.append(given.folder / f"{_stem(name)}{SUFFIX}")
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            missing.append(str(candidates[-1]))
        else:
            found[pixels] = path
    if missing:
        listed = "".join(f"\n  - {printable(path)}" for path in missing[:_SHOWN])
        message = (
            f"--maps {given.label}: {len(missing)} of {len(names)} photos have no map in "
            f"{given.folder}. Expected, one a photo:{listed}"
        )
        raise InvalidInputError(message)
    return found


def _stem(name: str) -> str:
    return str(PurePath(name).with_suffix(""))


def _read(path: Path, size: tuple[int, int]) -> NDArray[np.float32]:
    """Read one map (h, w); nothing that its header claims is allocated before it is looked at."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's parser of headers lets several kinds out
        message = f"{printable(path)} is no whole array of numbers in NumPy's format (.npy)."
        raise InvalidInputError(message) from error
    found = array[0] if array.ndim == 3 and len(array) else array
    if found.ndim != 2 or not 1 <= min(found.shape) <= max(found.shape) <= MAX_SIDE:
        message = (
            f"{printable(path)} holds {array.shape}, not a map (h, w) of at most {MAX_SIDE} pixels "
            "a side."
        )
        raise InvalidInputError(message)
    (height, width), (seen_height, seen_width) = found.shape, size
    # A map of cells may be one cell off the shape of what it covers.
    if abs(height * seen_width - width * seen_height) > max(seen_height, seen_width):
        message = (
            f"{printable(path)} holds {array.shape}, another shape than the {seen_height} x "
            f"{seen_width} pixels that the classifier sees: a map (h, w) must cover these, after "
            "resize and crop."
        )
        raise InvalidInputError(message)
    if found.dtype.kind not in "fiub":
        message = f"{printable(path)} holds {found.dtype}, not numbers."
        raise InvalidInputError(message)
    with np.errstate(over="ignore"):
        one = np.array(found, np.float32)
    if not np.isfinite(one).all():
        message = f"{printable(path)} holds numbers that are NaN, infinite or over float32."
        raise InvalidInputError(message)
    return one


def parse_given(texts: Sequence[str]) -> list[GivenMaps]:
    """Read ``LABEL=FOLDER``, several times.

    Raises:
        InvalidInputError: no such folder, no label, or one label twice.
    """
    found: list[GivenMaps] = []
    for text in texts:
        label, equals, folder = text.partition("=")
        given = GivenMaps(label.strip(), Path(folder))
        if not equals or not re.search("[A-Za-z0-9]", given.label) or not folder:
            message = (
                f"--maps {text!r}: give LABEL=FOLDER, such as 'Our tool=its-maps', with a letter "
                "from A to Z or a digit in the label."
            )
            raise InvalidInputError(message)
        if not given.folder.is_dir():
            message = f"--maps {given.label}: {given.folder} is no folder."
            raise InvalidInputError(message)
        for other in found:
            if given.name == other.name:
                message = (
                    f"--maps: the labels {other.label!r} and {given.label!r} do not differ in "
                    "letters or digits."
                )
                raise InvalidInputError(message)
        found.append(given)
    return found
