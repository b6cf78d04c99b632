"""`make tritonserver`; that it serves is tested with what it runs (tests/engines/triton)."""

import pytest
import tritonserver

pytestmark = pytest.mark.unit


def test_without_its_environment_it_says_what_makes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PTAME_TRITON_VENV", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["tritonserver.py", str(tmp_path)])
    assert tritonserver.main() == 3
    assert "make triton-environment" in capsys.readouterr().err
