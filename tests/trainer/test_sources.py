import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import UnreadablePhotoError
from trainer.sources import ShardPhoto, find_training_photos, read_photo

pytestmark = pytest.mark.unit


def picture(shade):
    return Image.fromarray(np.full((8, 10, 3), shade, np.uint8))


def encoded(shade):
    file = io.BytesIO()
    picture(shade).save(file, "PNG")
    return file.getvalue()


def write_shard(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def shard(tmp_path):
    members = {f"{n:03}.png": encoded(40 * n) for n in range(5)}
    members |= {f"{n:03}.cls": b"7" for n in range(5)} | {"sub/005.PNG": encoded(200)}
    return write_shard(tmp_path / "a.tar", members)


def test_a_shards_photos_are_found_and_read_alone(shard):
    found = find_training_photos([shard])
    assert [photo.name for photo in found] == [*(f"{n:03}.png" for n in range(5)), "sub/005.PNG"]
    for photo, shade in reversed(list(zip(found, [0, 40, 80, 120, 160, 200], strict=True))):
        assert np.asarray(read_photo(photo)).tolist() == np.asarray(picture(shade)).tolist()
    assert str(found[2]).endswith("a.tar:002.png")


def test_a_folder_may_hold_photos_and_shards(shard, tmp_path):
    assert len(find_training_photos([tmp_path])) == 6
    picture(9).save(tmp_path / "z.png")
    assert len(find_training_photos([tmp_path])) == 7
    assert len(find_training_photos([tmp_path, shard])) == 7  # named twice, listed once


def test_a_list_names_photos_relative_to_itself(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("#1.png", "b c.png"):
        picture(5).save(tmp_path / "photos" / name)
    there = tmp_path / "photos" / "b c.png"
    text = f"photos/#1.png\n\n  photos/gone.png \r\n{there}\n"
    (tmp_path / "list.txt").write_text(text)
    found = find_training_photos([tmp_path / "list.txt"])
    assert found == [tmp_path / "photos/#1.png", tmp_path / "photos/gone.png", there]
    read_photo(found[0])
    with pytest.raises(UnreadablePhotoError, match=r"gone\.png"):
        read_photo(found[1])


def test_a_broken_photo_in_a_shard_is_named(tmp_path):
    shard = write_shard(tmp_path / "b.tar", {"x.jpg": b"no photo", "y.png": encoded(1)[:50]})
    for photo, name in zip(
        find_training_photos([shard]), (r"b\.tar:x\.jpg", r"y\.png"), strict=True
    ):
        with pytest.raises(UnreadablePhotoError, match=name):
            read_photo(photo)


def test_a_shard_that_was_cut_off_after_it_was_listed_is_a_bad_photo(shard):
    photo = find_training_photos([shard])[-1]
    with shard.open("r+b") as file:
        file.truncate(photo.offset + 20)
    with pytest.raises(UnreadablePhotoError, match=r"005\.PNG"):
        read_photo(photo)
    shard.unlink()
    with pytest.raises(UnreadablePhotoError, match=r"005\.PNG"):
        read_photo(photo)


@pytest.mark.parametrize("damage", ["cut between photos", "cut in a header", "a flipped bit"])
def test_a_damaged_shard_is_refused_not_cut_short_unseen(shard, damage):
    *_, before, last = find_training_photos([shard])
    header = before.offset + 512 * -(-before.size // 512)  # of the file after this photo
    assert header < last.offset
    with shard.open("r+b") as file:
        if damage == "a flipped bit":
            file.seek(header + 3)
            file.write(b"\xff")
        else:
            file.truncate(header + (0 if damage == "cut between photos" else 100))
    with pytest.raises(InvalidInputError, match="damaged or cut short at byte"):
        find_training_photos([shard])


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.png\nb.png\n")
    assert find_training_photos([tmp_path / "list.txt"]) == [tmp_path / "a.png", tmp_path / "b.png"]


def test_links_and_devices_in_a_shard_are_no_photos(tmp_path):
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/passwd"
            archive.addfile(info)
    with pytest.raises(InvalidInputError, match="No photo found"):
        find_training_photos([tmp_path / "c.tar"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tar.gz", b"x", "is compressed"),
        ("a.tar", b"no tar file" * 100, "cannot be read as a plain tar file"),
        ("a.txt", b"\xff\xfe\x00\x80", "one path a line in UTF-8"),
        ("a.txt", b"\n \n", "No photo found"),
    ],
)
def test_what_cannot_be_a_source_is_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=says):
        find_training_photos([tmp_path / name])


def test_a_path_that_does_not_exist_is_named(tmp_path):
    for name in ("no.tar", "no.txt", "no.png"):
        with pytest.raises(InvalidInputError, match=f"{name} does not exist"):
            find_training_photos([tmp_path / name])


def test_a_shards_photo_is_a_value(shard):
    first, *_ = find_training_photos([shard])
    assert first == ShardPhoto(first.shard, first.name, first.offset, first.size)
    assert len({first, *find_training_photos([shard])}) == 6
