"""``ptame inspect --layers``, over a double of TensorRT's inspector."""

import json
import shutil

import pytest

from engines.plan import PLAN_MANIFEST
from engines.tensorrt.layers import Layer, read_layers
from engines.tensorrt.runtime import TensorRtRuntime
from ptame_deploy.cli import run
from ptame_deploy.errors import CheckFailedError

# As TensorRT writes them: the documentation of its inspector.
DETAILED = json.dumps(
    {
        "Layers": [
            {
                "Name": "[conv1] + relu",
                "LayerType": "CaskConvolution",
                "Outputs": [
                    {"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}
                ],
            },
            {
                "Name": "x" * 300,
                "LayerType": "Reformat",
                "Outputs": [
                    {"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"},
                    {"Format/Datatype": "Row major linear FP16 format"},
                    {"Format/Datatype": "Row major linear FP32 format"},
                ],
            },
            {"Name": "odd", "LayerType": "NoOp", "Outputs": [{"Format/Datatype": "N/A"}]},
            {"Name": "none", "LayerType": "Signal", "Outputs": []},
        ]
    }
)


@pytest.mark.unit
def test_layers_and_their_precisions(world, flavour, memory):
    world.layers = DETAILED
    runtime = TensorRtRuntime(b"plan", flavour, memory)
    assert read_layers(runtime.loaded) == [
        Layer("[conv1] + relu", "CaskConvolution", ("int8",)),
        Layer("x" * 300, "Reformat", ("fp16", "fp32")),
        Layer("odd", "NoOp", ("N/A",)),
        Layer("none", "Signal", ()),
    ]
    assert world.contexts == [{"image": (2, 3, 2, 2), "class_index": (2, 1)}]
    world.layers = json.dumps({"Layers": ["conv1 + relu"]})
    assert read_layers(runtime.loaded) == [Layer("conv1 + relu", "", ())]


@pytest.mark.unit
@pytest.mark.parametrize("text", ["", "{}", "[]", '{"Layers": [3]}', '{"Layers": [{}]}'])
def test_unknown_answers_of_the_inspector(world, flavour, memory, text):
    world.layers = text
    runtime = TensorRtRuntime(b"plan", flavour, memory)
    with pytest.raises(CheckFailedError, match="in an unknown form"):
        read_layers(runtime.loaded)


@pytest.fixture
def plan(plan_world, tiny_plan):
    plan_world(tiny_plan).layers = DETAILED
    return tiny_plan


@pytest.fixture
def bare(tiny_plan, tmp_path):
    shutil.copytree(tiny_plan, tmp_path / "bare")
    (tmp_path / "bare" / PLAN_MANIFEST).unlink()
    return tmp_path / "bare"


@pytest.mark.integration
def test_the_command_lists_layers(plan, capsys):
    assert run(["inspect", str(plan), "--layers"]) == 0
    said = capsys.readouterr().out
    assert "batch              1 to 4, tuned for 2" in said
    assert "layers             4; outputs: 1 int8, 1 fp16, 1 fp32, 1 N/A" in said
    assert "[conv1] + relu" in said
    assert "x" * 90 in said
    assert "x" * 101 not in said
    assert run(["inspect", str(plan), "--layers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        "name": "[conv1] + relu", "kind": "CaskConvolution", "precisions": ["int8"],
    }  # fmt: skip


@pytest.mark.integration
def test_without_a_gpu_the_manifest_and_a_hint(tiny_plan, capsys, monkeypatch):
    monkeypatch.setattr("engines.gpu.find_gpu", lambda: None)
    assert run(["inspect", str(tiny_plan)]) == 0
    assert "shown by --layers, which needs an NVIDIA GPU" in capsys.readouterr().out
    assert run(["inspect", str(tiny_plan), "--layers"]) == 3
    said = capsys.readouterr()
    assert not said.out  # nothing is told before what was asked for can be
    assert "needs an NVIDIA GPU" in said.err


@pytest.mark.integration
def test_graphs_have_no_layers(tiny_artifact, capsys):
    assert run(["inspect", str(tiny_artifact), "--layers"]) == 2
    assert "holds no engine: only that has layers" in capsys.readouterr().err


@pytest.mark.integration
def test_a_plan_without_json(plan, bare, capsys):
    assert run(["inspect", str(bare)]) == 2
    assert "--layers --trust" in capsys.readouterr().err
    assert run(["inspect", str(bare), "--trust"]) == 0
    assert "engine of which nothing is known" in capsys.readouterr().out
    assert run(["inspect", str(bare), "--trust", "--json"]) == 2
    assert "to print" in capsys.readouterr().err
    assert run(["inspect", str(bare), "--trust", "--layers"]) == 2
    assert "say --runtime" in capsys.readouterr().err
    arguments = ["inspect", str(bare), "--trust", "--layers", "--runtime", "tensorrt-rtx"]
    assert run(arguments) == 0
    assert "[conv1] + relu" in capsys.readouterr().out
