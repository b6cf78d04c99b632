"""Where training photos come from: files, folders, lists of files, and WebDataset shards.

A shard is an uncompressed tar file. Its directory is read once, so that any photo in it can be read
alone: shuffling, splitting by process and going on after a kill are then the same for all sources,
and every photo is seen exactly once an epoch.
"""

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import EXTENSIONS, decode_photo, find_photos, open_photo, printable
from ptame_deploy.tar_photos import COMPRESSED, TAR, compressed_message, photos_in_tar

LISTS = frozenset([".txt", ".lst"])


@dataclass(frozen=True)
class ShardPhoto:
    """A photo inside a shard.

    Attributes:
        shard: the tar file.
        name: the photo's name in it.
        offset: where its bytes begin.
        size: how many there are.
    """

    shard: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}:{self.name}"


Photo = Path | ShardPhoto


def find_training_photos(paths: Iterable[Path]) -> list[Photo]:
    """List the photos that files, folders, lists and shards name; each once, in a fixed order.

    Files of a list that do not exist are found out when they are read, like other bad photos: to
    ask for a million of them beforehand takes minutes.

    Raises:
        InvalidInputError: a path does not exist, a shard or a list cannot be read, or there is no
            photo at all.
    """
    given = list(paths)
    found: dict[Photo, None] = {}
    for path in given:
        found.update(dict.fromkeys(_photos_of(path)))
    if not found:
        message = f"No photo found in {', '.join(map(str, given)) or 'nothing'}."
        raise InvalidInputError(message)
    return list(found)


def read_photo(photo: Photo) -> Image.Image:
    """Decode a photo as 8-bit RGB; see `ptame_deploy.photos.open_photo`.

    Raises:
        UnreadablePhotoError: it cannot be decoded.
    """
    if isinstance(photo, Path):
        return open_photo(photo)
    return decode_photo(lambda: _bytes_of(photo), printable(str(photo)))


def _bytes_of(photo: ShardPhoto) -> BytesIO:
    with photo.shard.open("rb") as file:
        file.seek(photo.offset)
        return BytesIO(file.read(photo.size))


def _photos_of(path: Path) -> Iterator[Photo]:
    if path.is_dir():
        shards = sorted(shard for shard in path.rglob(f"*{TAR}") if shard.is_file())
        for shard in shards:
            yield from _photos_of_shard(shard)
        if not shards or any(file.suffix.lower() in EXTENSIONS for file in path.rglob("*")):
            yield from find_photos([path])
    elif path.name.lower().endswith(COMPRESSED):
        raise InvalidInputError(compressed_message(str(path)))
    elif path.suffix.lower() == TAR and path.is_file():
        yield from _photos_of_shard(path)
    elif path.suffix.lower() in LISTS and path.is_file():
        yield from _photos_of_list(path)
    else:
        yield from find_photos([path])


def _photos_of_shard(shard: Path) -> Iterator[ShardPhoto]:
    try:
        with shard.open("rb") as file:
            for photo in photos_in_tar(file):
                yield ShardPhoto(shard, photo.name, photo.offset, photo.size)
    except (tarfile.TarError, OSError) as error:
        message = f"{shard} cannot be read as a plain tar file ({error})."
        raise InvalidInputError(message) from error


def _photos_of_list(path: Path) -> Iterator[Path]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read as a list of photos, one path a line in UTF-8 ({error})."
        raise InvalidInputError(message) from error
    for line in lines:
        if line.strip():
            yield path.parent / line.strip()  # an absolute path stays as it is
