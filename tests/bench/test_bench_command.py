import json
import subprocess
import sys

import pytest

from bench.figures import fast_form_figures, figure_line, memory_figures, time_figures
from bench.results import Memory, SpeedReport
from ptame_deploy.cli import run
from ptame_deploy.precision.options import TOLERANCES
from ptame_deploy.records import Tolerance

pytestmark = pytest.mark.integration

QUICK = ("--seconds", "0.05", "--iterations", "2", "--rise-masks", "20")


@pytest.fixture(scope="module")
def backbone_report(tiny_file, tmp_path_factory):
    """The bench of a classifier from its source, as in its JSON."""
    path = tmp_path_factory.mktemp("bench") / "deep" / "bench.json"
    arguments = ["bench", "--backbone", f"{tiny_file}:build", "--input-size", "64", *QUICK]
    arguments += ["--auxiliary", "resnet18", "--auxiliary-weights", "random"]
    arguments += ["--auxiliary-size", "64", "--mode", "latency", "--batch", "1,8"]
    assert run([*arguments, "--json", str(path)]) == 0
    return SpeedReport.model_validate_json(path.read_text())


@pytest.fixture(scope="module")
def photos(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), 16)


def test_from_source_every_row_is_measured(backbone_report):
    report = backbone_report
    assert [c.name for c in report.contenders] == [
        "classifier alone", "fused graph", "all-class form",
    ]  # fmt: skip
    for contender in report.contenders:
        assert contender.status == "measured"
        assert contender.gmacs_per_image > 0
        for reading in contender.readings:
            latency = reading.latency
            assert latency.runs >= 2
            assert 0 < latency.min_ms <= latency.p50_ms <= latency.p90_ms <= latency.p99_ms
            assert reading.throughput is None
            assert reading.memory.peak_mb > 0
    assert report.rise.masks == 20
    assert report.rise.total_s > 0
    assert {(c.name, c.batch) for c in report.comparisons} == {
        ("fused/alone", 1), ("fused/alone", 8), ("all-class/fused", 1), ("all-class/fused", 8),
        ("RISE/fused", 1),
    }  # fmt: skip
    found = report.comparison("fused/alone", 8)
    assert found.macs > 1
    assert found.time_over_macs == pytest.approx(found.time.value / found.macs)


def test_the_fast_form_gives_the_all_class_forms_maps(backbone_report):
    assert backbone_report.maps.equal
    assert backbone_report.maps.max_abs_difference <= 1e-5
    assert backbone_report.maps.images == 8


def test_the_json_says_where_and_how(backbone_report):
    report = backbone_report
    assert report.schema_version == 1
    assert report.device.cores >= 1
    assert report.device.cpu
    assert "onnxruntime" in report.provenance.versions
    assert report.runtime.startswith("ONNX Runtime")
    assert report.transfers.startswith("none")
    assert report.settings.batches == [1, 8]
    assert report.settings.iterations == 2
    assert any("RANDOM" in caution for caution in report.subject.cautions)


def with_figures(report, *, time_over_macs, all_class, memory):
    """Return the report as if this had been measured."""
    comparisons = []
    for found in report.comparisons:
        ratio = found.time.model_copy(update={"value": all_class[found.batch]})
        changed = {"time": ratio} if found.name == "all-class/fused" else {}
        if found.name == "fused/alone":
            changed = {"time_over_macs": time_over_macs}
        comparisons.append(found.model_copy(update=changed))
    contenders = []
    for row in report.contenders:
        factor = memory if row.name == "fused graph" else 1.0
        taken = Memory(peak_mb=100 * factor, run_peak_mb=50 * factor, after_opening_mb=10)
        readings = [reading.model_copy(update={"memory": taken}) for reading in row.readings]
        contenders.append(row.model_copy(update={"readings": readings}))
    return report.model_copy(update={"comparisons": comparisons, "contenders": contenders})


def verdicts(report):
    figures = [*time_figures(report), *memory_figures(report), *fast_form_figures(report)]
    for figure in figures:
        assert figure_line(figure).startswith("PASS" if figure.passed else "FAIL")
    return [figure.passed for figure in figures]


def test_figures_are_held_to_their_limits(backbone_report):
    inside = {"time_over_macs": 1.09, "all_class": {1: 1.26, 8: 1.41}, "memory": 1.49}
    outside = {"time_over_macs": 1.11, "all_class": {1: 1.24, 8: 1.39}, "memory": 1.51}
    # Time at two batch sizes, memory twice, fast form at two batch sizes, equal maps.
    assert verdicts(with_figures(backbone_report, **inside)) == [True] * 7
    assert verdicts(with_figures(backbone_report, **outside)) == [False] * 6 + [True]


def test_an_artifact_is_measured_but_for_the_all_class_form(tiny_artifact, tmp_path, capsys):
    path = tmp_path / "bench.json"
    arguments = ["bench", str(tiny_artifact), *QUICK, "--batch", "2", "--json", str(path)]
    assert run(arguments) == 0
    said = capsys.readouterr()
    for text in ("classifier alone", "fused graph", "RISE, 20 masks", "--backbone", "transfers"):
        assert text in said.out
    assert "fused/alone, batch 2" in said.out
    assert "RANDOM" in said.err
    document = json.loads(path.read_text())
    rows = {row["name"]: row for row in document["contenders"]}
    assert rows["all-class form"]["status"] == "skipped"
    assert "--backbone" in rows["all-class form"]["reason"]
    (reading,) = rows["fused graph"]["readings"]
    assert reading["throughput"]["images_per_s"] > 0
    assert reading["throughput"]["streams"] == 2
    report = SpeedReport.model_validate(document)
    missed = fast_form_figures(report)
    assert not any(figure.passed for figure in missed)  # what was not measured did not hold
    assert memory_figures(report)[0].value is None


def test_a_graph_that_takes_bytes_and_classes(tiny_classes_artifact, tmp_path):
    path = tmp_path / "bench.json"
    arguments = ["bench", str(tiny_classes_artifact), *QUICK, "--mode", "throughput", "--batch=2"]
    assert run([*arguments, "--no-memory", "--json", str(path)]) == 0
    report = SpeedReport.model_validate_json(path.read_text())
    assert report.rise.status == "measured"
    reading = report.reading("fused graph", 2)
    assert reading.latency is None
    assert reading.memory is None
    assert "not asked for" in reading.reason


SHORT = (*QUICK[:4], "--rise-masks", "0", "--batch", "2", "--no-memory", "--mode", "latency")


def report_of(path):
    return SpeedReport.model_validate_json(path.read_text())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_another_precision_is_lowered_on_the_way(
    tiny_artifact, photos, tmp_path, capsys, monkeypatch, precision
):
    """Alone, fused and RISE run in it; the FP32 graph stands beside it, and the drift too."""
    path = tmp_path / "b.json"
    arguments = [str(tiny_artifact), *SHORT, "--rise-masks", "4", "--photos", str(photos)]
    # Random weights: how far INT8 drifts says nothing.
    anything = Tolerance(top1_agreement=0, map_mean=1, pearson=-1)
    monkeypatch.setitem(TOLERANCES, precision, anything)
    assert run(["bench", "--engine", precision, *arguments, "--json", str(path)]) == 0
    report = report_of(path)
    assert report.subject.precision == precision
    rows = {row.name: row for row in report.contenders}
    assert rows["classifier alone"].precision == rows["fused graph"].precision == precision
    assert rows["fused graph, fp32"].precision == "fp32"
    assert rows["fused graph"].drift.photos == 4
    assert report.rise.masks == 4
    assert report.comparison("baseline/this", 2, of="fused graph").against == "fused graph, fp32"
    assert report.comparison("fused/alone", 2, of="fused graph, fp32") is not None
    assert "x as fast as fused graph, fp32" in capsys.readouterr().out


def test_a_lowered_artifact_is_benched_with_its_drift(tiny_artifact, photos, tmp_path, capsys):
    lowered = tmp_path / "fp16"
    arguments = ["quantize", str(tiny_artifact), str(photos), "-p", "fp16", "--allow-drift"]
    assert run([*arguments, "--max-kept", "0", "-o", str(lowered)]) == 0
    path = tmp_path / "b.json"
    assert run(["bench", str(lowered), *SHORT, "--json", str(path)]) == 0
    assert "fused graph (fp16) against FP32: top-1 agreement" in capsys.readouterr().out
    assert report_of(path).subject.precision == "fp16"
    # Beside its source:
    arguments = ["bench", str(tiny_artifact), "--lowered", str(lowered), *SHORT]
    assert run([*arguments, "--json", str(path)]) == 0
    report = report_of(path)
    assert report.subject.precision == "fp32"
    assert report.comparison("baseline/this", 2, of="fused graph, fp16").against == "fused graph"
    # Never beside another graph, and never twice under one name:
    assert run(["bench", str(lowered), "--lowered", str(lowered), *SHORT]) == 2
    assert run([*arguments, "--lowered", str(lowered)]) == 2
    assert "would both be called" in capsys.readouterr().err
    assert run(["bench", str(lowered), "--engine", "int8", "--photos", str(photos)]) == 2
    assert run(["bench", str(lowered), "--photos", str(photos), *SHORT]) == 2
    assert "the FP32 graph to compare it with is not here" in capsys.readouterr().err
    # Throughput alone has no ratio to stand beside; the drift stands there all the same.
    assert run([*arguments, "--mode", "throughput", "--batch", "1"]) == 0
    assert "fused graph, fp16 (fp16) against FP32: top-1 agreement" in capsys.readouterr().out


def test_pytorch_runs_the_source(tiny_file, photos, tmp_path):
    path = tmp_path / "b.json"
    arguments = ["bench", "--backbone", f"{tiny_file}:build", "--input-size", "64", *SHORT]
    arguments += ["--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random"]
    arguments += ["--auxiliary-size", "64", "--runtime", "pytorch", "--engine", "bf16"]
    assert run([*arguments, "--batch", "1", "--photos", str(photos), "--json", str(path)]) == 0
    report = report_of(path)
    assert report.runtime.startswith("PyTorch")
    assert report.subject.precision == "bf16"
    rows = {row.name: row for row in report.contenders}
    assert rows["all-class form"].status == "measured"
    assert rows["fused graph"].drift.photos == 4
    assert rows["fused graph"].drift.map_max > 1e-3  # it really computes in half precision
    full = rows["fused graph, fp32"]
    assert full.precision == "fp32"
    assert full.drift.top1_agreement == 1
    assert full.drift.map_max < 1e-3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{artifact}", "--runtime", "pytorch"], 2, "--backbone"),
        (["{artifact}", "--engine", "bf16"], 2, "--runtime pytorch"),
        (["{artifact}", "--engine", "fp16"], 2, "--photos"),
        (["{artifact}", "--runtime", "tensorrt-rtx", "--provider", "cuda"], 2, "--provider"),
        (["--backbone", "resnet18", "--runtime", "pytorch", "--engine", "int8"], 2, "onnxruntime"),
        (["--backbone", "resnet18", "--engine", "int8"], 2, "--photos"),
        (["--backbone", "resnet18", "--runtime", "pytorch", "--provider", "tensorrt"], 2, "cuda"),
        (["{artifact}", "--torch-mode", "compile"], 2, "--runtime pytorch"),
        (["--backbone", "x", "--runtime", "pytorch", "--torch-mode", "cuda-graphs"], 2, "cuda"),
        (["{artifact}", "--runtime", "tensorrt-rtx", "--threads", "2"], 2, "--threads"),
        (["{artifact}", "--json", "{artifact}/model.json"], 2, "not a report"),
        (["{artifact}", "--json", "{artifact}"], 2, "is a folder"),
        (["{artifact}", "--batch", "99999999"], 2, "end at"),
        (["{artifact}", "--runtime", "tensorrt"], 3, "tensorrt"),
        (["{plan}"], 2, "engine"),
    ],
)
def test_runtimes_that_cannot_be_benched(tiny_artifact, tmp_path, capsys, arguments, code, said):
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "model.plan").write_bytes(b"plan")
    filled = [a.format(artifact=tiny_artifact, plan=tmp_path / "plan") for a in arguments]
    assert run(["bench", *SHORT, *filled]) == code
    assert said in capsys.readouterr().err


def test_a_machine_without_the_runtime_says_so_and_runs_no_other(
    tiny_artifact, capsys, monkeypatch
):
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    monkeypatch.setattr("engines.gpu.find_gpu", lambda: None)
    assert run(["bench", str(tiny_artifact), "--runtime", "tensorrt-rtx", *SHORT]) == 3
    said = capsys.readouterr()
    assert "needs an NVIDIA GPU" in said.err
    assert not said.out
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert run(["bench", str(tiny_artifact), "--provider", "cuda", *SHORT]) == 3
        assert "CUDAExecutionProvider" in capsys.readouterr().err


def test_rise_with_fewer_masks_than_the_batch_counts_its_own_passes(tiny_artifact, tmp_path):
    path = tmp_path / "b.json"
    arguments = ["bench", str(tiny_artifact), *SHORT, "--batch", "8", "--rise-masks", "3"]
    assert run([*arguments, "--json", str(path)]) == 0
    rise = report_of(path).rise
    assert (rise.masks, rise.batch) == (3, 3)


def test_rise_may_be_left_out(tiny_artifact, capsys):
    arguments = ["bench", str(tiny_artifact), *QUICK, "--batch", "1", "--no-memory"]
    assert run([*arguments, "--mode", "latency", "--rise-masks", "0"]) == 0
    assert "RISE not measured: not asked for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["{artifact}", "--backbone", "resnet18"], 2),
        (["{artifact}", "--auxiliary", "resnet18"], 2),
        (["{artifact}", "--batch", "one"], 2),
        (["{artifact}", "--batch", "0"], 2),
        (["{artifact}", "--batch", "2,2"], 2),
        (["{artifact}", "--seconds", "-1"], 2),
        (["{artifact}", "--iterations", "0"], 2),
        (["{artifact}", "--mode", "fast"], 2),
        (["{artifact}/nowhere"], 2),
        (["--backbone", "no_such_network"], 2),
        (["{corrupt}"], 4),
    ],
)
def test_what_cannot_be_benched(arguments, code, tiny_artifact, tmp_path, capsys):
    corrupt = tmp_path / "corrupt"
    corrupt.mkdir()
    (corrupt / "model.json").write_bytes((tiny_artifact / "model.json").read_bytes())
    (corrupt / "model.onnx").write_bytes((tiny_artifact / "model.onnx").read_bytes()[:-9])
    filled = [a.format(artifact=tiny_artifact, corrupt=corrupt) for a in arguments]
    assert run(["bench", *filled]) == code
    said = capsys.readouterr()
    assert said.err
    assert "Traceback" not in said.err


def test_an_artifact_is_benched_without_torch(tiny_artifact):
    code = (
        "import sys; sys.modules['torch'] = None; from ptame_deploy.cli import run; "
        f"sys.exit(run(['--debug', 'bench', {str(tiny_artifact)!r}, '--batch', '1', "
        "'--seconds', '0.02', '--iterations', '2', '--rise-masks', '4', '--no-memory']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "fused/alone" in done.stdout
