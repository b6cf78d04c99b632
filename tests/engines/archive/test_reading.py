import pytest
from archive_inputs import parquet_of, tar_of

pytest.importorskip("pyarrow", reason="extra: archive")

from engines.archive.locations import find_entries
from engines.archive.reading import photos_of
from engines.archive.shards import Shard, fingerprint, plan_shards
from ptame_deploy.photos import UnreadablePhotoError

pytestmark = pytest.mark.unit


def test_a_file_that_vanishes_is_a_bad_photo_and_a_disk_that_does_is_not(photos):
    urls = tuple(str(photos / name) for name in ("00.png", "01.png"))
    (photos / "00.png").unlink()
    first, second = photos_of(Shard(0, "photos", urls))
    assert second.open().size == (90, 80)
    with pytest.raises(UnreadablePhotoError, match=r"00\.png"):
        first.open()
    (photos / "01.png").unlink()
    with pytest.raises(FileNotFoundError, match="none of its photos is on this machine"):
        list(photos_of(Shard(0, "photos", urls)))


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_shards_are_all_photos_once_in_order(photos, tmp_path, size):
    tar_of(tmp_path / "a.tar", photos)
    parquet_of(tmp_path / "b.parquet", photos, rows=2)
    names = ("photos", "a.tar", "b.parquet")
    entries = find_entries([str(tmp_path / name) for name in names])
    shards = plan_shards(entries, size=size)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    items = [list(photos_of(shard)) for shard in shards]
    assert [len(some) for some in items] == [shard.photos for shard in shards]
    assert max(map(len, items)) <= max(size, 2)  # a group of rows stays whole
    keys = [(item.photo, item.key) for some in items for item in some]
    files = sorted(path.name for path in photos.iterdir())
    assert keys[:10] == [(str(photos / name), None) for name in files]
    assert keys[10:20] == [(str(tmp_path / "a.tar"), name) for name in files]
    assert keys[20:] == [(str(tmp_path / "b.parquet"), str(row)) for row in range(10)]
    assert plan_shards(find_entries([str(tmp_path / name) for name in names]), size=size) == shards


def test_the_fingerprint_changes_with_names_sizes_and_times(photos):
    seen = {fingerprint(find_entries([str(photos)]))}
    assert fingerprint(find_entries([str(photos), str(photos / "00.png")])) in seen
    (photos / "00.png").rename(photos / "0.png")
    seen.add(fingerprint(find_entries([str(photos)])))
    (photos / "0.png").write_bytes((photos / "01.png").read_bytes())
    seen.add(fingerprint(find_entries([str(photos)])))
    (photos / "0.png").touch()
    seen.add(fingerprint(find_entries([str(photos)])))
    assert len(seen) == 4
