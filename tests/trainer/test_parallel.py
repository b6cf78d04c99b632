import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from trainer.parallel import SyncedBatchNorm2d, gather_rows, total_count, world_size

pytestmark = pytest.mark.integration


def command(photos, tiny_file, out, *options):
    words = [sys.executable, "-m", "ptame_deploy", "train", photos]
    words += ["--backbone", f"{tiny_file}:build", "--preset", "paper", "--input-size", "64"]
    words += ["--resize", "72", "--auxiliary", "mobilenet_v3_small", "--auxiliary-weights"]
    words += ["random", "--auxiliary-size", "64", "--start", "random", "--learning-rate", "1e-2"]
    words += ["--batch-size", "3", "--accumulate", "2", "--epochs", "2"]
    words += ["--max-steps", "3", "--validation", "3"]
    words += ["--allow-no-gain", "-o", out, *options]
    return [str(word) for word in words]


@pytest.fixture
def photos(square_photos, tmp_path):
    """Twelve photos, and two that one of the processes finds broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in square_photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("03b.png", "06b.png"):
        (folder / name).write_text("no photo")
    return folder


def test_two_processes_train_as_one_does(photos, tiny_file, tmp_path):
    outs = {}
    for devices in ("1", "2"):
        out = outs[devices] = tmp_path / devices
        done = subprocess.run(
            command(photos, tiny_file, out, "--devices", devices),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Trained in") == 1  # one of them speaks
        assert done.stderr.count("Training on 11 photos, 3 steps") == 1
    one, two = (load_file(out / "explainer.safetensors") for out in outs.values())
    for name, value in one.items():
        assert torch.allclose(value.float(), two[name].float(), atol=1e-5), name
    moved = one["branches.0.norm.running_mean"]
    assert moved.abs().max() > 1e-3
    single, double = (
        json.loads((out / "explainer.json").read_text())["training"] for out in outs.values()
    )
    assert (single["devices"], double["devices"]) == (1, 2)
    # Bad photos are named whichever process meets them.
    assert single["skipped_photos"] == double["skipped_photos"] == 2
    assert sorted(single["skipped"]) == sorted(double["skipped"])
    for step in ("first_step", "last_step"):
        assert single[step] == pytest.approx(double[step], abs=1e-5, rel=1e-5)
    for before, after in zip(single["validation"], double["validation"], strict=True):
        assert before["step"] == after["step"]
        for row, other in zip(before["measures"], after["measures"], strict=True):
            assert row["average_drop"] == pytest.approx(other["average_drop"], abs=1e-3)


def test_a_process_that_finds_too_many_bad_photos_ends_all(photos, tiny_file, tmp_path):
    done = subprocess.run(
        command(photos, tiny_file, tmp_path / "out", "--devices", "2", "--max-bad", "0"),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--max-bad allows" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "explainer.json").exists()


@pytest.mark.unit
def test_alone_nothing_is_gathered():
    rows = torch.arange(6.0).view(3, 2)
    assert world_size() == 1
    assert gather_rows(rows)[0] is rows
    assert total_count(3, torch.device("cpu")) == 3
    norm, plain = SyncedBatchNorm2d(4), torch.nn.BatchNorm2d(4)
    features = torch.randn(5, 4, 3, 3)
    assert torch.equal(norm(features), plain(features))
    assert torch.equal(norm.running_var, plain.running_var)
