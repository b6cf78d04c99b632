import sys

import pytest
import readme_table
import readme_training

from bench.results import (
    Comparison,
    Contender,
    Device,
    Latency,
    Ratio,
    Reading,
    RiseReading,
    Settings,
    SpeedReport,
    Subject,
    SuiteReport,
    Throughput,
)
from bench.serving_results import (
    BatchingGain,
    ServedModel,
    ServedReading,
    ServingReport,
    ServingSettings,
)
from ptame_deploy.artifact_files import manifest_json
from ptame_deploy.provenance import Provenance
from ptame_deploy.records import DriftRecord

pytestmark = pytest.mark.unit


@pytest.fixture
def suite():
    latency = Latency(
        runs=9, mean_ms=3, min_ms=1, p50_ms=2.5, p90_ms=3, p95_ms=4, p99_ms=5,
        variation_percent=1, unstable=False, images_per_s=400,
    )  # fmt: skip
    ratio = Ratio(value=1.25, p25=1.2, p75=1.3, rounds=10)
    report = SpeedReport(
        provenance=Provenance.here(seed=0),
        device=Device(cpu="A Processor", cores=2, system="Linux x86_64"),
        runtime="ONNX Runtime 1 CPU",
        transfers="none",
        subject=Subject(
            classifier="some/folder/net.py:build", auxiliary="resnet18",
            auxiliary_input_sizes=[224], input_size=(224, 224), classes=1000, explained_classes=1,
            precision="fp32", graph_sha256="0" * 64,
            cautions=["auxiliary weights are RANDOM: maps mean nothing"],
        ),
        settings=Settings(
            mode="latency", batches=[1], seconds=1, iterations=9, warmup_seconds=1,
            warmup_runs=1, rounds=10, streams=2, threads=0, rise_masks=1000, seed=0,
        ),
        contenders=[
            Contender(
                name="fused graph", status="measured", gmacs_per_image=5.7,
                readings=[Reading(batch=1, latency=latency)],
            ),
            Contender(name="all-class form", status="skipped", reason="elsewhere"),
        ],
        rise=RiseReading(
            status="measured", masks=1000, batch=8, gmacs_per_image=4100, total_s=50.0
        ),
        comparisons=[
            Comparison(name="fused/alone", batch=1, time=ratio),
            Comparison(name="RISE/fused", batch=1, time=ratio.model_copy(update={"value": 801})),
        ],
        maps=None,
        warnings=[],
    )  # fmt: skip
    return SuiteReport(
        provenance=report.provenance, device=report.device, figures=[], reports=[report]
    )


def test_the_table_shows_figures_and_cautions(suite):
    text = readme_table.render(suite)
    assert "A Processor, 2 cores; ONNX Runtime 1 CPU" in text
    pair = r"net.py:build + resnet18\*"
    assert f"| {pair} | 1 | - | 2.5 ± 1 % | **1.25** (1.20 - 1.30) | - | - → - |" in text
    rise = "RISE, 1000 masks, all run, for one image"
    assert f"| {pair}: {rise} | 8 | 50000 | **801** (1 - 1) |" in text
    assert "all classes' maps" not in text
    assert "random weights" in text
    assert "some/folder" not in text


def test_the_precision_table_shows_speed_and_drift(suite):
    drift = DriftRecord(
        photos=200, top1_agreement=0.985, probability_mean=0.01, probability_max=0.2, maps=200,
        map_mean=0.0123, map_max=0.5, pearson=0.9912, pearson_min=0.9, spearman=0.99,
    )  # fmt: skip
    (report,) = suite.reports
    plain = report.contenders[0]
    name = "fused graph, int8, cpu form"
    other = plain.model_copy(update={"name": name, "precision": "int8", "drift": drift})
    ratio = report.comparisons[0].time
    faster = Comparison(name="baseline/this", batch=1, of=name, against=plain.name, time=ratio)
    changed = {"contenders": [plain, other], "comparisons": [*report.comparisons, faster]}
    text = readme_table.render_precision(
        suite.model_copy(update={"reports": [report.model_copy(update=changed)]})
    )
    pair = r"net.py:build + resnet18\*"
    assert f"| {pair} | fp32 | 1 | - | 2.5 ± 1 % | **1.25** (1.20 - 1.30) | - | - | - |" in text
    cells = "- | **1.25** (1.20 - 1.30) | 98.5% | 0.0123, 0.9912 |"
    assert f"| {pair} | int8, cpu form | 1 | - | 2.5 ± 1 % | {cells}" in text
    assert "on 200 photos" in text


@pytest.fixture
def serving(suite):
    reading = ServedReading(
        clients=4, requests=90, p50_ms=80.4, p95_ms=120, p99_ms=130, photos_a_run=1,
        throughput=Throughput(
            rounds=3, streams=4, images_per_s=41.26, min_images_per_s=40, max_images_per_s=44,
            variation_percent=3, unstable=True,
        ),
    )  # fmt: skip
    return ServingReport(
        provenance=suite.provenance,
        device=suite.device,
        subject=suite.reports[0].subject,
        settings=ServingSettings(
            clients=[4], max_batch=8, queue_delay_ms=2, seconds=20, rounds=3, threads=0,
            request_bytes=602_112, seed=0,
        ),
        servers=[
            ServedModel(
                server="triton 2", runs="Python backend", alone=[reading],
                together=[reading.model_copy(update={"photos_a_run": 3.52})],
                gains=[BatchingGain(clients=4, ratio=Ratio(value=1.1, p25=1, p75=1.2, rounds=3))],
            )
        ],
    )  # fmt: skip


def test_the_serving_table_shows_load_and_gain(serving, tmp_path, monkeypatch):
    data, readme = tmp_path / "serving.json", tmp_path / "README.md"
    data.write_text(manifest_json(serving))
    readme.write_text("<!-- serving-table -->\n<!-- /serving-table -->\n")
    words = ["readme_table.py", "--serving", "--json", str(data), "--readme", str(readme)]
    monkeypatch.setattr(sys, "argv", words)
    assert readme_table.main() == 0
    text = readme.read_text()
    cells = "41.3 ± 3 % | 80, 120, 130"
    row = f"| triton 2 (Python backend) | 4 | {cells} | {cells} | 3.5 | **1.10** (1.00 - 1.20) |"
    assert row in text
    assert "602 kB" in text
    assert "waits up to 2 ms" in text
    assert "in 20 s a cell" in text
    assert "some/folder" not in text


def test_the_readme_is_filled_checked_and_found_outdated(suite, tmp_path, monkeypatch):
    data, readme = tmp_path / "bench.json", tmp_path / "README.md"
    data.write_text(suite.model_dump_json())
    readme.write_text("# Before\n<!-- bench-table -->\nold\n<!-- /bench-table -->\nafter\n")

    def call(*options):
        arguments = ["readme_table.py", "--json", str(data), "--readme", str(readme), *options]
        monkeypatch.setattr(sys, "argv", arguments)
        return readme_table.main()

    assert call("--check") == 1
    assert "old" in readme.read_text()
    assert call() == 0
    assert call("--check") == 0
    text = readme.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    readme.write_text("no markers")
    assert call() == 2
    assert readme.read_text() == "no markers"


def test_trials_show_start_and_change_with_its_interval():
    def told(mean, low, high):
        return {"mean": mean, "low": low, "high": high, "photos": 9}

    columns = ("insertion", "deletion", "ad50_matched", "ic50_matched", "ad100_matched")
    trials = {
        "backbone": "net.py:build",
        "photos": 12,
        "photos_judged": 9,
        "folds": 4,
        "masks": 32,
        "device": {"cpu": "A Processor", "cores": 2},
        "provenance": {"created": "2026-01-02T03:04", "versions": {"ptame-deploy": "0.1.0"}},
        "methods": {
            "self": {name: told(40.0, 39, 41) for name in columns},
            "grad-cam": {name: told(41.0, 40, 42) for name in columns},
        },
        "trained_minus_rival": {
            "self/all/superpixels": {"grad-cam": {name: told(0.5, -1, 2) for name in columns}}
        },
        "superpixels_minus_start": {
            "self/superpixels": {name: told(2.0, 1.0, 3.0) for name in columns}
        },
        "trained_minus_start": {
            "self/all/superpixels": {name: told(-0.5, -1.0, 0.25) for name in columns}
            | {"insertion": told(1.5, 0.5, 2.5)}
        },
        "training": {"self/all/superpixels": [{"seconds": 61.2}, {"seconds": 59.0}]},
    }
    table = readme_training.render_trials([trials])
    assert "9 of 12 photos in 4 folds, 32 masks a photo; A Processor, 2 cores; 2026-01-02" in table
    pooled, trained = [line for line in table.splitlines() if line.startswith("| self: ")]
    assert pooled == (
        "| self: superpixels alone, untrained "
        + "| 40.0, **+2.00** (+1.00 to +3.00) " * 5
        + "| 0 |"
    )
    assert trained == (
        "| self: trained, rows at all taps, with superpixels | 40.0, **+1.50** (+0.50 to +2.50) "
        + "| 40.0, -0.50 (-1.00 to +0.25) " * 4
        + "| 61 |"
    )
    beside = "| the same, beside Grad-CAM " + "| 41.0, +0.50 (-1.00 to +2.00) " * 5 + "| |"
    assert beside in table.splitlines()
