"""Photos inside plain tar files, WebDataset shards among them: found without unpacking."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from ptame_deploy.photos import EXTENSIONS

TAR = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class TarPhoto:
    """A photo inside a tar file.

    Attributes:
        name: its name there.
        offset: where its bytes begin.
        size: how many there are.
    """

    name: str
    offset: int
    size: int


def compressed_message(name: str) -> str:
    """Say why a compressed tar file is of no use, and what to do."""
    return (
        f"{name} is compressed: single photos cannot be read from it. Unpack it to a plain "
        ".tar (photos do not get smaller by compressing them once more)."
    )


def photos_in_tar(file: BinaryIO) -> Iterator[TarPhoto]:
    """List the photos of a tar file in its order, by their endings; links and devices are none.

    The file may be read elsewhere between two photos.

    Args:
        file: can be sought in.

    Raises:
        tarfile.TarError: it is no plain tar file, damaged, or cut short; the photos before the
            damage have been given.
        OSError: it cannot be read.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                known = PurePosixPath(member.name).suffix.lower() in EXTENSIONS
                if known and member.isreg() and not member.issparse():
                    yield TarPhoto(member.name, member.offset_data, member.size)
            end = archive.offset
    except ValueError as error:  # of numbers in a header that are none
        raise tarfile.ReadError(str(error)) from error
    file.seek(end)
    mark = file.read(tarfile.BLOCKSIZE)
    # The reader takes damage for the end, and the photos behind it would be missing unseen.
    if len(mark) < tarfile.BLOCKSIZE or any(mark):
        message = f"damaged or cut short at byte {end:,}"
        raise tarfile.ReadError(message)
