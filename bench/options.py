"""What a bench measures and how thoroughly, as asked for and as its JSON tells."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.results import Settings, Subject
from bench.timing import Sampling
from ptame_deploy.artifacts import GRAPH_FILE, GraphManifest
from ptame_deploy.errors import InvalidInputError

LARGEST_BATCH = 4096
Mode = Literal["latency", "throughput", "both"]


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how thoroughly.

    Attributes:
        batches: images a run.
        mode: latency (one run at a time), throughput (the queue kept full), or both.
        sampling: seconds, iterations, warm-up.
        rise_masks: masks of RISE, all of which are run; 0 leaves it out.
        memory: measure peak memory too.
        seed: of images and masks.
    """

    batches: Sequence[int] = (1, 8)
    mode: Mode = "both"
    sampling: Sampling = field(default_factory=Sampling)
    rise_masks: int = 1000
    memory: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) < len(self.batches):
            message = f"Batch sizes must be different and at least 1, got {list(self.batches)}."
            raise InvalidInputError(message)
        if max(self.batches) > LARGEST_BATCH:
            message = f"Batch sizes end at {LARGEST_BATCH}, got {max(self.batches)}."
            raise InvalidInputError(message)
        if self.rise_masks < 0:
            message = f"The number of RISE masks cannot be negative, got {self.rise_masks}."
            raise InvalidInputError(message)


def describe_subject(manifest: GraphManifest, precision: str) -> Subject:
    """Say what is measured."""
    record = manifest.quantisation
    return Subject(
        classifier=manifest.classifier.name,
        auxiliary=manifest.explainer.auxiliary,
        auxiliary_input_sizes=manifest.explainer.auxiliary_input_sizes,
        input_size=manifest.preprocessing.input_size,
        classes=manifest.classifier.num_classes,
        explained_classes=manifest.top_k or 1,
        precision=precision,
        form=record.target if record is not None else None,
        graph_sha256=manifest.files[GRAPH_FILE].sha256,
        cautions=manifest.cautions,
    )


def describe_settings(options: BenchOptions, threads: int) -> Settings:
    """Say how it is measured."""
    sampling = options.sampling
    return Settings(
        mode=options.mode,
        batches=list(options.batches),
        seconds=sampling.seconds,
        iterations=sampling.iterations,
        warmup_seconds=sampling.warmup_seconds,
        warmup_runs=sampling.warmup_runs,
        rounds=sampling.rounds,
        streams=sampling.streams,
        threads=threads,
        rise_masks=options.rise_masks,
        seed=options.seed,
    )
