"""A plan is deserialised only after everything that can be known of it was checked."""

import json
import shutil
import sys
import types

import pytest

from engines import open_memory
from engines.gpu import Gpu
from engines.plan import PLAN_FILE, PLAN_MANIFEST
from engines.tensorrt.open_plan import open_plan
from ptame_deploy.errors import ArtifactError, InvalidInputError, MissingRequirementError

pytestmark = pytest.mark.integration


@pytest.fixture
def copy(tiny_plan, tmp_path):
    shutil.copytree(tiny_plan, tmp_path / "plan")
    return tmp_path / "plan"


@pytest.fixture
def world(plan_world, tiny_plan):
    return plan_world(tiny_plan)


def change(directory, **fields):
    path = directory / PLAN_MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_plan_that_fits_is_opened(world, tiny_plan):
    manifest, runtime = open_plan(tiny_plan)
    assert manifest.precision == "fp32"
    assert world.deserialised == [(tiny_plan / PLAN_FILE).read_bytes()]
    assert world.host_code == [False]
    assert runtime.description.endswith("RTX 4090")


def test_host_code_is_allowed_in_version_compatible_plans(world, copy):
    change(copy, version_compatible=True)
    open_plan(copy)
    assert world.host_code == [True]


def cut(directory):
    path = directory / PLAN_FILE
    path.write_bytes(path.read_bytes()[:-1])


def flip(directory):
    data = bytearray((directory / PLAN_FILE).read_bytes())
    data[len(data) // 3] ^= 1
    (directory / PLAN_FILE).write_bytes(data)


DAMAGES = {
    "cut short": (cut, ArtifactError, "cut short or replaced"),
    "one byte": (flip, ArtifactError, "SHA-256 differs"),
    "no plan": (lambda d: (d / PLAN_FILE).unlink(), ArtifactError, "is missing"),
    "no JSON": (lambda d: (d / PLAN_MANIFEST).unlink(), InvalidInputError, "--layers --trust"),
    "broken JSON": (lambda d: (d / PLAN_MANIFEST).write_text("{"), ArtifactError, "as JSON"),
    "unknown field": (lambda d: change(d, more=1), ArtifactError, "not a valid manifest"),
    "other flavour": (
        lambda d: change(d, flavour="tensorrt"), MissingRequirementError, "tensorrt cannot be used",
    ),
    "other version": (
        lambda d: change(d, flavour_version="1.2.3"), ArtifactError, r"built by .* 1\.2\.3",
    ),
    "other GPU": (
        lambda d: change(d, compute_capabilities=["7.5"]), ArtifactError, "RTX 4090 has 8.9",
    ),
    "old driver": (
        lambda d: change(d, driver="14.0"), ArtifactError, r"driver for CUDA 14\.0, here it is 13",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_fit_never_reaches_the_runtime(world, copy, damage):
    break_it, kind, told = DAMAGES[damage]
    break_it(copy)
    with pytest.raises(kind, match=told):
        open_plan(copy)
    assert not world.deserialised


def test_nor_without_a_gpu(world, tiny_plan, monkeypatch):
    monkeypatch.setattr("engines.gpu.find_gpu", lambda: None)
    with pytest.raises(MissingRequirementError, match="Running a plan needs an NVIDIA GPU"):
        open_plan(tiny_plan)
    assert not world.deserialised


def test_nor_without_tensorrt(world, tiny_plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingRequirementError, match="tensorrt-rtx cannot be used here"):
        open_plan(tiny_plan)
    assert not world.deserialised


def test_nor_without_a_package_for_memory(world, gpu, tiny_plan, monkeypatch):
    gpu.failures["cudaGetDeviceCount"] = "cudaErrorInsufficientDriver"
    with pytest.raises(MissingRequirementError, match="cudaErrorInsufficientDriver"):
        open_plan(tiny_plan)
    monkeypatch.setattr(open_memory, "installed_memories", list)
    with pytest.raises(MissingRequirementError, match="needs a package for GPU memory"):
        open_plan(tiny_plan)
    assert not world.deserialised


def test_nor_in_the_wrong_tensorrt(world, tiny_plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", types.SimpleNamespace(__version__="10.9.0"))
    with pytest.raises(ArtifactError, match="is for tensorrt-rtx, not for tensorrt:"):
        open_plan(tiny_plan, flavour="tensorrt")
    assert not world.deserialised


def test_nor_when_it_is_replaced_after_it_was_hashed(world, copy, monkeypatch):
    def replace(what):
        flip(copy)
        return Gpu("RTX 4090", "8.9", "13.0")

    monkeypatch.setattr("engines.tensorrt.open_plan.require_gpu", replace)
    with pytest.raises(ArtifactError, match="was replaced while"):
        open_plan(copy)
    assert not world.deserialised


def test_a_trusted_plan_without_json_needs_the_name_of_its_tensorrt(world, copy):
    (copy / PLAN_MANIFEST).unlink()
    with pytest.raises(InvalidInputError, match="say --runtime tensorrt or tensorrt-rtx"):
        open_plan(copy, trust=True)
    assert not world.deserialised
    manifest, runtime = open_plan(copy, trust=True, flavour="tensorrt-rtx")
    assert manifest is None
    assert runtime.batches == (1, 4)
    assert world.host_code == [False]


@pytest.mark.parametrize("damage", ["cut short", "one byte"])
def test_trust_does_not_excuse_a_plan_that_is_not_its_jsons(world, copy, damage):
    DAMAGES[damage][0](copy)
    with pytest.raises(ArtifactError):
        open_plan(copy, trust=True, flavour="tensorrt-rtx")
    assert not world.deserialised


def test_a_plan_with_another_border_than_its_json(world, tiny_plan):
    world.batches = (1, 2, 8)
    with pytest.raises(ArtifactError, match=r"batches of \(1, 8\), its manifest says \(1, 4\)"):
        open_plan(tiny_plan)
    world.tensors[1].name = "other"
    with pytest.raises(ArtifactError, match=r"The plan has .*'other'"):
        open_plan(tiny_plan)
