import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptame_deploy import __version__, cli, errors
from ptame_deploy.cli import console, run

pytestmark = pytest.mark.integration


def ptame(*arguments, **options):
    command = [sys.executable, "-m", "ptame_deploy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, ptame_deploy\n"
        "from ptame_deploy.cli import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'torch', 'torchvision', 'timm', 'onnx', 'onnxruntime', 'numpy', 'PIL', "
        "'pydantic', 'lightning', 'tensorrt'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("export", "explain", "bench", "train"):
        assert command in done.stdout


def test_every_command_has_help(capsys):
    for command in ("export", "explain", "bench", "train"):
        assert run([command, "--help"]) == 0
        assert "--output" in capsys.readouterr().out or command == "bench"


def test_version():
    done = ptame("--version")
    assert done.returncode == 0
    assert done.stdout == f"ptame {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["export"],
        ["export", "--backbone", "resnet50"],
        ["export", "--backbone", "resnet50", "-o", "x", "--top-k", "many"],
        ["explain", "model"],
        ["--nonsense"],
    ],
)
def test_bad_usage_is_2(arguments, capsys):
    assert run(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (errors.CheckFailedError("reason"), 1),
        (errors.InvalidInputError("reason"), 2),
        (errors.MissingRequirementError("reason"), 3),
        (errors.ArtifactError("reason"), 4),
        (ModuleNotFoundError("reason", name="reason"), 3),
        (OSError(36, "reason", "a" * 300), 2),
        (OSError(28, "reason"), 3),
        (MemoryError("reason"), 3),
        (KeyboardInterrupt(), 130),
        (RuntimeError("reason"), 70),
    ],
)
def test_exit_codes(monkeypatch, capsys, failure, code):
    def fail(*args, **kwargs):
        raise failure

    monkeypatch.setattr(cli, "app", fail)
    assert run([]) == code
    said = capsys.readouterr().err
    assert ("reason" in said) == (code != 130)
    assert "Traceback" not in said


def test_debug_shows_the_traceback(tmp_path):
    done = ptame("--debug", "explain", str(tmp_path), str(tmp_path), "-o", str(tmp_path))
    assert "Traceback" in done.stderr
    done = ptame("explain", str(tmp_path), str(tmp_path), "-o", str(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")


def test_no_color(tmp_path):
    colours = {"TTY_COMPATIBLE": "1", "FORCE_COLOR": "1"}
    arguments = ("explain", str(tmp_path), str(tmp_path), "-o", str(tmp_path))
    assert "\x1b[31m" in ptame(*arguments, env=os.environ | colours).stderr
    done = ptame(*arguments, env=os.environ | {"NO_COLOR": "1"})
    assert "\x1b[" not in done.stderr


def test_quiet_and_verbose(capsys):
    console.info("note")
    assert "note" in capsys.readouterr().err
    console.detail("detail")
    assert capsys.readouterr().err == ""
    console.settings.verbose = True
    console.detail("detail")
    assert "detail" in capsys.readouterr().err
    console.settings.quiet = True
    console.info("note")
    assert capsys.readouterr().err == ""
    console.warn("[bold]caution[/bold]")
    assert "[bold]caution[/bold]" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_export_leaves_nothing(tmp_path, tiny_file, number, code):
    """The signal comes while the stage folder is there, so that there is something to clean up."""
    slow = tmp_path / "slow.py"
    slow.write_text(
        tiny_file.read_text()
        + "\ndef slow():\n    import time\n    from ptame_deploy import onnx_export\n"
        "    onnx_export.export_graph = lambda *a, **k: time.sleep(60)\n    return build()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "ptame_deploy", "export", "--backbone", f"{slow}:slow",
         "--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random",
         "--auxiliary-size", "64", "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/.ptame-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.glob("out/.ptame-*"))
    for _ in range(5):  # an exception that comes within a finaliser is lost, as ever in Python
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, said = process.communicate(timeout=10)
            break
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_broken_pipe_is_no_error(tmp_path):
    command = f"{sys.executable} -m ptame_deploy --help | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_full_disk_behind_the_output_is_3():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ptame_deploy", "--version"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_terminal_of_few_letters(tiny_artifact, photo_folder, tmp_path):
    (photo_folder / "猫.png").write_bytes((photo_folder / "a.png").read_bytes())
    done = ptame("-v", "explain", str(tiny_artifact), str(photo_folder), "-o", str(tmp_path / "ü"),
                 env=os.environ | {"PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert r"\u732b" in done.stderr


def test_ctrl_c_that_an_import_turned_into_an_error(monkeypatch, capsys):
    def fail(*args, **kwargs):
        with contextlib.suppress(KeyboardInterrupt):
            cli._interrupts(signal.SIGINT, None)
        raise ImportError("numpy says something else")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(cli, "_interrupts", cli._Interrupts())
    assert run([]) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_a_second_ctrl_c_does_not_break_into_the_cleaning_up(monkeypatch):
    interrupts = cli._Interrupts()
    with pytest.raises(KeyboardInterrupt):
        interrupts(signal.SIGINT, None)
    interrupts(signal.SIGINT, None)
    monkeypatch.setattr(cli, "CLEANING_UP_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        interrupts(signal.SIGINT, None)


def test_tables_show_brackets_as_they_are(capsys):
    """In Rich's markup the name of an extra would be a style, and [/x] of a path an error."""
    from rich.table import Table

    from ptame_deploy.cli import console

    table = Table(title="of[/x].py")
    table.add_row('pip install "ptame-deploy[rtx]"', "[31.0, 68.0]")
    console.table(table)
    said = capsys.readouterr().out
    for text in ("of[/x].py", '"ptame-deploy[rtx]"', "[31.0, 68.0]"):
        assert text in said


def test_choices_are_told_in_our_own_words(capsys):
    assert run(["quantize", "a", "b", "-p", "int4", "-o", "c"]) == 2
    said = capsys.readouterr().err
    assert "'int4' is not one of 'fp16', 'int8'" in said
    assert "Value error" not in said
