"""`make reproduce`: every committed result has what makes it, and what moved is told."""

import json
import re
import shutil
from pathlib import Path

import pytest
import reproduce
import typer
from compare_results import compare_figures, compare_tables
from experiments import EXPERIMENTS, Experiment
from readme_table import DATA

from ptame_deploy.cli import app

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [(one.result, command) for one in EXPERIMENTS for command in one.commands]


def table(name):
    return README.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]


def test_every_committed_result_is_made_by_something():
    committed = {path.stem for path in (ROOT / "results").glob("*.json")}
    assert {one.result for one in EXPERIMENTS} == committed
    assert {Path(path).stem for paths in DATA.values() for path in paths} <= committed


@pytest.mark.parametrize("one", EXPERIMENTS, ids=lambda one: one.result)
def test_figures_that_text_cites_are_there(one):
    document = json.loads((ROOT / one.path).read_text())
    compared = compare_figures(one.result, one.figures, document, document)
    assert not any(figure.moved for figure in compared)


@pytest.mark.parametrize(("result", "command"), COMMANDS)
def test_commands_and_their_options_exist(result, command):
    program, *words = command.split()
    options = [word for word in words if word.startswith("--")]
    if program == "python":
        source = (ROOT / words[0]).read_text()
        assert all(f'"{option}"' in source for option in options), command
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "ptame":
        known = typer.main.get_command(app).commands[words[0]].params
        assert set(options) <= {option for one in known for option in one.opts + one.secondary_opts}
    else:
        assert program == "cp"


def test_no_script_writes_over_committed_results_unless_it_is_told_to():
    scripts = {path: path.read_text() for path in (ROOT / "scripts").glob("*.py")}
    assert len(scripts) > 10
    assert [path.name for path, text in scripts.items() if 'default=Path("results' in text] == []


@pytest.mark.parametrize("name", sorted(DATA))
def test_a_table_that_is_the_same_has_not_moved(name):
    found = compare_tables(name, table(name), table(name), of_machine=True)
    assert len(found) > 3
    assert not any(figure.moved for figure in found)
    assert all(re.fullmatch(r"[^›]+ › .+ › .*", figure.where) for figure in found)


def test_figures_that_moved_are_told_with_row_and_column():
    head = "| method | Insertion ↑ | ms |\n|---|---:|---:|\n"
    before = f"Xeon, 2 cores; 2026-11-01 with ptame-deploy 0.1.0.\n\n{head}| A | **46.2** | 100 |"
    now = f"EPYC, 8 cores; 2027-01-02 with ptame-deploy 2.0.0.\n\n{head}| A | 41.0 | 120 |"
    found = compare_tables("t", before, now, of_machine=False)
    assert [(one.where, one.before, one.now) for one in found if one.moved] == [
        ("t › A › Insertion ↑", 46.2, 41.0)
    ]
    assert len(found) == 2  # devices and dates are no figures
    slow = now.replace("120", "140").replace("41.0", "46.9")
    found = compare_tables("t", before, slow, of_machine=False)
    assert [one.where for one in found if one.moved] == ["t › A › ms"]
    with pytest.raises(ValueError, match="other rows"):
        compare_tables("t", before, now + "\n| B | 1 | 2 |", of_machine=False)


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    """Experiments that take a moment, and a README of their own."""
    (tmp_path / "results").mkdir()
    for name in ("one", "two"):
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps({"gain": {"mean": 0.5}}))
    (tmp_path / "README.md").write_text("")
    shutil.copytree(tmp_path / "results", tmp_path / "again")
    found = (
        Experiment("one", ("cp again/one.json {out}",), 1, figures=("gain.mean",)),
        Experiment("two", ("cp {photos}/two.json {out}",), 1, frozenset({"photos"})),
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "EXPERIMENTS", found)
    monkeypatch.setattr(reproduce, "DATA", {})
    monkeypatch.setattr(reproduce, "PICTURES", {})

    def call(*options):
        monkeypatch.setattr("sys.argv", ["reproduce.py", "--work", "work", *options])
        code = reproduce.main()
        report = tmp_path / "work" / "report.md"
        return code, report.read_text() if report.exists() else ""

    return call


def test_what_cannot_be_made_is_named(experiments):
    code, report = experiments("--only", "one,two")
    assert code == 0
    assert "| one | made in" in report
    assert "| two | not made: needs photos |" in report
    assert "1 figures compared, 0 moved" in report
    assert "| one | was made before |" in experiments("--only", "one")[1]


def test_what_moved_is_exit_1(experiments, tmp_path):
    (tmp_path / "again" / "one.json").write_text(json.dumps({"gain": {"mean": 0.1}}))
    code, report = experiments("--only", "one")
    assert code == 1
    assert "| one › gain.mean | 0.5 | 0.1 |" in report


def test_what_fails_is_exit_1_and_made_the_next_time(experiments, tmp_path):
    (tmp_path / "again" / "one.json").unlink()
    code, report = experiments("--only", "one")
    assert code == 1
    assert "| one | FAILED with 1: cp again/one.json" in report
    shutil.copy(tmp_path / "results" / "one.json", tmp_path / "again")
    assert experiments("--only", "one")[0] == 0


def test_a_name_that_is_none_is_exit_2(experiments, capsys):
    with pytest.raises(SystemExit) as ended:
        experiments("--only", "three")
    assert ended.value.code == 2
    assert "no such result: three" in capsys.readouterr().err


def test_pictures_are_compared_pixel_by_pixel(tmp_path):
    from PIL import Image

    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, colour, size in zip(paths, (10, 11, 10), (8, 8, 9), strict=True):
        Image.new("RGB", (size, size), (colour,) * 3).save(path)
    assert reproduce._picture(paths[0], paths[1]) == "held: 1.00 of 255 a pixel"
    assert reproduce._picture(paths[0], paths[2]).startswith("FAILED: MOVED, from (8, 8)")
    Image.new("RGB", (8, 8), (30,) * 3).save(paths[1])
    assert reproduce._picture(paths[0], paths[1]).startswith("FAILED: MOVED: 20.00")
