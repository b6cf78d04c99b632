"""`make tritonserver`; that it serves is tested with what it runs (tests/engines/triton)."""

import pytest
import tritonserver

pytestmark = pytest.mark.unit


def model(repository, backend):
    (repository / "m").mkdir()
    (repository / "m/config.pbtxt").write_text(f'name: "m"\nbackend: "{backend}"\n')


def serve(repository, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tritonserver.py", str(repository)])
    return tritonserver.main()


def test_without_its_environment_it_says_what_makes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PTAME_TRITON_VENV", str(tmp_path))
    model(tmp_path, "python")
    assert serve(tmp_path, monkeypatch) == 3
    assert "make triton-environment" in capsys.readouterr().err


def test_a_repository_without_models_is_refused(tmp_path, monkeypatch, capsys):
    assert serve(tmp_path, monkeypatch) == 2
    assert "holds no models" in capsys.readouterr().err


def test_a_model_of_another_backend_is_refused(tmp_path, monkeypatch, capsys):
    model(tmp_path, "onnxruntime")
    assert serve(tmp_path, monkeypatch) == 2
    assert "m is for the backend onnxruntime" in capsys.readouterr().err
