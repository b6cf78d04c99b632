"""What is found out of an engine before it is deserialised: damage, and what it is not for."""

import json
import re
import shutil
import typing
from pathlib import Path

import pytest

from engines import flavours
from engines.gpu import find_gpu
from engines.plan import PLAN_FILE, PLAN_MANIFEST
from ptame_deploy.artifact_files import record_files
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration

CPP = Path(__file__).parents[3] / "engines/cpp"


def edit(**changes):
    def change(folder):
        path = folder / PLAN_MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def edit_profile(**changes):
    def change(folder):
        path = folder / PLAN_MANIFEST
        document = json.loads(path.read_text())
        document["profile"] |= changes
        path.write_text(json.dumps(document))

    return change


def flip(folder):
    content = bytearray((folder / PLAN_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / PLAN_FILE).write_bytes(content)


def truncate(folder):
    content = (folder / PLAN_FILE).read_bytes()
    (folder / PLAN_FILE).write_bytes(content[: len(content) // 2])


# What is found out without a GPU.
DAMAGES = [
    (lambda f: (f / PLAN_MANIFEST).unlink(), 2, "nothing is known of what it would run"),
    (lambda f: (f / PLAN_MANIFEST).write_text("{"), 4, "cannot be read as JSON"),
    (lambda f: (f / PLAN_MANIFEST).write_text("[" * 100_000), 4, "cannot be read as JSON"),
    (lambda f: (f / PLAN_MANIFEST).write_text("[]"), 4, "not a valid manifest"),
    (lambda f: (f / PLAN_FILE).unlink(), 4, "is missing"),
    (truncate, 4, "cut short or replaced"),
    (flip, 4, "SHA-256 differs"),
    (edit(schema_version=2), 4, "newer ptame-deploy"),
    (edit(kind="fused-graph"), 4, "does not describe an engine"),
    (edit(files={}), 4, "does not name model.plan"),
    (edit(files=[]), 4, "names no files"),
    (edit(files={PLAN_FILE: {"bytes": "many", "sha256": ""}}), 4, "not a valid manifest"),
    (edit(inputs=[]), 4, "inputs are not those of the graph"),
    (edit(precision="fp16"), 4, "precision are not those of the graph"),
    (edit(graph=None), 4, "not a valid manifest"),
    (edit(compute_capabilities=[]), 4, "names no compute capability"),
    (edit(flavour_version="new"), 4, "no version of its TensorRT"),
    (edit_profile(min_batch=5), 4, "batches of 5 to 4"),
    (edit_profile(min_batch=-(2**63)), 4, "says batches of"),
    (edit(flavour="other"), 4, "This plan is for other, not for tensorrt"),
]
# And what needs one, or none where it is asked first.
MISFITS = [
    (edit(flavour="tensorrt-rtx"), "This plan is for tensorrt-rtx, not for tensorrt"),
    (edit(flavour_version="10.13.0.35"), "was built by tensorrt 10.13.0.35, here is 10.14.1.48"),
    (edit(flavour_version="11.0.0.1", version_compatible=True), "was built by tensorrt 11.0.0.1"),
    (edit(flavour_version="10.15.0.1", version_compatible=True), "was built by tensorrt 10.15.0.1"),
    (edit(compute_capabilities=["8.0", "8.9"]), "runs on compute capability 8.0, 8.9; a GPU in"),
    (edit(driver="14.0"), "built with a driver for CUDA 14.0, here it is 13.0"),
]


@pytest.mark.parametrize(
    ("change", "code", "says"), DAMAGES + [(change, 4, says) for change, says in MISFITS]
)
def test_damage_is_found_before_an_engine_is_deserialised(
    runs, engine, engine_photos, change, code, says
):
    change(engine)
    done, report = runs(engine, engine_photos[0])
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "deserialised" not in report


def test_an_engine_that_is_none_is_refused(runs, engine, engine_photos):
    (engine / PLAN_FILE).write_bytes(b"no plan at all")
    edit(files=_records(engine))(engine)
    done, report = runs(engine, engine_photos[0])
    assert done.returncode == 4
    assert "TensorRT 10.14.1.48 refuses the plan: this is no plan" in done.stderr
    assert report["deserialised"] == 1


def _records(folder):
    manifest = (folder / PLAN_MANIFEST).read_text()
    (folder / PLAN_MANIFEST).unlink()
    files = {name: one.model_dump() for name, one in record_files(folder).items()}
    (folder / PLAN_MANIFEST).write_text(manifest)
    return files


def test_version_compatible_plans_run_on_newer_libraries(runs, engine, engine_photos):
    edit(version_compatible=True)(engine)
    done, report = runs(engine, engine_photos[0], DOUBLE_VERSION="10.15.1.0")
    assert done.returncode == 0, done.stderr
    assert report["host code"] == 1
    edit(version_compatible=False)(engine)
    done, report = runs(engine, engine_photos[0])
    assert done.returncode == 0, done.stderr
    assert "host code" not in report


@pytest.mark.unit
def test_flavours_are_pythons():
    """Names, titles and the oldest version stand in both languages."""
    names = set(typing.get_args(flavours.FlavourName))
    backends = re.search(r"set\(backends (.*?)\)", (CPP / "CMakeLists.txt").read_text())[1].split()
    assert set(backends) == names | {"onnxruntime"}
    source = (CPP / "src/flavour.hpp").read_text()
    told = re.findall(r'\*kFlavour = "(.*?)", \*kTitle = "(.*?)"', source)
    assert dict(told) == flavours._TITLES
    assert f"NV_TENSORRT_MAJOR >= {flavours.OLDEST_TENSORRT}," in source


@pytest.fixture(scope="module")
def rtx_plan(tiny_artifact, tmp_path_factory):
    """A plan that TensorRT for RTX really built."""
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    folder = tmp_path_factory.mktemp("plan") / "engine"
    words = ["build", str(tiny_artifact), "--runtime", "tensorrt-rtx", "--max-batch", "8"]
    assert run([*words, "-o", str(folder)]) == 0
    return folder


@pytest.mark.skipif(find_gpu() is not None, reason="its headers are not RTX's: nothing may run")
@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda f: None, 3, "needs an NVIDIA GPU and its driver; this machine has none"),
        (truncate, 4, "cut short or replaced"),
        (flip, 4, "SHA-256 differs"),
        (edit(flavour_version="1.0.0.1"), 4, "was built by tensorrt-rtx 1.0.0.1, here is 1."),
        (edit(flavour="tensorrt"), 4, "This plan is for tensorrt, not for tensorrt-rtx"),
    ],
)
def test_real_libraries_up_to_the_gpu(
    built_rtx, rtx_plan, engine_photos, tmp_path, change, code, says
):
    """A real plan, TensorRT for RTX's real library and CUDA's: as far as it goes without a GPU."""
    engine = tmp_path / "engine"
    shutil.copytree(rtx_plan, engine)
    change(engine)
    done = built_rtx.run(engine, engine_photos[0])
    assert done.returncode == code, done.stderr
    assert says in done.stderr
