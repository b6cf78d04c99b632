import json

import pytest

from bench.compare_runs import Pair, differences, pairs, ratio_pairs
from bench.results import Latency, Reading, SpeedReport
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def written(tiny_artifact, tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "a.json"
    arguments = ["bench", str(tiny_artifact), "--seconds", "0.02", "--iterations", "2"]
    arguments += ["--batch", "1,2", "--rise-masks", "0", "--no-memory", "--mode", "latency"]
    assert run([*arguments, "--json", str(path)]) == 0
    return path


@pytest.fixture
def slower(written, tmp_path):
    """The same run on another machine, where the fused graph took three times as long."""
    document = json.loads(written.read_text())
    for row in document["contenders"]:
        for reading in row.get("readings", ()):
            reading["latency"]["variation_percent"] = 1.0
            if row["name"] == "fused graph":
                reading["latency"]["p50_ms"] *= 3
    document["device"]["cpu"] = "Another CPU"
    document["provenance"]["versions"]["onnxruntime"] = "0.1"
    document["settings"]["threads"] = 7
    path = tmp_path / "b.json"
    path.write_text(json.dumps(document))
    return path


def latency(p50, variation):
    return Latency(
        runs=9, mean_ms=p50, min_ms=p50, p50_ms=p50, p90_ms=p50, p95_ms=p50, p99_ms=p50,
        variation_percent=variation, unstable=False, images_per_s=1000 / p50,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "ratio", "noise"),
    [((10, 1), (11, 2), 1.1, False), ((10, 12), (11, 1), 1.1, True), ((10, 3), (5, 3), 0.5, False)],
)
def test_a_pair_knows_its_ratio_and_its_noise(before, after, ratio, noise):
    a, b = (Reading(batch=1, latency=latency(*each)) for each in (before, after))
    found = Pair("row", 1, a, b)
    assert found.ratio == pytest.approx(ratio)
    assert found.within_noise is noise


def test_rows_are_matched_by_model_row_and_batch(written, slower):
    a, b = (SpeedReport.model_validate_json(path.read_text()) for path in (written, slower))
    found = {(pair.name.split(": ")[1], pair.batch): pair.ratio for pair in pairs([a], [b])}
    assert found == {
        ("classifier alone", 1): pytest.approx(1), ("classifier alone", 2): pytest.approx(1),
        ("fused graph", 1): pytest.approx(3), ("fused graph", 2): pytest.approx(3),
    }  # fmt: skip
    assert [pair.batch for pair in ratio_pairs([a], [b])] == [1, 2]
    said = differences([a], [b])
    assert any("Another CPU" in line for line in said)
    assert any(line.startswith("onnxruntime: ") for line in said)
    assert "threads: 0 / 7" in said
    assert differences([a], [a]) == []
    subject = a.subject.model_copy(update={"classes": 3, "graph_sha256": "0"})
    settings = a.settings.model_copy(update={"rise_masks": 50})
    other = a.model_copy(update={"subject": subject, "settings": settings})
    said = " ".join(differences([a], [other]))
    for field in ("classes: 10 / 3", "graph_sha256", "rise_masks: 0 / 50"):
        assert field in said


def test_the_command_shows_both_and_what_differs(written, slower, capsys):
    assert run(["bench", "compare", str(written), str(slower)]) == 0
    said = capsys.readouterr()
    assert "3.000" in said.out
    assert "fused/alone, batch 2" in said.out
    assert "Another CPU" in said.err


def test_a_suite_is_compared_too(written, tmp_path, capsys):
    report = json.loads(written.read_text())
    suite = {"provenance": report["provenance"], "device": report["device"], "figures": []}
    (tmp_path / "s.json").write_text(json.dumps(suite | {"reports": [report]}))
    assert run(["bench", "compare", str(written), str(tmp_path / "s.json")]) == 0
    assert "1.000" in capsys.readouterr().out


def test_times_that_cannot_be_are_refused(written, tmp_path):
    report = json.loads(written.read_text())
    report["contenders"][0]["readings"][0]["latency"]["p50_ms"] = 0
    (tmp_path / "zero.json").write_text(json.dumps(report))
    assert run(["bench", "compare", str(written), str(tmp_path / "zero.json")]) == 2


@pytest.mark.parametrize("text", ["{}", "not json", '{"kind": "speed"}'])
def test_what_cannot_be_compared(written, tmp_path, text, capsys):
    other = tmp_path / "other.json"
    other.write_text(text)
    assert run(["bench", "compare", str(written), str(other)]) == 2
    assert run(["bench", "compare", str(written), str(tmp_path / "nowhere.json")]) == 2
    report = json.loads(written.read_text())
    report["subject"]["classifier"] = "another"
    other.write_text(json.dumps(report))
    assert run(["bench", "compare", str(written), str(other)]) == 2
    assert "no row in common" in capsys.readouterr().err
