"""`ptame-run`, built with the address and undefined-behaviour sanitizers, against Python."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ptame_deploy import Explainer
from ptame_deploy.cli import run
from ptame_deploy.storage import sha256_of_file

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of every kind that both sides read, of sizes that divide by nothing."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)

    def smooth(width, height, channels=3):
        shape = (7, 9) if channels == 1 else (7, 9, channels)
        coarse = generator.integers(0, 255, shape, dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    smooth(333, 217).save(folder / "rgb.png")
    smooth(217, 333).save(folder / "tall.jpg", quality=88)
    smooth(500, 401).save(folder / "subsampled.jpg", quality=60, subsampling=2, progressive=True)
    smooth(133, 97, 1).save(folder / "grey.jpg")
    smooth(90, 131, 1).save(folder / "grey.png")
    smooth(100, 90).quantize(17).save(folder / "palette.png")
    smooth(41, 37).save(folder / "small.png")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        smooth(150, 101).save(folder / f"exif{orientation}.jpg", exif=exif)
    return folder


def explained(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_equal(built, artifact, photos, tmp_path, *options, classes=None):
    paths = sorted(photos.iterdir())
    told = explained(built.run(artifact, *paths, "--maps", tmp_path / "maps", *options))
    expected = Explainer.load(artifact)
    for path, one in zip(paths, told, strict=True):
        found = expected(path, classes)
        assert one["photo"] == str(path)
        for rank, result in enumerate(one["results"]):
            assert result["class_index"] == found.class_index[0, rank], path.name
            assert result["class_name"] == found.label(0, rank)
            assert result["probability"] == pytest.approx(found.probability[0, rank], abs=1e-4)
        maps = np.load(tmp_path / "maps" / f"{path.stem}.npy")
        np.testing.assert_allclose(maps, found.saliency[0], atol=1e-4, err_msg=path.name)


def test_answers_are_pythons(built, tiny_artifact, photos, tmp_path):
    paths = tmp_path / "photos"
    paths.mkdir()
    for number, path in enumerate(sorted(photos.iterdir())):  # stems name the maps
        shutil.copy(path, paths / f"{number:02}{path.suffix}")
    assert_equal(built, tiny_artifact, paths, tmp_path, "--batch", "4")


def test_multi_label_probabilities_are_each_for_itself(built, export_own, photos, tmp_path):
    model, some = tmp_path / "model", tmp_path / "some"
    assert export_own(model, "--head", "sigmoid", "--top-k", "10") == 0
    some.mkdir()
    shutil.copy(photos / "rgb.png", some)
    assert_equal(built, model, some, tmp_path)
    assert Explainer.load(model)(some / "rgb.png").probability.sum() > 1.5


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", ["50", "200"])
def test_every_interpolation_up_and_down(built, export_own, photos, tmp_path, interpolation, size):
    """50 is smaller than the crop, whose border is black then."""
    model, some = tmp_path / "model", tmp_path / "some"
    assert export_own(model, "--interpolation", interpolation, "--resize", size) == 0
    some.mkdir()
    for name in ("rgb.png", "tall.jpg", "small.png"):
        shutil.copy(photos / name, some)
    assert_equal(built, model, some, tmp_path)


def test_classes_are_taken_and_uint8(built, tiny_classes_artifact, photos, tmp_path):
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(photos / "rgb.png", some)
    options = ("--class", "7", "--class", "0")
    assert_equal(built, tiny_classes_artifact, some, tmp_path, *options, classes=[7, 0])
    photo = photos / "rgb.png"
    for options, says in (
        ((), "say which classes"),
        (("--class", "10"), "Class 10 does not exist"),
        (("--class", "-1"), "Class -1 does not exist"),
        (("--class", "cat"), "takes a whole number"),
    ):
        done = built.run(tiny_classes_artifact, photo, *options)
        assert done.returncode == 2
        assert says in done.stderr


def test_cautions_are_told(built, tiny_artifact, photos):
    done = built.run(tiny_artifact, photos / "rgb.png")
    cautions = Explainer.load(tiny_artifact).manifest.cautions
    assert len(cautions) > 2
    for caution in cautions:
        assert f"Warning: {caution}\n" in done.stderr


def test_bad_photos_are_named_and_the_others_done(built, tiny_artifact, photos, tmp_path):
    whole = (photos / "tall.jpg").read_bytes()
    png = (photos / "rgb.png").read_bytes()
    bad = {
        "text.jpg": b"no photo", "empty.png": b"", "cut.jpg": whole[: len(whole) // 2],
        "cut.png": png[: len(png) // 2], "head.jpg": whole[:4], "head.png": png[:9],
        "size.png": png[:16] + b"\x7f\xff\xff\xff\x7f\xff\xff\xff" + png[24:],
        "noise.jpg": whole[:200] + bytes(range(256)) * 8,
    }  # fmt: skip
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    Image.new("CMYK", (40, 40)).save(tmp_path / "cmyk.jpg")
    paths = [tmp_path / name for name in (*bad, "cmyk.jpg", "missing.jpg")]
    done = built.run(tiny_artifact, *paths, photos / "rgb.png")
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    for path in paths:
        assert f"Skipped: {path}" in done.stderr, path


def test_photos_with_flipped_bytes_never_crash(built, tiny_artifact, photos, tmp_path):
    generator = np.random.default_rng(0)
    paths = []
    for name in ("tall.jpg", "exif6.jpg", "palette.png"):
        content = np.frombuffer((photos / name).read_bytes(), np.uint8)
        for number in range(25):
            broken = content.copy()
            where = generator.integers(0, min(len(broken), 700), 4)
            broken[where] ^= generator.integers(1, 256, 4).astype(np.uint8)
            path = tmp_path / f"{number}-{name}"
            path.write_bytes(broken.tobytes())
            paths.append(path)
    assert built.run(tiny_artifact, *paths).returncode in (0, 2)


def damaged(artifact, folder, change):
    shutil.copytree(artifact, folder)
    change(folder)
    return folder


def edit(**changes):
    def change(folder):
        path = folder / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda f: (f / "model.json").unlink(), 2, "holds no model.json"),
        (lambda f: (f / "model.json").write_text("{"), 4, "cannot be read as JSON"),
        (lambda f: (f / "model.json").write_text("[" * 100_000), 4, "cannot be read as JSON"),
        (lambda f: (f / "model.json").write_text("[]"), 4, "not a valid manifest"),
        (lambda f: (f / "model.onnx").unlink(), 4, "is missing"),
        (lambda f: (f / "model.onnx").write_bytes(b"cut"), 4, "cut short or replaced"),
        (edit(schema_version=2), 4, "newer ptame-deploy"),
        (edit(kind="engine"), 4, "does not describe a fused graph"),
        (edit(files={}), 4, "does not name model.onnx"),
        (edit(inputs=[]), 4, "not those of a graph that makes maps"),
        (edit(map_size=[1]), 4, "not a valid manifest"),
        (edit(map_size=["a", "b"]), 4, "not a valid manifest"),
        (edit(top_k=7), 4, "other sizes than its manifest says"),
        (edit(map_size=[15, 16]), 4, "other sizes than its manifest says"),
        (edit(classifier=None), 4, "not a valid manifest"),
        (edit(preprocessing={"input_size": [0, 4], "resize": 3, "interpolation": "bilinear"}), 4,
         "prepares photos to a size of 0"),
        (edit(preprocessing={"input_size": [4, 4], "resize": 3, "interpolation": "magic"}), 4,
         "unknown interpolation"),
    ],
)  # fmt: skip
def test_damaged_artifacts_are_refused(built, tiny_artifact, photos, tmp_path, change, code, says):
    model = damaged(tiny_artifact, tmp_path / "model", change)
    done = built.run(model, photos / "rgb.png")
    assert done.returncode == code, done.stderr
    assert says in done.stderr


def test_a_changed_graph_is_found_by_its_hash(built, tiny_artifact, photos, tmp_path):
    def flip(folder):
        content = bytearray((folder / "model.onnx").read_bytes())
        content[-5] ^= 1
        (folder / "model.onnx").write_bytes(content)

    done = built.run(damaged(tiny_artifact, tmp_path / "model", flip), photos / "rgb.png")
    assert done.returncode == 4
    assert "SHA-256 differs" in done.stderr


def test_files_outside_the_folder_are_refused(built, tiny_artifact, photos, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    record = {"bytes": 1, "sha256": sha256_of_file(secret)}
    files = json.loads((tiny_artifact / "model.json").read_text())["files"]
    change = edit(files={**files, "../secret": record})
    done = built.run(damaged(tiny_artifact, tmp_path / "model", change), photos / "rgb.png")
    assert done.returncode == 4
    assert "outside its folder" in done.stderr


def test_a_graph_that_is_none_is_refused(built, tiny_artifact, photos, tmp_path):
    def replace(folder):
        graph = folder / "model.onnx"
        graph.write_bytes(b"no graph at all")
        record = {"bytes": 15, "sha256": sha256_of_file(graph)}
        edit(files={"model.onnx": record})(folder)

    done = built.run(damaged(tiny_artifact, tmp_path / "model", replace), photos / "rgb.png")
    assert done.returncode == 4
    assert "cannot be opened by ONNX Runtime" in done.stderr


@pytest.mark.parametrize(
    "words",
    [(), ("model",), ("model", "photo", "--batch"), ("m", "p", "--batch", "0"),
     ("m", "p", "--what", "1"), ("m", "p", "--threads", "-1"), ("m", "p", "--batch", "1x")],
)  # fmt: skip
def test_bad_usage_is_exit_2(built, words):
    done = built.run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")


def test_help_and_bench(built, tiny_artifact, photos):
    assert "Usage: ptame-run" in built.run("--help").stdout
    done = built.run(tiny_artifact, photos / "rgb.png", "--bench", "3", "--threads", "1")
    told = json.loads(done.stdout)
    assert told["runs"] == 3
    assert told["runtime"].startswith("ONNX Runtime ")


def test_lowered_graphs_run(built, tiny_artifact, photos, tmp_path):
    model = tmp_path / "fp16"
    words = ["quantize", str(tiny_artifact), str(photos), "--precision", "fp16", "--allow-drift"]
    assert run([*words, "-o", str(model)]) == 0
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(photos / "rgb.png", some)
    assert_equal(built, model, some, tmp_path)
