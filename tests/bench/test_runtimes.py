"""Benching on TensorRT, with a stand-in for the engine that computes in ONNX Runtime."""

from typing import ClassVar

import pytest

from bench.results import SpeedReport
from bench.runtimes import RuntimeChoice
from engines.gpu import Gpu
from engines.onnx_runtime import BoundBatch, OnnxRuntime
from ptame_deploy.artifacts import TensorRecord
from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.integration


class Engine(OnnxRuntime):
    """What `TensorRtRuntime` would be: buffers elsewhere, and a largest batch."""

    opened: ClassVar[list] = []

    def __init__(self, plan, flavour, memory):
        path, profile = plan
        super().__init__(path)
        self.profile = profile
        self.opened.append((path.name, profile.opt_batch))

    copies = True
    description = "TensorRT for RTX 1.0, a GPU"

    def run(self, inputs):
        assert len(inputs["image"]) <= self.profile.max_batch
        return super().run(inputs)

    def stage(self, inputs):
        return BoundBatch(self._session, self._outputs, inputs, "cpu")


@pytest.fixture
def engines(monkeypatch):
    """Engines that were built, by graph and batch size."""
    pytest.importorskip("tensorrt_rtx", reason="extra: rtx")
    monkeypatch.setattr(Engine, "opened", [])
    monkeypatch.setattr("engines.gpu.find_gpu", lambda: Gpu("A GPU", "8.9", "13.0"))
    monkeypatch.setattr(
        "engines.tensorrt.engine_builder.build_engine",
        lambda graph, inputs, flavour, options: (graph, options.profile),
    )
    monkeypatch.setattr("engines.tensorrt.runtime.TensorRtRuntime", Engine)
    monkeypatch.setattr("engines.open_memory.open_device_memory", lambda: None)
    return Engine.opened


def test_nothing_is_built_for_a_gpu_that_runs_no_engine(
    engines, tiny_artifact, monkeypatch, capsys
):
    monkeypatch.setattr("engines.gpu.find_gpu", lambda: Gpu("NVIDIA H100", "9.0", "13.0"))
    assert run(["bench", str(tiny_artifact), "--runtime", "tensorrt-rtx"]) == 3
    assert "does not run on NVIDIA H100" in capsys.readouterr().err
    assert not engines


def test_engines_are_built_for_each_batch_and_transfers_are_shown_apart(
    engines, tiny_artifact, tmp_path, capsys
):
    path = tmp_path / "b.json"
    arguments = ["bench", str(tiny_artifact), "--runtime", "tensorrt-rtx", "--batch", "1,4"]
    arguments += ["--seconds", "0.02", "--iterations", "2", "--rise-masks", "10"]
    assert run([*arguments, "--json", str(path)]) == 0
    graphs = ("classifier.onnx", "model.onnx")
    assert sorted(set(engines)) == sorted((graph, batch) for graph in graphs for batch in (1, 4))
    assert len(engines) == 4  # each once, RISE's last and smaller batch of masks included
    report = SpeedReport.model_validate_json(path.read_text())
    assert report.runtime == Engine.description
    assert report.transfers.startswith("measured apart")
    for name in ("classifier alone", "fused graph"):
        reading = report.reading(name, 4)
        assert reading.transfers.upload_ms > 0
        assert reading.transfers.download_ms > 0
        assert reading.throughput.images_per_s > 0
        assert reading.memory is None
        assert "ONNX Runtime's CPU provider only" in reading.reason
    assert report.rise.masks == 10
    said = capsys.readouterr().out
    assert "fused graph, batch 4: " in said
    assert "ms to the device" in said


def test_an_engines_rate_counts_its_transfers(engines, tiny_artifact, monkeypatch):
    """A caller waits for the copies too; the latency's row does not."""
    steps = []
    for step in ("upload", "compute", "download"):
        original = getattr(BoundBatch, step)

        def counted(self, original=original, step=step):
            steps.append(step)
            return original(self)

        monkeypatch.setattr(BoundBatch, step, counted)
    arguments = ["bench", str(tiny_artifact), "--runtime", "tensorrt-rtx", "--batch", "1"]
    arguments += ["--seconds", "0.01", "--iterations", "1", "--rise-masks", "0"]
    assert run([*arguments, "--mode", "latency"]) == 0
    copies = 2 * 21  # two rows, twenty counted rounds and one that is not
    assert steps.count("upload") == steps.count("download") == copies
    assert steps.count("compute") > copies
    steps.clear()
    assert run([*arguments, "--mode", "throughput"]) == 0
    assert steps.count("upload") == steps.count("compute") == steps.count("download")


def test_a_runtime_that_has_no_providers_says_so():
    with pytest.raises(InvalidInputError, match="not for tensorrt-rtx"):
        RuntimeChoice(name="tensorrt-rtx", provider="cuda").check()
    with pytest.raises(InvalidInputError, match="cpu or cuda"):
        RuntimeChoice(name="pytorch", provider="tensorrt").check()
    RuntimeChoice().check()


def test_pytorch_runs_no_graph(tiny_artifact):
    record = TensorRecord(name="image", dtype="float32", shape=["batch", 3, 64, 64])
    with pytest.raises(InvalidInputError, match="--backbone"):
        RuntimeChoice(name="pytorch").open_graph(tiny_artifact / "model.onnx", [record])


@pytest.mark.parametrize(
    ("choice", "label"),
    [
        (RuntimeChoice(), "ONNX Runtime cpu"),
        (RuntimeChoice(name="tensorrt"), "tensorrt"),
        (
            RuntimeChoice(name="pytorch", torch_mode="compile", torch_precision="bf16"),
            "PyTorch cpu, compile, bf16",
        ),
    ],
)
def test_labels(choice, label):
    assert choice.label == label
