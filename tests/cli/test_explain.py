import csv
import json

import numpy as np
import pytest
from PIL import Image

from ptame_deploy.cli import run

pytestmark = pytest.mark.integration


def table(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_pictures_maps_and_tables(tiny_artifact, photo_folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["explain", str(tiny_artifact), str(photo_folder), "-o", str(out), "--save-maps"]
    assert run([*arguments, "--batch-size", "2"]) == 0
    said = capsys.readouterr()
    assert "Explained 3 of 3 photos" in said.out
    assert "RANDOM" in said.err
    rows = table(out)
    assert len(rows) == 6
    assert [row["rank"] for row in rows] == ["0", "1"] * 3
    document = json.loads((out / "results.json").read_text())
    assert document["skipped"] == []
    assert document["results"][0]["photo"].endswith("a.png")
    assert any("RANDOM" in caution for caution in document["cautions"])
    for row, as_json in zip(rows, document["results"], strict=True):
        assert float(row["probability"]) == as_json["probability"]
        saved = np.load(out / row["map"])
        assert saved.shape == (2, 16, 16)
        assert saved.dtype == np.float32
        with Image.open(out / row["overlay"]) as picture:
            assert picture.width > picture.height
    assert sorted(p.suffix for p in out.iterdir()) == [
        ".csv",
        ".json",
        *[".npy"] * 3,
        *[".png"] * 3,
    ]


def test_saved_maps_are_the_apis(tiny_artifact, photo_folder, tmp_path):
    from ptame_deploy import Explainer

    assert (
        run(["explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path), "--save-maps"])
        == 0
    )
    expected = Explainer.load(tiny_artifact)(photo_folder / "c.png")
    np.testing.assert_allclose(np.load(tmp_path / "c.npy"), expected.saliency[0], atol=1e-4)


def test_bad_files_are_named_and_the_rest_is_done(tiny_artifact, photo_folder, tmp_path, capsys):
    (photo_folder / "text.jpg").write_text("no photo")
    cut = (photo_folder / "c.png").read_bytes()
    (photo_folder / "cut.png").write_bytes(cut[: len(cut) // 2])
    Image.new("L", (1, 2_000_000)).save(photo_folder / "strip.png")
    out = tmp_path / "out"
    assert run(["explain", str(tiny_artifact), str(photo_folder), "-o", str(out)]) == 2
    said = capsys.readouterr()
    assert "Explained 3 of 6 photos" in said.out
    assert "3 of 6 files were skipped" in said.err
    assert "strip.png: a photo of 1x2000000 is too long and narrow" in said.err
    assert "text.jpg: not an image" in said.err
    assert "cut.png: cannot be decoded" in said.err
    assert len(table(out)) == 6
    assert len(json.loads((out / "results.json").read_text())["skipped"]) == 3
    assert not (out / "text.png").exists()


def test_nothing_but_bad_files(tiny_artifact, tmp_path):
    (tmp_path / "text.jpg").write_text("no photo")
    assert run(["explain", str(tiny_artifact), str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert table(tmp_path / "out") == []


def test_a_loop_of_links_is_one_bad_file(tiny_artifact, photo_folder, tmp_path, capsys):
    (photo_folder / "loop.jpg").symlink_to(photo_folder / "loop.jpg")
    assert run(["explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "o")]) == 2
    assert "Explained 3 of 4 photos" in capsys.readouterr().out


def test_names_that_collide_are_kept_apart(tiny_artifact, photo_folder, tmp_path):
    (photo_folder / "sub").mkdir()
    for name in ("sub/a.png", "a.jpg", "A.png"):
        Image.open(photo_folder / "c.png").convert("RGB").save(photo_folder / name)
    assert run(["explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "out")]) == 0
    overlays = {row["overlay"] for row in table(tmp_path / "out")}
    assert len({name.casefold() for name in overlays}) == 6


def test_photos_are_never_overwritten(tiny_artifact, photo_folder, capsys):
    before = {path: path.read_bytes() for path in photo_folder.iterdir()}
    assert run(["explain", str(tiny_artifact), str(photo_folder), "-o", str(photo_folder)]) == 2
    assert "would be replaced" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in photo_folder.iterdir()} == before


def test_chosen_classes(tiny_classes_artifact, photo_folder, tmp_path):
    model, photos = str(tiny_classes_artifact), str(photo_folder)
    assert run(["explain", model, photos, "-o", str(tmp_path), "-c", "3", "-c", "9"]) == 0
    assert [row["class_index"] for row in table(tmp_path)] == ["3", "9"] * 3


@pytest.mark.parametrize("classes", [[], ["-c", "10"], ["-c", "-1"], ["-c", "cat"]])
def test_classes_that_do_not_exist(tiny_classes_artifact, photo_folder, tmp_path, classes):
    model, photos, out = str(tiny_classes_artifact), str(photo_folder), tmp_path / "out"
    assert run(["explain", model, photos, "-o", str(out), *classes]) == 2
    assert not out.exists()


def test_classes_where_the_graph_takes_none(tiny_artifact, photo_folder, tmp_path):
    arguments = ["explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "o")]
    assert run([*arguments, "-c", "1"]) == 2


def test_bad_arguments(tiny_artifact, photo_folder, tmp_path):
    model, photos, out = str(tiny_artifact), str(photo_folder), str(tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    taken = tmp_path / "taken"
    taken.write_text("")
    assert run(["explain", str(tmp_path / "none"), photos, "-o", out]) == 2
    assert run(["explain", str(empty), photos, "-o", out]) == 2
    assert run(["explain", model, str(empty), "-o", out]) == 2
    assert run(["explain", model, str(tmp_path / "none.jpg"), "-o", out]) == 2
    assert run(["explain", model, photos, "-o", out, "--colormap", "rainbow"]) == 2
    assert run(["explain", model, photos, "-o", out, "--opacity", "2"]) == 2
    assert run(["explain", model, photos, "-o", out, "--batch-size", "0"]) == 2
    assert run(["explain", model, photos, "-o", str(taken / "out")]) == 2


def test_corrupt_artifact_is_4(tiny_artifact, photo_folder, tmp_path, capsys):
    import shutil

    shutil.copytree(tiny_artifact, tmp_path / "m")
    data = (tmp_path / "m" / "model.onnx").read_bytes()
    (tmp_path / "m" / "model.onnx").write_bytes(data[:-9])
    assert run(["explain", str(tmp_path / "m"), str(photo_folder), "-o", str(tmp_path / "o")]) == 4
    assert "cut short" in capsys.readouterr().err


def test_class_names_are_found_and_printed(export_own, photo_folder, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"Ding {i}" for i in range(10)))
    assert export_own(tmp_path / "m", "--classes", "input", "--class-names", str(names)) == 0
    arguments = ["explain", str(tmp_path / "m"), str(photo_folder), "-o", str(tmp_path / "o")]
    assert run([*arguments, "-c", "Ding 4"]) == 0
    assert {row["class_name"] for row in table(tmp_path / "o")} == {"Ding 4"}
    capsys.readouterr()
    assert run([*arguments, "-c", "Ding 44"]) == 2
    assert "Did you mean Ding 4" in capsys.readouterr().err


def test_long_file_names_keep_apart(tiny_artifact, photo_folder, tmp_path):
    photo = (photo_folder / "a.png").read_bytes()
    for end in "12":
        (photo_folder / ("ü" * 124 + end + ".png")).write_bytes(photo)
    arguments = ["explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "out")]
    assert run([*arguments, "--save-maps"]) == 0
    rows = table(tmp_path / "out")
    assert len({row["overlay"] for row in rows}) == 5
    assert all((tmp_path / "out" / row["overlay"]).is_file() for row in rows)


def test_numbers_of_classes_that_no_integer_holds(tiny_classes_artifact, photo_folder, tmp_path):
    arguments = [
        "explain",
        str(tiny_classes_artifact),
        str(photo_folder),
        "-o",
        str(tmp_path / "o"),
    ]
    assert run([*arguments, "-c", "9" * 5000]) == 2


def test_another_graphs_maps_stand_beside(
    tiny_artifact, tiny_classes_artifact, photo_folder, tmp_path, capsys
):
    words = ["explain", str(tiny_artifact), str(photo_folder), "-o"]
    assert run([*words, str(tmp_path / "alone")]) == 0
    assert run([*words, str(tmp_path / "both"), "--beside", str(tiny_classes_artifact)]) == 0
    assert table(tmp_path / "both") == table(tmp_path / "alone")
    with Image.open(tmp_path / "alone/a.png") as alone, Image.open(tmp_path / "both/a.png") as both:
        panel = (both.width - alone.width) // 2  # one more for each of the two classes
        assert panel > 300
        assert both.height > alone.height  # cautions of both
        assert both.crop((0, 40, panel, 300)).tobytes() == alone.crop((0, 40, panel, 300)).tobytes()
        first, second = (
            np.asarray(both.crop((left, 40, left + panel - 14, 300)))
            for left in (14 + panel, 14 + 2 * panel)
        )
    # Both explain the same class by the same explainer.
    assert np.abs(first.astype(int) - second).max() <= 3


def test_a_graph_of_another_classifier_cannot_stand_beside(
    tiny_artifact, export_own, photo_folder, tmp_path, capsys
):
    other = tmp_path / "other"
    assert export_own(other, "--mean", "0.1,0.1,0.1") == 0
    words = ["explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "out")]
    assert run([*words, "--beside", str(other)]) == 2
    assert "other cannot stand beside" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.png"))
