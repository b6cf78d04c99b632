import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from bench.evaluation.results import Evaluation
from bench.methods.registry import NAMES
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration

COUNT, COSTLY = 6, 2
CLASSIFIER = """
import torch
from torch import nn


def build(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )
    nn.init.normal_(net[-1].weight, std=2.0)
    return net


def other():
    return build(seed=1)
"""
NETWORKS = ("--auxiliary", "mobilenet_v3_small", "--auxiliary-size", "64", "--input-size", "64",
            "--resize", "72")  # fmt: skip
# Of a random auxiliary, whose weights --model does not hold.
RANDOM = ("--auxiliary-weights", "random")
SMALL = ("--rise-masks", "250", "--samples", "70", "--steps", "4", "--sanity-photos", "2",
         "--costly-photos", str(COSTLY), "--batch", "4", "--threads", "1")  # fmt: skip
CURVE = ("--rise-curve", str(COSTLY), "--rise-curve-masks", "250")
QUICK = (*SMALL, "--methods", "gaussian", "--measures", "insertion", "--sanity-photos", "0",
         "--no-gallery")  # fmt: skip
FILES = ("results.json", "values.csv", "methods.csv", "table.md", "report.html")


def read(folder):
    return Evaluation.model_validate_json((folder / "results.json").read_text())


def rows(folder):
    with (folder / "values.csv").open() as file:
        return list(csv.DictReader(file))


def numbers(folder):
    """All of results.json that must not depend on when and where it was made."""
    data = json.loads((folder / "results.json").read_text())
    for name in ("provenance", "peak_memory_mb"):
        del data[name]
    for method in data["methods"]:
        del method["time"]
    return data


def refused(arguments, code, capsys):
    """Run what cannot work; return what it says."""
    capsys.readouterr()
    assert run(["evaluate", *map(str, arguments)]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "A bug in ptame" not in said
    _, *found = f"\n{said}".split("\nError: ")
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "net.py"
    path.write_text(CLASSIFIER)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), COUNT)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """Four of six photos have a box, of whatever class is explained."""
    content = {
        "images": [{"id": i, "file_name": f"{i:02}.png"} for i in range(4)],
        "categories": [{"id": i + 1, "name": str(i)} for i in range(10)],
        "annotations": [
            {"id": 10 * i + c, "image_id": i, "category_id": c + 1, "bbox": [20, 20, 30, 25]}
            for i in range(4)
            for c in range(10)
        ],
    }
    path = tmp_path_factory.mktemp("boxes") / "coco.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def command(classifier, photos, boxes):
    """The whole comparison from the classifier's source, but for the folder."""
    return ["evaluate", "--backbone", f"{classifier}:build", *NETWORKS, *RANDOM, *SMALL, *CURVE,
            "--images", str(photos), "--boxes", str(boxes)]  # fmt: skip


@pytest.fixture(scope="module")
def done(command, tmp_path_factory):
    """The folder of a whole comparison."""
    folder = tmp_path_factory.mktemp("evaluation") / "deep" / "out"
    assert run([*command, "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def evaluation(done):
    return read(done)


@pytest.fixture(scope="module")
def model(done):
    """The graph that was exported on the way: an artifact like any other."""
    (folder,) = (done / "work" / "graphs").glob("exported-*")
    return folder


def with_graphs(done, folder):
    """Begin a folder with the exported graphs alone, which spares every run its export."""
    shutil.copytree(done / "work" / "graphs", folder / "work" / "graphs")
    return folder


def test_every_method_is_a_row_measured_or_with_a_reason(evaluation):
    names = {method.name for method in evaluation.methods}
    assert set(NAMES) | {"p-tame-pytorch"} <= names
    for method in evaluation.methods:
        assert method.status == "measured" or method.reason, method
        if method.status == "measured":
            costly = method.cost.passes > 64
            assert method.photos == (COSTLY if costly else COUNT)
            assert (method.reason is not None) == costly
            assert method.time.median_ms > 0
            assert method.runtime
            assert method.sanity is not None
    assert {m.name for m in evaluation.methods if m.status == "measured"} >= set(NAMES)


def test_the_files_are_there(done, evaluation):
    for name in FILES:
        assert (done / name).stat().st_size > 0
    assert len(evaluation.gallery) == COUNT
    for entry in evaluation.gallery:
        for name in (entry.picture, *entry.overlays.values()):
            with Image.open(done / name) as picture:
                assert picture.size[1] == 168
        assert {"p-tame", "grad-cam", "gaussian"} <= set(entry.overlays)
    assert [entry.choice for entry in evaluation.gallery] == (
        ["best"] * 2 + ["worst"] * 2 + ["random"] * 2
    )
    assert not list(done.rglob(".ptame-*"))
    text = (done / "report.html").read_text()
    for method in evaluation.methods:
        assert method.label in text or method.label.replace("&", "&amp;") in text
    assert len((done / "methods.csv").read_text().splitlines()) > len(evaluation.methods)


def test_the_record_tells_how_it_was_made(evaluation):
    settings = evaluation.settings
    assert (evaluation.photos, settings.seed, settings.batch, settings.limit) == (COUNT, 0, 4, None)
    assert (settings.costly_limit, settings.sanity_photos) == (COSTLY, 2)
    assert evaluation.reference == "p-tame"
    assert evaluation.subject.explainer_state == "untrained"
    assert "/" not in evaluation.subject.classifier
    assert any("RANDOM" in one for one in evaluation.subject.cautions)
    assert any("only 6 photos" in one for one in evaluation.warnings)
    assert {"captum", "grad-cam"} <= set(evaluation.packages)


def test_every_mean_can_be_recomputed_from_the_values(done, evaluation):
    by_method = {}
    for row in rows(done):
        by_method.setdefault(row["method"], []).append(row)
    columns = [measure.name for measure in evaluation.measures]
    assert {"pointing", "pointing_energy", "insertion", "deletion"} < set(columns)
    reference = {row["sha256"]: row for row in by_method["p-tame"]}
    measured = [m for m in evaluation.methods if m.status == "measured"]
    assert set(by_method) == {m.name for m in measured}
    for method in measured:
        of_method = by_method[method.name]
        assert len(of_method) == method.photos
        for column in columns:
            found = [float(row[column]) for row in of_method if row[column]]
            if not found:
                assert column not in method.values
                continue
            mean = method.values[column]
            assert mean.mean == pytest.approx(np.mean(found), rel=1e-6, abs=1e-6)
            assert mean.photos == len(found)
            assert mean.low <= mean.mean <= mean.high
            if method.name != "p-tame":
                pairs = [
                    float(row[column]) - float(reference[row["sha256"]][column])
                    for row in of_method
                    if row[column]
                ]
                paired = method.against_reference[column]
                assert paired.mean == pytest.approx(np.mean(pairs), rel=1e-5, abs=1e-5)
    order = [row["photo"] for row in by_method["p-tame"]]
    assert sorted(order) == [f"{i:02}.png" for i in range(COUNT)]
    assert [row["photo"] for row in by_method["rise"]] == order[:COSTLY]


def test_methods_differ(done):
    """Two methods with the same numbers on every photo would be one method under two names."""
    found = {}
    for row in rows(done):
        values = tuple(row[name] for name in row if name not in ("method", "probability"))
        found.setdefault(row["method"], []).append(values)
    for one in ("grad-cam", "score-cam", "ablation-cam", "smooth-grad", "gaussian", "random"):
        assert found[one] != found["p-tame"]
    assert len({str(values) for name, values in found.items() if name != "p-tame-pytorch"}) >= 15


def test_the_source_in_pytorch_measures_as_the_graph_does(evaluation):
    graph, source = evaluation.method("p-tame"), evaluation.method("p-tame-pytorch")
    assert source.values["insertion"].mean == pytest.approx(graph.values["insertion"].mean, abs=0.5)
    assert graph.sanity.reasons["cascade"]
    assert all(s.similarity.mean == pytest.approx(1) for s in source.sanity.cascade)
    assert source.sanity.own_cascade[-1].similarity.mean < 0.99


def test_boxes_are_measured_where_there_are_some(evaluation):
    found = evaluation.method("p-tame").values["pointing"]
    assert found.photos == 4
    assert "pointing" not in {verdict.column for verdict in evaluation.verdicts}


def test_contrast_moves_the_published_form_alone(evaluation):
    assert [record.exponent for record in evaluation.contrast] == [0.35, 1.0, 3.0]
    values = [record.values for record in evaluation.contrast]
    own = evaluation.method("p-tame").values
    assert len(values[0]) == 12
    for name in values[0]:
        if name.endswith("matched"):
            assert values[0][name] == values[1][name] == values[2][name]
        assert values[1][name].mean == pytest.approx(own[name].mean, abs=1e-6)
    drops = [one["ad100_published"].mean for one in values]
    assert len(set(drops)) == 3
    assert max(drops) - min(drops) > 1
    assert not any(v.column.endswith("published") for v in evaluation.verdicts)


def test_rises_curve_ends_at_the_row_of_rise(evaluation):
    curve, rise = evaluation.rise_curve, evaluation.method("rise")
    assert [point.masks for point in curve.points] == [125, 250]
    assert curve.photos == COSTLY
    assert curve.seeds == (0, 1)
    last = curve.points[-1]
    assert set(last.values) == set(curve.reference)
    for name, found in last.values.items():
        assert "published" not in name
        assert found.mean == pytest.approx(rise.values[name].mean, abs=1e-4)
        assert curve.reference[name].photos == COSTLY
    assert curve.points[0].values != last.values
    assert -1 <= curve.points[0].correlation.mean <= 1


def test_another_seed_gives_others(done, model, photos, tmp_path):
    arguments = ["evaluate", "--model", str(model), "--images", str(photos), *QUICK]
    assert run([*arguments, "--methods", "lime", "--seed", "1", "-o", str(tmp_path / "out")]) == 0
    one, other = rows(done), rows(tmp_path / "out")
    before = {(row["method"], row["photo"]): row["insertion"] for row in one}
    shared = [(row["method"], row["photo"]) for row in other if row["method"] != "lime"]
    after = {(row["method"], row["photo"]): row["insertion"] for row in other}
    assert {key[0] for key in shared if after[key] != before[key]} == {"random"}
    lime = [[row["photo"] for row in found if row["method"] == "lime"] for found in (one, other)]
    assert lime[0] != lime[1]  # other photos come first


def parts(folder):
    """Everything that is done, with when it was."""
    work = folder / "work"
    files = [path for path in work.rglob("*.*") if path.is_file() and "graphs" not in path.parts]
    return {str(path.relative_to(work)): path.stat().st_mtime_ns for path in files}


def kill_when(arguments, there, seconds=240):
    """Start the command in a process of its own and kill it as soon as something is there."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ptame_deploy", *arguments],
        env={**os.environ, **threads}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + seconds
    try:
        while process.poll() is None and not there() and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()


@pytest.fixture(scope="module")
def killed(done, command, tmp_path_factory):
    """The same command into another folder, killed in the middle; and what it had done by then."""
    folder = with_graphs(done, tmp_path_factory.mktemp("killed") / "out")
    reached = folder / "work" / "maps" / "hires-cam"
    kill_when([*command, "-o", str(folder), "--resume"], lambda: any(reached.glob("*.npz")))
    kept = {name: when for name, when in parts(folder).items() if ".ptame-" not in name}
    return folder, kept, [name for name in FILES if (folder / name).exists()]


@pytest.fixture(scope="module")
def again(killed, command):
    """The folder of the killed command when it has gone on to the end."""
    folder = killed[0]
    assert run([*command, "-o", str(folder), "--resume"]) == 0
    return folder


def test_a_kill_leaves_what_is_done_and_no_report(killed):
    _, kept, files = killed
    assert {"p-tame", "grad-cam"} <= {name.split("/")[1] for name in kept if "maps/" in name}
    assert not any("lime" in name for name in kept)
    assert files == []


def test_a_killed_run_goes_on_where_it_stopped(killed, again):
    after, kept = parts(again), killed[1]
    assert {name: after[name] for name in kept} == kept


def test_the_same_seed_gives_the_same_numbers_killed_or_not(done, again):
    """Every part of the second folder was made anew, in one of two processes."""
    assert (again / "values.csv").read_bytes() == (done / "values.csv").read_bytes()
    assert numbers(again) == numbers(done)


def test_going_on_with_what_is_done_does_nothing_again(again, done, command):
    before, times = parts(again), read(again)
    assert run([*command, "-o", str(again), "--resume"]) == 0
    assert parts(again) == before
    assert [m.time for m in read(again).methods] == [m.time for m in times.methods]
    assert numbers(again) == numbers(done)


def test_a_used_folder_is_left_alone_without_resume(done, command, capsys):
    def state():
        return {p: p.stat().st_mtime_ns for p in done.rglob("*") if p.is_file()}

    before = state()
    said = refused([*command[1:], "-o", done], 2, capsys)
    assert "holds an evaluation: add --resume" in said
    assert len(said.strip().splitlines()) == 1
    assert state() == before


def test_results_whose_workspace_is_gone_are_left_alone_too(photos, tmp_path, capsys):
    (tmp_path / "results.json").write_text("kept")
    said = refused(["--backbone", "resnet50", "--images", photos, "-o", tmp_path], 2, capsys)
    assert "holds an evaluation: add --resume" in said
    assert (tmp_path / "results.json").read_text() == "kept"


def test_a_graph_without_the_source_says_what_is_missing(model, photos, tmp_path):
    arguments = ["evaluate", "--model", str(model), "--images", str(photos), *QUICK]
    folder = tmp_path / "out"
    chosen = "grad-cam,smooth-grad,ablation-cam"
    assert run([*arguments, "--methods", chosen, "-o", str(folder), "--limit", "3"]) == 0
    evaluation = read(folder)
    for name in (*chosen.split(","), "p-tame-pytorch"):
        assert evaluation.method(name).status == "skipped"
        assert "--backbone" in evaluation.method(name).reason
    assert evaluation.method("p-tame").photos == evaluation.photos == 3
    assert evaluation.settings.limit == 3
    assert not (folder / "gallery").exists()
    assert evaluation.contrast == []  # the published form was not asked for
    assert evaluation.rise_curve is None


def test_a_graph_with_its_source_has_every_row(model, classifier, photos, done, tmp_path):
    arguments = ["evaluate", "--model", str(model), "--backbone", f"{classifier}:build", *RANDOM]
    folder = tmp_path / "out"
    arguments += ["--images", str(photos), *QUICK, "--methods", "grad-cam"]
    assert run([*arguments, "-o", str(folder)]) == 0
    one, other = read(folder), read(done)
    assert one.photos_sha256 == other.photos_sha256
    for name in ("p-tame", "p-tame-pytorch", "grad-cam", "gaussian"):
        assert one.method(name).values["insertion"] == other.method(name).values["insertion"]


def test_a_lowered_graph_is_judged_by_the_whole_one(model, photos, tmp_path):
    lowered, folder = tmp_path / "fp16", tmp_path / "out"
    arguments = ["quantize", str(model), str(photos), "-p", "fp16", "--allow-drift"]
    assert run([*arguments, "--max-kept", "0", "-o", str(lowered)]) == 0
    arguments = ["evaluate", "--model", str(lowered), "--model", str(model)]
    assert run([*arguments, "--images", str(photos), *QUICK, "-o", str(folder)]) == 0
    evaluation = read(folder)
    names = [(m.name, m.precision) for m in evaluation.methods if m.status == "measured"]
    assert names[:2] == [("p-tame", "fp32"), ("p-tame-fp16", "fp16")]
    assert ", fp32, on" in evaluation.judge
    for verdict in evaluation.verdicts:
        assert "p-tame-fp16" not in (verdict.best, verdict.winner, *verdict.undecided)
    close = evaluation.method("p-tame-fp16").against_reference["insertion"]
    assert abs(close.mean) < 5


def test_what_cannot_be_read_is_told_at_the_end(model, photos, tmp_path, capsys):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "02.png").write_bytes(b"no photo")
    folder = tmp_path / "out"
    arguments = ["--model", model, "--images", tmp_path / "photos", *QUICK, "-o", folder]
    said = refused(arguments, 2, capsys)
    assert "1 of 6 photos were skipped" in said
    assert "02.png" in said
    for name in FILES:
        assert (folder / name).exists()
    evaluation = read(folder)
    assert evaluation.photos == 5
    assert len(evaluation.skipped) == 1
    assert evaluation.method("p-tame").photos == 5


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--images", "{empty}"], 2, ["No photo found"]),
        (["--images", "{empty}/no"], 2, ["does not exist"]),
        (["--measures", "insertoin"], 2, ["'insertoin'", "Did you mean insertion"]),
        (["--measures", ","], 2, ["No measure is named"]),
        (["--methods", "rise,grad-cm"], 2, ["'grad-cm'", "Did you mean grad-cam"]),
        (["--boxes", "{boxes}"], 2, ["none of the 6 photos has a box of its explained class"]),
        (["--boxes", "{empty}"], 2, ["no .xml files"]),
        (["--backbone", "{net}:other"], 4, ["other weights than the classifier in the graph"]),
        (["--backbone", "{net}:nothing"], 2, ["nothing"]),
        (["--backbone", "{net}:build", "--target-layer", "nowhere", "--methods", "grad-cam"], 2,
         ["--target-layer", "'nowhere'"]),
        (["--input-size", "64"], 2, None),
        (["--explainer", "{empty}"], 2, None),
        (["--steps", "1"], 2, None),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_in_a_sentence(
    model, photos, classifier, tmp_path, capsys, options, code, says
):
    empty = tmp_path / "empty"
    empty.mkdir()
    coco = tmp_path / "coco.json"
    category = {"id": 1, "name": "unicorn"}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    image = {"id": 1, "file_name": "00.png"}
    coco.write_text(json.dumps({"images": [image], "categories": [category], "annotations": [box]}))
    filled = [one.format(empty=empty, boxes=coco, net=classifier) for one in options]
    if "--images" not in filled:
        filled += ["--images", str(photos)]
    arguments = ["--model", model, *QUICK, *RANDOM, *filled, "-o", tmp_path / "out"]
    if says is None:  # typer's own words
        assert run(["evaluate", *map(str, arguments)]) == code
        assert "Traceback" not in capsys.readouterr().err
    else:
        said = refused(arguments, code, capsys)
        assert len(said.strip().splitlines()) == 1
        for text in says:
            assert text in said
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_refused_command_can_be_put_right(model, photos, classifier, tmp_path, capsys):
    """Nothing was evaluated: the folder holds no evaluation that one would have to go on with."""
    arguments = ["--model", model, "--images", photos, *QUICK, *RANDOM, "-o", tmp_path / "out"]
    refused([*arguments, "--backbone", f"{classifier}:other"], 4, capsys)
    assert run(["evaluate", *map(str, arguments), "--backbone", f"{classifier}:build"]) == 0


def test_reports_of_the_same_photos_become_one_table(done, again, tmp_path, capsys):
    assert run(["report", str(done), str(again / "results.json"), "-o", str(tmp_path / "r")]) == 0
    assert str(tmp_path / "r" / "report.html") in capsys.readouterr().out.replace("\n", "")
    table = (tmp_path / "r" / "table.md").read_text()
    assert "Grad-CAM (run 2)" in table
    assert (tmp_path / "r" / "methods.csv").read_text().count("grad-cam") >= 2
    assert (tmp_path / "r" / "report.html").stat().st_size > 10_000


def test_a_tampered_or_missing_report_is_refused(done, again, tmp_path, capsys):
    shutil.copytree(again, tmp_path / "copy", ignore=shutil.ignore_patterns("work", "gallery"))
    values = tmp_path / "copy" / "values.csv"
    values.write_text(values.read_text().replace("grad-cam", "grad-com", 1))
    arguments = [str(done), str(tmp_path / "copy"), "-o", str(tmp_path / "r")]
    assert run(["report", *arguments]) == 4
    assert "values.csv is not the file that belongs" in capsys.readouterr().err
    assert run(["report", str(tmp_path), "-o", str(tmp_path / "r")]) == 2
    assert "does not exist" in capsys.readouterr().err
    values.unlink()
    assert run(["report", *arguments]) == 0
    assert "no values.csv" in capsys.readouterr().err
