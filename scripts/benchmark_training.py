"""The committed benchmark of training: one step of the masking loss, in two forms.

What `make bench-train` runs: ResNet-50 with the paper's auxiliary, a batch of 32, random weights
(they change no speed). The fast form computes the maps of the batch's classes alone, asks the
classifier in chunks whose activations are forgotten at once, and has the frozen networks'
BatchNorms folded. The plain form is the paper's words: the maps of all classes, the batch as a
whole, the networks as they are. Writes one JSON; exit 1 where a figure is missed: both forms'
losses equal within 1e-5, the fast form at least twice as fast and at most half as large.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.device import describe_device
from bench.memory import reset_peak, resident_bytes
from bench.suite import exit_code
from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.cli import console
from ptame_deploy.errors import CheckFailedError
from ptame_deploy.explainer import start_explainer
from ptame_deploy.provenance import Provenance
from ptame_deploy.sources.load import load_backbone
from ptame_deploy.storage import write_text
from trainer.loss_weights import LOSSES
from trainer.module import ExplainerModule, OptimiserSettings

BACKBONE, AUXILIARY = "resnet50", "resnet18"
FASTER, SMALLER, EQUAL = 2.0, 0.5, 1e-5


class PlainModule(ExplainerModule):
    """The form that is compared with: maps of all classes, of which the batch's are picked."""

    folds = False

    @staticmethod
    def _chunk(images: Tensor) -> int:
        return len(images)

    def masks(self, features: Sequence[Tensor], classes: Tensor) -> Tensor:
        """See `ExplainerModule.masks`."""
        return self.explainer.all_class_maps(features).sigmoid()[:, classes].float()


FORMS = {"fast": ExplainerModule, "plain": PlainModule}


class Steps:
    """One form's training, step by step on the same images."""

    def __init__(self, form: str, batch: int, seed: int) -> None:
        backbone = load_backbone(BACKBONE, weights="random", seed=seed)
        auxiliary = load_auxiliary(AUXILIARY, weights="random", seed=seed)
        explainer, _ = start_explainer(auxiliary, backbone.num_classes, backbone.class_names)
        loss = LOSSES[BACKBONE]
        settings = OptimiserSettings(1e-3, loss.weight_decay, total_steps=1000)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        module = FORMS[form](backbone, auxiliary, explainer, loss.weights, settings)
        self.module = module.to(self.device)
        self.module.train()
        self.optimiser = self.module.configure_optimizers()["optimizer"]
        generator = torch.Generator().manual_seed(seed)
        size = backbone.preprocessing.input_size
        self.images = torch.rand(batch, 3, *size, generator=generator).to(self.device)

    def take(self) -> tuple[float, float]:
        """Take a step; returns its loss and its seconds."""
        began = time.perf_counter()
        terms = self.module.compute_loss(self.images)
        terms.total.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return terms.total.item(), time.perf_counter() - began


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("bench-work/bench-training.json"))
    parser.add_argument("--memory-of", choices=FORMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        sys.stdout.write(json.dumps(_memory(arguments.memory_of, arguments.batch, arguments.seed)))
        return 0
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    console.info(f"{BACKBONE} with {AUXILIARY}, batch {arguments.batch}: memory of a step ...")
    memory = {form: _memory_of_a_process(form, arguments) for form in FORMS}
    steps = {form: Steps(form, arguments.batch, arguments.seed) for form in FORMS}
    losses: dict[str, list[float]] = {form: [] for form in FORMS}
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for number in range(arguments.rounds + 1):  # the first one warms up
        for form, training in steps.items():
            loss, spent = training.take()
            losses[form].append(loss)
            if number:
                seconds[form].append(spent)
        console.info(f"  round {number} of {arguments.rounds}")
    pairs = list(zip(seconds["plain"], seconds["fast"], strict=True))
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    smaller = memory["fast"] / memory["plain"]
    # Of the first step, before which both forms have the same weights: rounding grows by steps.
    apart = abs(losses["fast"][0] - losses["plain"][0])
    report = {
        "provenance": Provenance.here(seed=arguments.seed).model_dump(mode="json"),
        "device": describe_device().model_dump(mode="json"),
        "backbone": BACKBONE,
        "auxiliary": AUXILIARY,
        "weights": "random",
        "batch": arguments.batch,
        "losses": losses,
        "seconds": seconds,
        "peak_mb": memory,
        "times_faster": ratio,
        "memory_ratio": smaller,
        "first_loss_difference": apart,
    }
    write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    console.result(
        f"The fast form takes {statistics.median(seconds['fast']):.2f} s a step, {ratio:.2f} times "
        f"faster; {memory['fast']:.0f} MB, {smaller:.2f} of the other's; losses apart {apart:.1e}"
    )
    console.result(f"Wrote {arguments.json}")
    if ratio < FASTER or smaller > SMALLER or apart > EQUAL:
        message = f"Expected >= {FASTER} times, <= {SMALLER} of the memory, <= {EQUAL} apart."
        raise CheckFailedError(message)


def _memory_of_a_process(form: str, arguments: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--memory-of", form]
    command += ["--batch", str(arguments.batch), "--seed", str(arguments.seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]
        message = f"The process that measures the memory of the {form} form failed: {last}"
        raise CheckFailedError(message)
    return float(json.loads(done.stdout))


def _memory(form: str, batch: int, seed: int) -> float:
    """Return the peak in MB (1e6 bytes) of two steps, above what was held before the first."""
    training = Steps(form, batch, seed)
    if training.device.type == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            training.take()
        return (torch.cuda.max_memory_allocated() - held) / 1e6
    held = resident_bytes("VmRSS")
    reset_peak()
    for _ in range(2):
        training.take()
    return (resident_bytes("VmHWM") - held) / 1e6


if __name__ == "__main__":
    sys.exit(main())
