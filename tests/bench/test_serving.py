"""Real servers under a small load."""

import pytest

from bench.serving import LoadOptions, bench_serving
from bench.serving_results import ServingReport, serving_table
from bench.timing import Sampling
from ptame_deploy.artifact_files import manifest_json
from ptame_deploy.errors import InvalidInputError, MissingRequirementError

pytest.importorskip("fastapi", reason="extra: serve")


@pytest.mark.integration
def test_both_servers_are_measured_in_turns(tiny_artifact, tmp_path):
    options = LoadOptions(
        clients=[1, 3],
        sampling=Sampling(seconds=0.4, rounds=2, warmup_seconds=0, warmup_runs=1),
        max_batch=4,
        threads=1,
    )
    try:
        report = bench_serving(tiny_artifact, options, tmp_path)
    except MissingRequirementError as error:
        pytest.skip(str(error))
    assert ServingReport.model_validate_json(manifest_json(report)) == report
    assert [one.server.split()[0] for one in report.servers] == ["triton", "ptame"]
    for served in report.servers:
        assert [one.clients for one in served.alone] == [1, 3]
        assert all(one.photos_a_run == 1 for one in served.alone)
        assert served.together[0].photos_a_run == 1  # there is nobody to wait for
        assert served.together[1].photos_a_run > 1
        assert all(gain.ratio.value > 0 and gain.ratio.rounds == 2 for gain in served.gains)
    assert serving_table(report).count("\n| ") >= 4


@pytest.mark.unit
def test_without_tritonserver_it_says_so(tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.setenv("PTAME_TRITON_VENV", str(tmp_path))
    with pytest.raises(MissingRequirementError, match="make triton-environment"):
        bench_serving(tiny_artifact, LoadOptions(clients=[1]), tmp_path)


@pytest.mark.unit
def test_there_is_a_client_at_least():
    for clients in ([], [0]):
        with pytest.raises(InvalidInputError, match="at least 1 client"):
            LoadOptions(clients=clients)
