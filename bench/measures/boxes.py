"""Ground-truth boxes of photos: COCO's JSON and Pascal VOC's XML, as ImageNet has it too.

Annotation files come from elsewhere, so nothing in them is trusted.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree as ET  # _xml refuses what makes it unsafe
from xml.parsers import expat

from ptame_deploy.errors import InvalidInputError, reason_of
from ptame_deploy.preprocessing import Preprocessing

MAX_JSON_BYTES = 256 * 2**20  # COCO's validation set has 20 MB; parsing takes some ten times more
MAX_XML_BYTES = 2**20  # of one photo


@dataclass(frozen=True)
class Box:
    """One object in a photo.

    Attributes:
        label: the object's class, by name.
        left: in the photo's own pixels from its left edge; 0 is the edge itself.
        top: from its top edge.
        right: the first coordinate that is no longer in the box.
        bottom: the same.
    """

    label: str
    left: float
    top: float
    right: float
    bottom: float


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Read the boxes of many photos.

    Args:
        path: a COCO-style ``.json`` file, a Pascal VOC ``.xml`` file, or a folder of the latter.

    Returns:
        By the photo's file name without folders, as the annotations write it; ImageNet's leave the
        ending out, see `boxes_of`. A photo without objects has an empty list.

    Raises:
        InvalidInputError: the file cannot be read, is too large or broken, two entries are for the
            same photo, or a box is empty or lies left of or above the photo.
    """
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix.lower() == ".xml")
        if not files:
            message = f"{path} has no .xml files. Give the folder of Pascal VOC annotations."
            raise InvalidInputError(message)
        return _read_voc(files)
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _read_coco(path)
    if suffix == ".xml":
        return _read_voc([path])
    message = (
        f"{path} is neither a COCO .json file, nor a Pascal VOC .xml file, nor a folder of those."
    )
    raise InvalidInputError(message)


def boxes_of(boxes: Mapping[str, list[Box]], photo: str) -> list[Box] | None:
    """Find a photo's boxes, whether the annotations write its name with or without its ending.

    Args:
        boxes: from `read_boxes`.
        photo: the photo's file name.

    Returns:
        None where the annotations do not name the photo.
    """
    name = Path(photo)
    return boxes.get(name.name, boxes.get(name.stem))


def to_input(
    box: Box, photo_size: tuple[int, int], preprocessing: Preprocessing
) -> tuple[float, float, float, float] | None:
    """Map a box into what the classifier sees.

    Args:
        box: in the photo's own pixels.
        photo_size: the photo's width and height.
        preprocessing: the classifier's.

    Returns:
        left, top, right, bottom in pixels of the classifier's input, clipped to it and to the
        photo; None where nothing of the box is left.

    Raises:
        InvalidInputError: a photo that is too long and narrow to be resized.
    """
    width, height = photo_size
    crop_left, crop_top, crop_right, crop_bottom = preprocessing.crop_box(width, height)
    input_height, input_width = preprocessing.input_size
    across, down = input_width / (crop_right - crop_left), input_height / (crop_bottom - crop_top)
    left = (max(box.left, 0.0, crop_left) - crop_left) * across
    right = (min(box.right, width, crop_right) - crop_left) * across
    top = (max(box.top, 0.0, crop_top) - crop_top) * down
    bottom = (min(box.bottom, height, crop_bottom) - crop_top) * down
    return (left, top, right, bottom) if left < right and top < bottom else None


def _read_coco(path: Path) -> dict[str, list[Box]]:
    try:
        content = json.loads(_bytes(path, MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        message = f"{path} is not valid JSON: {error}."
        raise InvalidInputError(message) from error
    if not isinstance(content, dict):
        message = f"{path} is not COCO-style: it must be one JSON object with images and the like."
        raise InvalidInputError(message)
    labels: dict[int, str] = {}
    for where, entry in _entries(path, content, "categories"):
        labels[_id(where, entry, "id")] = _text(where, entry, "name")
    names: dict[int, str] = {}
    found: dict[str, list[Box]] = {}
    for where, entry in _entries(path, content, "images"):
        name = _file_name(where, _text(where, entry, "file_name"))
        number = _id(where, entry, "id")
        if name in found or number in names:
            message = (
                f"{where} repeats the id or the file name of an earlier one: {number}, {name}."
            )
            raise InvalidInputError(message)
        names[number], found[name] = name, []
    for where, entry in _entries(path, content, "annotations"):
        photo, label = _id(where, entry, "image_id"), _id(where, entry, "category_id")
        if photo not in names or label not in labels:
            kind, number = ("image", photo) if photo not in names else ("category", label)
            message = f"{where} belongs to {kind} {number}, which the file does not have."
            raise InvalidInputError(message)
        sides = _get(where, entry, "bbox")
        if not isinstance(sides, list) or len(sides) != 4:
            message = (
                f"{where} needs a bbox of four numbers x, y, width, height; got {sides!r:.80}."
            )
            raise InvalidInputError(message)
        x, y, width, height = (_number(where, side) for side in sides)
        found[names[photo]].append(_box(where, labels[label], (x, y, x + width, y + height)))
    return found


def _entries(path: Path, content: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the objects of one list, each with the words that name it in a message."""
    entries = content.get(key)
    if not isinstance(entries, list):
        message = f"{path} is not COCO-style: it has no list of {key}."
        raise InvalidInputError(message)
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            message = f"{path}: {key}[{index}] must be an object, got {entry!r:.80}."
            raise InvalidInputError(message)
    return [(f"{path}: {key}[{index}]", entry) for index, entry in enumerate(entries)]


def _get(where: str, entry: dict[str, Any], key: str) -> Any:
    if key not in entry:
        message = f"{where} has no {key}."
        raise InvalidInputError(message)
    return entry[key]


def _id(where: str, entry: dict[str, Any], key: str) -> int:
    value = _get(where, entry, key)
    if not isinstance(value, int) or isinstance(value, bool):
        message = f"{where} needs a whole number as {key}, got {value!r:.80}."
        raise InvalidInputError(message)
    return value


def _text(where: str, entry: dict[str, Any], key: str) -> str:
    value = _get(where, entry, key)
    if not isinstance(value, str) or not value.strip():
        message = f"{where} needs a text as {key}, got {value!r:.80}."
        raise InvalidInputError(message)
    return value.strip()


def _read_voc(files: list[Path]) -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = {}
    sources: dict[str, Path] = {}
    for path in files:
        root = _xml(path)
        if root.tag != "annotation":
            message = f"{path} is not Pascal VOC: its root is <{root.tag:.80}>, not <annotation>."
            raise InvalidInputError(message)
        name = _file_name(str(path), (root.findtext("filename") or "").strip() or path.stem)
        if name in found:
            message = f"{path} is for the photo {name}, and so is {sources[name]}."
            raise InvalidInputError(message)
        sources[name] = path
        found[name] = [
            _voc_box(f"{path}: object {number}", entry)
            for number, entry in enumerate(root.findall("object"), start=1)
        ]
    return found


def _voc_box(where: str, entry: ET.Element) -> Box:
    """Read one object. Its first pixel is 1, and its last one belongs to it."""
    label = (entry.findtext("name") or "").strip()
    if not label:
        message = f"{where} has no name."
        raise InvalidInputError(message)
    sides = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = entry.findtext(f"bndbox/{key}")
        if text is None:
            message = f"{where} has no bndbox with {key}."
            raise InvalidInputError(message)
        sides.append(_number(where, text.strip()))
    left, top, right, bottom = sides
    # ImageNet's files have first pixels 0 here and there; the box then starts at the photo's edge.
    left, top = (side - 1 if side >= 1 else min(side, 0.0) for side in (left, top))
    return _box(where, label, (left, top, right, bottom))


def _xml(path: Path) -> ET.Element:
    content = _bytes(path, MAX_XML_BYTES)
    guard = expat.ParserCreate()

    def refuse(*_: object) -> None:
        message = (
            f"{path} has a DOCTYPE, which can grow to any size. Annotations need none: remove it."
        )
        raise InvalidInputError(message)

    guard.StartDoctypeDeclHandler = refuse
    try:
        guard.Parse(content, True)  # noqa: FBT003  # "this is all of it", by position only
        return ET.fromstring(content)  # noqa: S314  # it has no DOCTYPE
    except (expat.ExpatError, ET.ParseError, ValueError, LookupError) as error:
        message = f"{path} is not valid XML: {error}."
        raise InvalidInputError(message) from error


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        message = f"{path} cannot be read: {reason_of(error)}."
        raise InvalidInputError(message) from error
    if len(content) > limit:
        message = (
            f"{path} has more than {limit / 2**20:g} MiB. Keep the annotations of the photos that "
            "you measure."
        )
        raise InvalidInputError(message)
    return content


def _file_name(where: str, name: str) -> str:
    last = PurePosixPath(name.replace("\\", "/")).name
    if not last:
        message = f"{where} has no usable file name: {name!r:.80}."
        raise InvalidInputError(message)
    return last


def _number(where: str, value: object) -> float:
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = float(value)
    if not math.isfinite(number):
        message = f"{where} has a box whose sides are not all numbers: {value!r:.80}."
        raise InvalidInputError(message)
    return number


def _box(where: str, label: str, sides: tuple[float, float, float, float]) -> Box:
    left, top, right, bottom = sides
    if left < 0 or top < 0:
        message = f"{where} has a box that starts outside the photo, at {left:g}, {top:g}."
        raise InvalidInputError(message)
    if right <= left or bottom <= top:
        message = f"{where} has an empty box: {right - left:g} wide, {bottom - top:g} high."
        raise InvalidInputError(message)
    return Box(label, left, top, right, bottom)
