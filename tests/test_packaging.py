"""What is installed, where, and what imports what."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("ptame_deploy", "trainer", "engines", "bench")
ALLOWED = {
    "ptame_deploy": {"ptame_deploy"},
    "trainer": {"trainer", "ptame_deploy"},
    "engines": {"engines", "ptame_deploy"},
    "bench": {"bench", "engines", "ptame_deploy"},
}


def requirement_names(lines):
    return [re.split(r"[<>=!~\[; ]", line.strip(), maxsplit=1)[0].lower() for line in lines]


@pytest.mark.unit
def test_production_requirements_are_part_of_the_projects():
    lines = (ROOT / "requirements-runtime.txt").read_text().splitlines()
    runtime = {line for line in lines if line and not line.startswith("#")}
    assert runtime <= set(PROJECT["dependencies"])
    assert "torch" not in requirement_names(runtime)


@pytest.mark.unit
def test_no_extra_brings_a_second_onnxruntime():
    """All its distributions overwrite each other's files; the base has one already."""
    for extra, lines in PROJECT["optional-dependencies"].items():
        clashing = [n for n in requirement_names(lines) if n.startswith("onnxruntime")]
        assert not clashing, extra
    assert "onnxruntime" in requirement_names(PROJECT["dependencies"])


@pytest.mark.unit
def test_every_direct_dependency_is_constrained():
    pinned = requirement_names((ROOT / "constraints.txt").read_text().splitlines())
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for name in requirement_names([*PROJECT["dependencies"], *extras]):
        assert name in pinned, name


@pytest.mark.unit
@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_the_layout_allows(package):
    for path in (ROOT / package).rglob("*.py"):
        tree = ast.parse(path.read_text())
        is_command = path.parent.name == "cli"
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                if top in PACKAGES and top not in ALLOWED[package]:
                    in_function = node.col_offset > 0
                    is_public_api = path == ROOT / "ptame_deploy" / "__init__.py"
                    allowed_lazily = is_command or is_public_api
                    assert allowed_lazily, f"{path}: {name}"
                    assert in_function, f"{path}: {name}"


@pytest.mark.unit
def test_public_names_exist():
    import ptame_deploy

    for name in ptame_deploy.__all__:
        assert getattr(ptame_deploy, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ptame_deploy.nonsense


@pytest.mark.integration
def test_the_wheel_works_outside_the_checkout(tmp_path, tiny_artifact, photo_folder):
    """Built, unpacked elsewhere, run from there: all four packages are in it."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("ptame_deploy-*.whl")
    site = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(site),
    ]
    subprocess.run([*command, str(wheel)], check=True)
    environment = os.environ | {"PYTHONPATH": str(site)}
    for package in PACKAGES:
        code = f"import {package}; print({package}.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, check=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert done.stdout.startswith(str(site)), done.stdout
    arguments = ["explain", str(tiny_artifact), str(photo_folder), "-o", "out"]
    done = subprocess.run(
        [str(site / "bin" / "ptame"), *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


@pytest.mark.unit
def test_the_runtime_lock_is_of_the_constraints_and_has_hashes():
    text = (ROOT / "requirements-runtime.lock").read_text()
    entries = re.split(r"\n(?=[a-z])", text.partition("\n#    make lock\n")[2])
    assert len(entries) > 8
    pins = {}
    for entry in entries:
        name, version = re.match(r"([\w.-]+)==([\w.]+)", entry).groups()
        pins[name] = version
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name
    tested = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    known = {re.sub(r"[._]", "-", name).lower(): version for name, version in tested.items()}
    others = {name for name, version in pins.items() if known.get(name) != version}
    assert others == set()
    lines = (ROOT / "requirements-runtime.txt").read_text().splitlines()
    wanted = requirement_names([line for line in lines if not line.startswith("#")])
    assert set(wanted) <= set(pins)


@pytest.mark.integration
def test_the_same_sources_build_the_same_bytes(tmp_path):
    """Wheel and sdist, whenever and in whichever folder they are built."""
    import tarfile

    built = []
    for name, when in (("one", 10**9), ("two", 10**9 + 86_401)):
        sources, out = tmp_path / name / "sources", tmp_path / name / "out"
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
        subprocess.run([*command, "--sdist", str(ROOT)], check=True, capture_output=True)
        (sdist,) = out.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(sources, filter="data")
        (unpacked,) = sources.iterdir()
        for path in unpacked.rglob("*"):
            os.utime(path, (when, when))
        subprocess.run([*command, "--wheel", str(unpacked)], check=True, capture_output=True)
        built.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert len(built[0]) == 2
    assert built[0] == built[1]
