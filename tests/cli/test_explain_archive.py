import importlib.util
import subprocess
import sys

import pytest

pytest.importorskip("ray", reason="extra: archive")

from archive_inputs import parquet_of, tar_of

from ptame_deploy import Explainer, read_archive
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration


@pytest.mark.slow  # starts Ray, which wants a free core
def test_a_command_line(tiny_artifact, photo_folder, tmp_path):
    """Folders, tar and Parquet by two workers: all photos, what cannot be read in its column."""
    (photo_folder / "text.jpg").write_text("no photo")
    tar = tar_of(tmp_path / "a.tar", photo_folder)
    table = parquet_of(tmp_path / "b.parquet", photo_folder, rows=2)
    words = ["explain-archive", tiny_artifact, photo_folder, tar, table, "-o", tmp_path / "out"]
    words += ["--workers", "2", "--threads", "1", "--shard-size", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "ptame_deploy", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Explained 9 of 12 photos: 6 Parquet files in" in done.stdout
    assert "3 of 12 photos could not be explained" in done.stderr
    assert "RANDOM" in done.stderr
    assert "Workers: 2, threads of each: 1" in done.stderr
    assert "Traceback" not in done.stderr
    explainer = Explainer.load(tiny_artifact, threads=1)
    rows = list(read_archive(tmp_path / "out"))
    names = ["a.png", "b.jpg", "c.png", "text.jpg"]
    keys = [None] * 4 + names + ["0", "1", "2", "3"]
    assert [row.key for row in rows] == keys
    for number, row in enumerate(rows):
        name = names[number % 4]
        assert (row.error is None) == (name != "text.jpg")
        if row.error is None:
            expected = explainer(photo_folder / name).class_index[0].tolist()
            assert row.class_index == expected


def test_bad_arguments(tiny_artifact, tiny_classes_artifact, photo_folder, tmp_path, capsys):
    model, photos, out = str(tiny_artifact), str(photo_folder), str(tmp_path / "out")
    assert run(["explain-archive", str(tmp_path / "none"), photos, "-o", out]) == 2
    assert run(["explain-archive", model, str(tmp_path / "none"), "-o", out]) == 2
    assert run(["explain-archive", model, photos, "-o", out, "-c", "1"]) == 2
    assert run(["explain-archive", str(tiny_classes_artifact), photos, "-o", out]) == 2
    assert run(["explain-archive", model, photos, "-o", out, "--shard-size", "0"]) == 2
    assert run(["explain-archive", model, photos, "-o", out, "--map-dtype", "int4"]) == 2
    assert run(["explain-archive", model, photos, "-o", photos]) == 2
    assert "would be taken for photos" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_missing_names_the_extra(
    tiny_artifact, photo_folder, tmp_path, monkeypatch, capsys
):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "engines.archive.requirements.find_spec",
        lambda name: None if name == "ray" else real(name),
    )
    words = ["explain-archive", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "out")]
    assert run(words) == 3
    assert 'pip install "ptame-deploy[archive]"' in capsys.readouterr().err


def test_help_loads_neither_ray_nor_arrow():
    code = (
        "import sys; from ptame_deploy.cli import run; run(['explain-archive', '--help']); "
        "print(sorted({'ray', 'pyarrow', 'fsspec', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
