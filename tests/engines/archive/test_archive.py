"""Archives made in this process, without Ray: what is read, written, gone on with, refused."""

import json
import shutil

import numpy as np
import pytest
from archive_inputs import parquet_of, tar_of

pytest.importorskip("pyarrow", reason="extra: archive")
pytest.importorskip("fsspec", reason="extra: archive")

from ptame_deploy import Explainer, read_archive
from ptame_deploy.errors import (
    ArtifactError,
    CheckFailedError,
    InvalidInputError,
    MissingRequirementError,
)
from ptame_deploy.photos import decode_photo

pytestmark = pytest.mark.integration

NAMES = [*(f"0{n}.png" for n in range(4)), "03a.jpg", "04.png", "05.png", "06.png", "07.png",
         "07a.png"]  # fmt: skip
BAD = {"03a.jpg", "07a.png"}


def assert_is_the_explainers(rows, names, explainer, folder, atol=1e-3):
    """Every photo once, in order, with the answers of `Explainer`; the bad ones with a reason."""
    assert len(rows) == len(names)
    for row, name in zip(rows, names, strict=True):
        if name in BAD:
            assert row.error
            assert row.class_index is row.probability is row.saliency is None
            continue
        assert row.error is None
        expected = explainer(folder / name)
        assert row.class_index == expected.class_index[0].tolist()
        assert row.class_name == [expected.label(0, rank) for rank in range(2)]
        np.testing.assert_allclose(row.probability, expected.probability[0], atol=1e-5)
        np.testing.assert_allclose(row.saliency, expected.saliency[0], atol=atol)


@pytest.fixture(scope="module")
def explainer(tiny_artifact):
    return Explainer.load(tiny_artifact, threads=1)


def test_a_folder(make_archive, photos, tmp_path, explainer):
    summary = make_archive([photos], tmp_path / "out")
    assert (summary.photos, summary.bad, summary.done) == (10, 2, 10)
    assert "not an image" in summary.named[0]
    rows = list(read_archive(tmp_path / "out"))
    assert [row.photo for row in rows] == [str(photos / name) for name in NAMES]
    assert {row.key for row in rows} == {None}
    assert_is_the_explainers(rows, NAMES, explainer, photos)
    kept = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert kept == [".ptame-lock", "_archive.json", *(f"part-00000{n}.parquet" for n in range(3))]


def test_maps_of_a_byte_and_no_maps(make_archive, photos, tmp_path, explainer):
    make_archive([photos], tmp_path / "bytes", changed={"map_dtype": "uint8"})
    rows = list(read_archive(tmp_path / "bytes"))
    assert_is_the_explainers(rows, NAMES, explainer, photos, atol=0.5 / 255 + 1e-5)
    make_archive([photos], tmp_path / "none", changed={"map_dtype": None})
    assert [row.class_index for row in read_archive(tmp_path / "none")] == [
        row.class_index for row in rows
    ]
    assert all(row.saliency is None for row in read_archive(tmp_path / "none"))


def test_the_snippet_of_the_readme(make_archive, photos, tmp_path):
    from pyarrow import parquet

    make_archive([photos], tmp_path / "out", changed={"map_dtype": "uint8"})
    row = parquet.read_table(tmp_path / "out").to_pylist()[0]
    maps = np.frombuffer(row["map"], row["map_dtype"]).reshape(row["map_shape"])
    first = next(read_archive(tmp_path / "out"))
    np.testing.assert_array_equal(maps / np.float32(255), first.saliency)


def test_tar_files(make_archive, photos, tmp_path, explainer):
    tar = tar_of(tmp_path / "shard-0.tar", photos)
    make_archive([tar], tmp_path / "out")
    rows = list(read_archive(tmp_path / "out"))
    assert [row.key for row in rows] == NAMES  # and no .cls
    assert {row.photo for row in rows} == {str(tar)}
    assert_is_the_explainers(rows, NAMES, explainer, photos)
    assert len(list((tmp_path / "out").glob("part-*"))) == 3


@pytest.mark.parametrize("hugging_face", [False, True])
def test_parquet_files(make_archive, photos, tmp_path, explainer, hugging_face):
    table = parquet_of(tmp_path / "in.parquet", photos, hugging_face=hugging_face)
    make_archive([table], tmp_path / "rows")
    rows = list(read_archive(tmp_path / "rows"))
    assert [row.key for row in rows] == [str(number) for number in range(10)]
    assert_is_the_explainers(rows, NAMES, explainer, photos)
    make_archive([table], tmp_path / "keys", changed={"key_column": "id"})
    assert [row.key for row in read_archive(tmp_path / "keys")] == NAMES


def test_groups_of_rows_stay_whole(make_archive, photos, tmp_path):
    table = parquet_of(tmp_path / "in.parquet", photos, rows=7)
    make_archive([table], tmp_path / "out")
    from pyarrow.parquet import ParquetFile

    parts = sorted((tmp_path / "out").glob("part-*"))
    assert [ParquetFile(part).metadata.num_rows for part in parts] == [7, 3]


def test_a_folder_of_everything(make_archive, photos, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(photos, mixed / "photos")
    tar_of(mixed / "a.tar", photos)
    parquet_of(mixed / "b.parquet", photos)
    (mixed / "notes.txt").write_text("no photo")
    summary = make_archive([mixed], tmp_path / "out")
    assert (summary.photos, summary.bad) == (30, 6)


def test_urls_of_other_file_systems(make_archive, photos, tmp_path, explainer):
    import fsspec

    memory = fsspec.filesystem("memory")
    tar_of(tmp_path / "a.tar", photos)
    for photo in photos.iterdir():
        memory.pipe(f"/in/photos/{photo.name}", photo.read_bytes())
    memory.pipe("/in/a.tar", (tmp_path / "a.tar").read_bytes())
    try:
        summary = make_archive(["memory://in/photos", "memory://in/*.tar"], "memory://out")
        assert (summary.photos, summary.bad) == (20, 4)
        rows = list(read_archive("memory://out"))
        assert_is_the_explainers(rows[:10], NAMES, explainer, photos)
        assert_is_the_explainers(rows[10:], NAMES, explainer, photos)
        assert rows[0].photo == "memory:///in/photos/00.png"
        assert (rows[10].photo, rows[10].key) == ("memory:///in/a.tar", "00.png")
        assert not [name for name in memory.ls("/out", detail=False) if "ptame" in name]
        assert make_archive(["memory://in/photos", "memory://in/*.tar"], "memory://out").done == 0
    finally:
        memory.rm("/in", recursive=True)
        memory.rm("/out", recursive=True)


def test_a_file_url_is_the_path(make_archive, photos, tmp_path):
    make_archive([f"file://{photos}"], f"file://{tmp_path}/out")
    assert make_archive([photos], tmp_path / "out").done == 0


def test_what_is_done_is_not_done_again(make_archive, photos, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_archive([photos], tmp_path / "out", stop_after=2)
    first = (tmp_path / "out/part-000000.parquet").stat().st_mtime_ns
    with pytest.raises(InvalidInputError, match="1 of the 3 parts"):
        read_archive(tmp_path / "out")
    assert len(list(read_archive(tmp_path / "out", incomplete=True))) == 8
    (tmp_path / "out/.ptame-left.parquet").write_text("of a worker that was killed")
    summary = make_archive([photos], tmp_path / "out")
    assert (summary.done, summary.photos) == (2, 10)
    assert (tmp_path / "out/part-000000.parquet").stat().st_mtime_ns == first
    assert not (tmp_path / "out/.ptame-left.parquet").exists()
    assert make_archive([photos], tmp_path / "out").done == 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"map_dtype": "uint8"}, "map_dtype float16, not uint8"),
        ({"map_dtype": None}, "map_dtype float16, not none"),
        ({"shard_size": 5}, "shard_size 4, not 5"),
    ],
)
def test_other_settings_are_refused(make_archive, photos, tmp_path, changed, says):
    make_archive([photos], tmp_path / "out")
    with pytest.raises(InvalidInputError, match=says):
        make_archive([photos], tmp_path / "out", changed=changed)


def test_another_model_or_other_photos_are_refused(make_archive, photos, tmp_path, export_own):
    make_archive([photos], tmp_path / "out")
    other = tmp_path / "other"
    assert export_own(other, "--top-k", "3") == 0
    with pytest.raises(InvalidInputError, match="another model"):
        make_archive([photos], tmp_path / "out", model=other)
    (photos / "new.png").write_bytes((photos / "00.png").read_bytes())
    with pytest.raises(InvalidInputError, match="other photos"):
        make_archive([photos], tmp_path / "out")
    (photos / "new.png").rename(tmp_path / "away.png")
    (photos / "00.png").write_bytes((photos / "01.png").read_bytes())
    with pytest.raises(InvalidInputError, match="other photos"):
        make_archive([photos], tmp_path / "out")


def test_folders_that_are_not_its_own_are_refused(make_archive, photos, tmp_path):
    for inside in (photos, photos / "out"):
        with pytest.raises(InvalidInputError, match="would be taken for photos"):
            make_archive([photos], inside)
    make_archive([photos], tmp_path / "out")
    (tmp_path / "out/_archive.json").unlink()
    with pytest.raises(InvalidInputError, match=r"no _archive\.json"):
        make_archive([photos], tmp_path / "out")
    with pytest.raises(InvalidInputError, match="not an archive"):
        read_archive(tmp_path / "out")


def test_two_runs_at_once_are_refused(make_archive, photos, tmp_path):
    from engines.archive.folder import ArchiveFolder

    with (
        ArchiveFolder(str(tmp_path / "out")).locked(),
        pytest.raises(InvalidInputError, match="Another ptame explain-archive"),
    ):
        make_archive([photos], tmp_path / "out")


def test_damage_is_found(make_archive, photos, tmp_path):
    make_archive([photos], tmp_path / "out")
    part = tmp_path / "out/part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match=r"part-000001\.parquet is damaged"):
        list(read_archive(tmp_path / "out"))
    with pytest.raises(ArtifactError, match="is damaged"):
        make_archive([photos], tmp_path / "out")
    part.unlink()
    assert make_archive([photos], tmp_path / "out").done == 4
    manifest = tmp_path / "out/_archive.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document | {"schema_version": 2}))
    with pytest.raises(ArtifactError, match="Update ptame-deploy"):
        read_archive(tmp_path / "out")
    manifest.write_text("{")
    with pytest.raises(ArtifactError, match=r"not a valid _archive\.json"):
        read_archive(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tar.gz", b"x", "is compressed"),
        ("a.tar", b"no tar file" * 100, r"a\.tar cannot be read"),
        ("a.parquet", b"PAR1 and no more", r"a\.parquet cannot be read"),
        ("none", None, "does not exist"),
        ("nosuch://a", None, "cannot be opened"),
    ],
)
def test_inputs_that_are_none(make_archive, tmp_path, name, content, says):
    source = name if "://" in name else tmp_path / name
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(InvalidInputError, match=says):
        make_archive([source], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_columns_that_are_none(make_archive, photos, tmp_path):
    table = parquet_of(tmp_path / "in.parquet", photos)
    for changed, says in (
        ({"image_column": "picture"}, "has no column 'picture'"),
        ({"image_column": "id"}, "column 'id' is string"),
        ({"key_column": "name"}, "has no column 'name'"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            make_archive([table], tmp_path / "out", changed=changed)


def test_an_empty_folder(make_archive, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="No photo, tar or Parquet file"):
        make_archive([tmp_path / "empty"], tmp_path / "out")


def test_a_tar_that_is_damaged_elsewhere_says_what_is_missing(make_archive, photos, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    tar = tar_of(tmp_path / "a.tar", photos).read_bytes()
    memory.pipe("/in/cut.tar", tar[: len(tar) // 2])
    try:
        summary = make_archive(["memory://in/cut.tar"], tmp_path / "out")
        rows = list(read_archive(tmp_path / "out"))
        assert 1 < len(rows) < 10
        assert "photos behind that are missing" in rows[-1].error
        assert summary.bad >= 1
    finally:
        memory.rm("/in", recursive=True)


def test_shards_that_cannot_be_read_are_tried_again(make_archive, photos, tmp_path, monkeypatch):
    tar = tar_of(tmp_path / "a.tar", photos)
    opened = type(tar).read_bytes(tar)
    from engines.archive import worker

    real = worker.photos_of

    def gone(shard, key):
        if shard.number == 1:
            message = "the network is down"
            raise OSError(message)
        return real(shard, key)

    monkeypatch.setattr(worker, "photos_of", gone)
    with pytest.raises(CheckFailedError, match="1 of 3 shards could not be done") as caught:
        make_archive([tar], tmp_path / "out")
    assert "shard 1: OSError: the network is down" in str(caught.value)
    monkeypatch.undo()
    assert tar.read_bytes() == opened
    assert make_archive([tar], tmp_path / "out").done == 4


def test_a_full_disk_ends_the_run_and_leaves_nothing_half(
    make_archive, photos, tmp_path, monkeypatch
):
    import errno

    from engines.archive import table

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(table.PartWriter, "add", full)
    with pytest.raises(MissingRequirementError, match="No room left"):
        make_archive([photos], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".ptame-lock",
        "_archive.json",
    ]


def test_a_photo_that_the_graph_answers_with_nan_is_bad_alone(
    make_archive, photos, tmp_path, monkeypatch
):
    poisoned = decode_photo(lambda: (photos / "05.png").open("rb"), "05.png")
    real = Explainer.explain_prepared

    def explain(self, images, asked=None):
        if any(np.array_equal(image, self.prepare(poisoned)) for image in images):
            message = "logits that are NaN"
            raise CheckFailedError(message)
        return real(self, images, asked)

    monkeypatch.setattr(Explainer, "explain_prepared", explain)
    make_archive([photos], tmp_path / "out")
    bad = {row.photo.rsplit("/", 1)[-1]: row.error for row in read_archive(tmp_path / "out")}
    assert [name for name, error in bad.items() if error] == ["03a.jpg", "05.png", "07a.png"]
    assert bad["05.png"] == "logits that are NaN"
