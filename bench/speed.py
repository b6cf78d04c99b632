"""One model's bench: classifier alone, fused graph, all-class form and RISE, in one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from bench.device import describe_device
from bench.graphs import BenchGraphs, compare_maps, make_inputs
from bench.memory import peak_memory
from bench.results import (
    Comparison,
    Contender,
    MapDifference,
    Memory,
    Reading,
    RiseReading,
    Settings,
    SpeedReport,
    Subject,
)
from bench.rise import Rise, RiseSettings
from bench.rise_timer import RiseTimer
from bench.timing import (
    Durations,
    Run,
    Sampling,
    measure_latency,
    measure_throughput,
    paired_ratio,
    summarise_latency,
    summarise_throughput,
)
from engines.onnx_runtime import OnnxRuntime
from engines.runtime import Runtime
from ptame_deploy.artifacts import GRAPH_FILE, Provenance
from ptame_deploy.errors import CheckFailedError, InvalidInputError, PtameError
from ptame_deploy.macs import count_macs

Mode = Literal["latency", "throughput", "both"]
ALONE, FUSED, ALL_CLASS = "classifier alone", "fused graph", "all-class form"
NO_TRANSFERS = "none: on the CPU the graph reads and writes the host's memory"


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how thoroughly.

    Attributes:
        batches: images a run.
        mode: latency (one run at a time), throughput (the queue kept full), or both.
        sampling: seconds, iterations, warm-up.
        rise_masks: masks of RISE, all of which are run; 0 leaves it out.
        threads: threads within an operator; 0 for one a core.
        memory: measure peak memory too.
        seed: of images and masks.
    """

    batches: Sequence[int] = (1, 8)
    mode: Mode = "both"
    sampling: Sampling = field(default_factory=Sampling)
    rise_masks: int = 1000
    threads: int = 0
    memory: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) < len(self.batches):
            message = f"Batch sizes must be different and at least 1, got {list(self.batches)}."
            raise InvalidInputError(message)
        if self.rise_masks < 0:
            message = f"The number of RISE masks cannot be negative, got {self.rise_masks}."
            raise InvalidInputError(message)


def bench_model(
    graphs: BenchGraphs,
    options: BenchOptions | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> SpeedReport:
    """Measure one model on ONNX Runtime's CPU provider.

    Args:
        graphs: what is compared.
        options: what to measure.
        say: called with a line before each part.

    Raises:
        InvalidInputError: the graphs do not take what was asked for.
        MissingRequirementError: ONNX Runtime is not there.
    """
    return _Bench(graphs, options or BenchOptions(), say).run()


class _Bench:
    """The state of one run: open graphs, and what was measured so far."""

    def __init__(
        self, graphs: BenchGraphs, options: BenchOptions, say: Callable[[str], None]
    ) -> None:
        self.graphs, self.options, self.say = graphs, options, say
        self.paths = {ALONE: graphs.classifier, FUSED: graphs.fused}
        if graphs.all_class is not None:
            self.paths[ALL_CLASS] = graphs.all_class
        self.lowered = {graph.name: graph for graph in graphs.lowered}
        self.paths |= {name: graph.path for name, graph in self.lowered.items()}
        self.readings: dict[str, list[Reading]] = {name: [] for name in self.paths}
        self.durations: dict[int, dict[str, Durations]] = {}
        self.warnings: list[str] = []
        self.macs = {name: self._macs(name) for name in self.paths if name not in self.lowered}
        self.macs |= dict.fromkeys(self.lowered, self.macs[FUSED])  # precision changes no count
        self.runtimes: dict[str, Runtime] = {
            name: OnnxRuntime(path, threads=options.threads) for name, path in self.paths.items()
        }

    def run(self) -> SpeedReport:
        graphs, options = self.graphs, self.options
        maps = self._maps()
        for batch in options.batches:
            self._measure_batch(batch)
        rise, rise_ratio = self._rise()
        comparisons = self._comparisons()
        if rise_ratio is not None:
            comparisons.append(rise_ratio)
        contenders = [
            Contender(
                name=name,
                status="measured",
                gmacs_per_image=self.macs[name],
                readings=self.readings[name],
                **self._precision(name),
            )
            for name in self.paths
        ]
        if ALL_CLASS not in self.paths:
            reason = graphs.all_class_reason or "not exported"
            contenders.append(Contender(name=ALL_CLASS, status="skipped", reason=reason))
        return SpeedReport(
            provenance=Provenance.here(seed=options.seed),
            device=describe_device(),
            runtime=self.runtimes[FUSED].description,
            transfers=NO_TRANSFERS,
            subject=_subject(graphs),
            settings=_settings(options),
            contenders=contenders,
            rise=rise,
            comparisons=comparisons,
            maps=maps,
            maps_reason=None if maps else graphs.all_class_reason,
            warnings=self.warnings,
        )

    def _precision(self, name: str) -> dict[str, Any]:
        graph = self.lowered.get(name)
        if graph is None:
            return {}
        record = graph.manifest.quantisation
        return {"precision": graph.manifest.precision, "drift": record and record.drift}

    def _macs(self, name: str) -> float | None:
        try:
            return count_macs(self.paths[name]) / 1e9
        except InvalidInputError as error:
            self.warnings.append(f"{name}: {error}")
            return None

    def _inputs(self, name: str, batch: int) -> dict[str, np.ndarray]:
        inputs = make_inputs(self.graphs.manifest, batch, seed=self.options.seed)
        return {"image": inputs["image"]} if name == ALONE else inputs

    def _call(self, name: str, batch: int) -> Run:
        return partial(self.runtimes[name].run, self._inputs(name, batch))

    def _maps(self) -> MapDifference | None:
        if ALL_CLASS not in self.paths:
            return None
        self.say("Comparing maps of the fast and the all-class form ...")
        found = compare_maps(self.runtimes[FUSED], self.runtimes[ALL_CLASS], self._inputs(FUSED, 8))
        if not found.equal:
            self.warnings.append(
                f"maps of the fused graph differ from the all-class form's by "
                f"{found.max_abs_difference:.1e} (tolerance {found.tolerance:g})"
            )
        return found

    def _measure_batch(self, batch: int) -> None:
        options, sampling = self.options, self.options.sampling
        calls = {name: self._call(name, batch) for name in self.paths}
        rates = {}
        if options.mode in ("latency", "both"):
            self.say(f"Latency at batch {batch} ...")
            self.durations[batch] = measure_latency(calls, sampling)
        if options.mode in ("throughput", "both"):
            self.say(f"Throughput at batch {batch} ...")
            rates = measure_throughput(calls, sampling)
        if options.memory:
            self.say(f"Peak memory at batch {batch} ...")
        for name in self.paths:
            memory, reason = self._memory(name, batch)
            timed = self.durations.get(batch, {}).get(name)
            latency = summarise_latency(timed.all, batch) if timed else None
            throughput = (
                summarise_throughput(rates[name], batch, sampling.streams)
                if name in rates
                else None
            )
            for kind, figure in (("latency", latency), ("throughput", throughput)):
                if figure is not None and figure.unstable:
                    self.warnings.append(
                        f"{name}, batch {batch}: {kind} varies by {figure.variation_percent:.1f} %"
                    )
            self.readings[name].append(
                Reading(
                    batch=batch,
                    latency=latency,
                    throughput=throughput,
                    memory=memory,
                    reason=reason,
                )
            )

    def _memory(self, name: str, batch: int) -> tuple[Memory | None, str | None]:
        if not self.options.memory:
            return None, "memory: not asked for"
        try:
            inputs = self._inputs(name, batch)
            return peak_memory(self.paths[name], inputs, threads=self.options.threads), None
        except PtameError as error:
            return None, f"memory: {error}"

    def _comparisons(self) -> list[Comparison]:
        found = []
        for batch, durations in self.durations.items():
            found.append(self._compare("fused/alone", batch, durations, FUSED, ALONE))
            if ALL_CLASS in durations:
                found.append(self._compare("all-class/fused", batch, durations, ALL_CLASS, FUSED))
            for lowered in self.lowered:
                ratio = paired_ratio(durations[FUSED], durations[lowered])
                found.append(Comparison(name="fp32/lowered", batch=batch, of=lowered, time=ratio))
        return found

    def _compare(
        self,
        name: Literal["fused/alone", "all-class/fused"],
        batch: int,
        durations: dict[str, Durations],
        over: str,
        under: str,
    ) -> Comparison:
        ratio = paired_ratio(durations[over], durations[under])
        above, below = self.macs[over], self.macs[under]
        macs = above / below if above and below else None
        return Comparison(
            name=name,
            batch=batch,
            time=ratio,
            macs=macs,
            time_over_macs=ratio.value / macs if macs else None,
        )

    def _best_batch(self) -> int:
        """Return the batch at which the classifier alone answers most images a second."""

        def images_per_s(reading: Reading) -> float:
            figures = (reading.throughput, reading.latency)
            return next(figure.images_per_s for figure in figures if figure is not None)

        return max(self.readings[ALONE], key=images_per_s).batch

    def _rise(self) -> tuple[RiseReading, Comparison | None]:
        if self.options.rise_masks == 0:
            return RiseReading(status="skipped", reason="not asked for (0 masks)"), None
        batch, masks = self._best_batch(), self.options.rise_masks
        self.say(f"RISE with {masks} masks at batch {batch} ...")
        settings = RiseSettings(masks=masks, batch=batch, seed=self.options.seed)
        image = self._inputs(ALONE, 1)["image"]
        logits = self.runtimes[ALONE].run({"image": image})["logits"]
        if not np.isfinite(logits).all():
            message = "The classifier answers with NaN or infinity: RISE cannot weigh by it."
            raise CheckFailedError(message)
        timer = RiseTimer(self._call(FUSED, 1), self._call(ALONE, batch), settings)
        timer.start()
        rise = Rise(self.runtimes[ALONE], settings)
        rise(image, logits.argmax(axis=1), advance=timer.advance)
        gmacs = self.macs[ALONE]
        reading = RiseReading(
            status="measured",
            masks=masks,
            batch=batch,
            gmacs_per_image=None if gmacs is None else gmacs * masks,
            total_s=timer.total_s,
            classifier_pass_ms=timer.pass_s * 1e3,
            fused_batch1_ms=timer.fused_s * 1e3,
            overhead_over_classifier=timer.overhead,
        )
        return reading, Comparison(name="RISE/fused", batch=1, time=timer.ratio)


def _subject(graphs: BenchGraphs) -> Subject:
    manifest = graphs.manifest
    return Subject(
        classifier=manifest.classifier.name,
        auxiliary=manifest.explainer.auxiliary,
        auxiliary_input_size=manifest.explainer.auxiliary_input_size,
        input_size=manifest.preprocessing.input_size,
        classes=manifest.classifier.num_classes,
        explained_classes=manifest.top_k or 1,
        precision=manifest.precision,
        graph_sha256=manifest.files[GRAPH_FILE].sha256,
        cautions=manifest.cautions,
    )


def _settings(options: BenchOptions) -> Settings:
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
        threads=options.threads,
        rise_masks=options.rise_masks,
        seed=options.seed,
    )
