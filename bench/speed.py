"""One model's bench: classifier alone, fused graph, all-class form and RISE, in one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.comparisons import compare_rows
from bench.device import describe_device
from bench.graphs import (
    HALF_PRECISION_TOLERANCE,
    MAP_TOLERANCE,
    Role,
    compare_maps,
    make_inputs,
)
from bench.memory import peak_memory
from bench.options import BenchOptions, describe_settings, describe_subject
from bench.results import (
    Comparison,
    Contender,
    Latency,
    MapDifference,
    Memory,
    Reading,
    RiseReading,
    SpeedReport,
    Throughput,
    Transfers,
)
from bench.rise_timer import time_rise
from bench.timing import (
    Durations,
    Run,
    measure_latency,
    measure_steps,
    measure_throughput,
    summarise_latency,
    summarise_throughput,
)
from bench.variants import ALL_CLASS, ALONE, FUSED, Variant, check_variants
from engines.runtime import Arrays, Runtime, Staged
from ptame_deploy.errors import InvalidInputError, PtameError
from ptame_deploy.macs import count_macs
from ptame_deploy.provenance import Provenance

NO_TRANSFERS = "none: on the CPU the graph reads and writes the host's memory"
TRANSFERS = "measured apart, not in the latency; throughput includes them"
TRANSFER_RUNS = 20


def bench_model(
    variants: Sequence[Variant],
    options: BenchOptions | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> SpeedReport:
    """Measure one model, in one precision or several, on one runtime or several.

    Args:
        variants: the one that the bench is about, which RISE runs on too; then others that take
            turns with it.
        options: what to measure.
        say: called with a line before each part.

    Raises:
        InvalidInputError: the graphs or runtimes do not take what was asked for.
        MissingRequirementError: a runtime is not there.
    """
    check_variants(variants)
    return _Bench(variants, options or BenchOptions(), say).run()


@dataclass(frozen=True)
class _Row:
    variant: Variant
    role: Role
    runtime: Runtime
    gmacs: float | None


class _Bench:
    """The state of one run: open networks, and what was measured so far."""

    def __init__(
        self, variants: Sequence[Variant], options: BenchOptions, say: Callable[[str], None]
    ) -> None:
        self.variants, self.options, self.say = variants, options, say
        self.subject = variants[0]
        self.warnings: list[str] = []
        self.inputs: dict[int, Arrays] = {}  # by batch size; every row takes the same
        gmacs = {role: self._gmacs(role) for role in self.subject.roles()}
        self.rows = {
            variant.row(role): _Row(variant, role, variant.open(role, say), gmacs[role])
            for variant in variants
            for role in variant.roles()
        }
        self.readings: dict[str, list[Reading]] = {name: [] for name in self.rows}
        self.durations: dict[int, dict[str, Durations]] = {}

    def run(self) -> SpeedReport:
        graphs, options = self.subject.graphs, self.options
        maps = self._maps()
        for batch in options.batches:
            self._measure_batch(batch)
        gmacs = {name: row.gmacs for name, row in self.rows.items()}
        comparisons = compare_rows(self.variants, self.durations, gmacs)
        rise = RiseReading(status="skipped", reason="not asked for (0 masks)")
        if options.rise_masks:
            rise, ratio = self._rise(options.rise_masks)
            comparisons.append(ratio)
        contenders = [self._contender(name) for name in self.rows]
        if ALL_CLASS not in self.rows:
            reason = graphs.all_class_reason or "not exported"
            contenders.append(Contender(name=ALL_CLASS, status="skipped", reason=reason))
        copies = self.rows[FUSED].runtime.copies
        return SpeedReport(
            provenance=Provenance.here(seed=options.seed),
            device=describe_device(),
            runtime=self.rows[FUSED].runtime.description,
            transfers=TRANSFERS if copies else NO_TRANSFERS,
            subject=describe_subject(graphs.manifest, self.subject.precision),
            settings=describe_settings(options, self.subject.choice.threads),
            contenders=contenders,
            rise=rise,
            comparisons=comparisons,
            maps=maps,
            maps_reason=None if maps else graphs.all_class_reason,
            warnings=self.warnings,
        )

    def _contender(self, name: str) -> Contender:
        row = self.rows[name]
        own = row.runtime.description
        return Contender(
            name=name,
            status="measured",
            gmacs_per_image=row.gmacs,
            readings=self.readings[name],
            runtime=own if own != self.rows[FUSED].runtime.description else None,
            precision=row.variant.precision,
            drift=row.variant.drift if row.role == "fused" else None,
            drift_on=row.variant.drift_on if row.role == "fused" else None,
        )

    def _gmacs(self, role: Role) -> float | None:
        """Count multiply-adds; neither precision nor runtime changes them."""
        try:
            return count_macs(self.subject.path(role)) / 1e9
        except InvalidInputError as error:
            self.warnings.append(f"{self.subject.row(role)}: {error}")
            return None

    def _inputs(self, name: str, batch: int) -> Arrays:
        if batch not in self.inputs:
            manifest, seed = self.subject.graphs.manifest, self.options.seed
            self.inputs[batch] = make_inputs(manifest, batch, seed=seed)
        inputs = self.inputs[batch]
        return {"image": inputs["image"]} if self.rows[name].role == "alone" else inputs

    def _stage(self, name: str, batch: int) -> Staged:
        return self.rows[name].runtime.stage(self._inputs(name, batch))

    def _maps(self) -> MapDifference | None:
        if ALL_CLASS not in self.rows:
            return None
        self.say("Comparing maps of the fast and the all-class form ...")
        fast, reference = self.rows[FUSED].runtime, self.rows[ALL_CLASS].runtime
        exact = self.subject.precision == "fp32"
        tolerance = MAP_TOLERANCE if exact else HALF_PRECISION_TOLERANCE
        found = compare_maps(fast, reference, self._inputs(FUSED, 8), tolerance)
        if not found.equal:
            self.warnings.append(
                f"maps of the fused graph differ from the all-class form's by "
                f"{found.max_abs_difference:.1e} (tolerance {found.tolerance:g})"
            )
        return found

    def _measure_batch(self, batch: int) -> None:
        options, sampling = self.options, self.options.sampling
        staged = {name: self._stage(name, batch) for name in self.rows}
        rates: dict[str, list[float]] = {}
        if options.mode in ("latency", "both"):
            self.say(f"Latency at batch {batch} ...")
            computing = {name: each.compute for name, each in staged.items()}
            self.durations[batch] = measure_latency(computing, sampling)
        if options.mode in ("throughput", "both"):
            self.say(f"Throughput at batch {batch} ...")
            calls = {
                name: [self._whole(name, each), *self._more_callers(name, batch)]
                for name, each in staged.items()
            }
            rates = measure_throughput(calls, sampling)
        if options.memory:
            self.say(f"Peak memory at batch {batch} ...")
        for name, each in staged.items():
            memory, reason = self._memory(name, batch)
            timed = self.durations.get(batch, {}).get(name)
            latency = summarise_latency(timed.all, batch) if timed else None
            throughput = (
                summarise_throughput(rates[name], batch, sampling.streams)
                if name in rates
                else None
            )
            self._warn_of_noise(name, batch, latency, throughput)
            self.readings[name].append(
                Reading(
                    batch=batch,
                    latency=latency,
                    throughput=throughput,
                    memory=memory,
                    transfers=self._transfers(name, each),
                    reason=reason,
                )
            )

    def _more_callers(self, name: str, batch: int) -> list[Run]:
        streams = self.options.sampling.streams
        return [self._whole(name, self._stage(name, batch)) for _ in range(1, streams)]

    def _whole(self, name: str, staged: Staged) -> Run:
        """Return a run as a caller sees it: transfers included where there are any."""
        if not self.rows[name].runtime.copies:
            return staged.compute

        def run() -> None:
            staged.upload()
            staged.compute()
            staged.download()

        return run

    def _transfers(self, name: str, staged: Staged) -> Transfers | None:
        if not self.rows[name].runtime.copies:
            return None
        steps: dict[str, Run] = {
            "upload": staged.upload, "compute": staged.compute, "download": staged.download,
        }  # fmt: skip
        found = measure_steps(steps, TRANSFER_RUNS)
        return Transfers(upload_ms=found["upload"] * 1e3, download_ms=found["download"] * 1e3)

    def _warn_of_noise(
        self, name: str, batch: int, latency: Latency | None, throughput: Throughput | None
    ) -> None:
        for kind, figure in (("latency", latency), ("throughput", throughput)):
            if figure is not None and figure.unstable:
                self.warnings.append(
                    f"{name}, batch {batch}: {kind} varies by {figure.variation_percent:.1f} %"
                )

    def _memory(self, name: str, batch: int) -> tuple[Memory | None, str | None]:
        row = self.rows[name]
        if not self.options.memory:
            return None, "memory: not asked for"
        if not row.variant.choice.measures_memory:
            return None, "memory: measured of ONNX Runtime's CPU provider only"
        try:
            inputs, threads = self._inputs(name, batch), row.variant.choice.threads
            return peak_memory(row.variant.path(row.role), inputs, threads=threads), None
        except PtameError as error:
            return None, f"memory: {error}"

    def _best_batch(self) -> int:
        """Return the batch at which the classifier alone answers most images a second."""
        return max(self.readings[ALONE], key=lambda reading: reading.images_per_s or 0).batch

    def _rise(self, masks: int) -> tuple[RiseReading, Comparison]:
        batch = min(self._best_batch(), masks)
        self.say(f"RISE with {masks} masks at batch {batch} ...")
        return time_rise(
            self.rows[ALONE].runtime,
            self._whole(FUSED, self._stage(FUSED, 1)),
            self._whole(ALONE, self._stage(ALONE, batch)),
            self._inputs(ALONE, 1)["image"],
            masks=masks,
            batch=batch,
            seed=self.options.seed,
            gmacs=self.rows[ALONE].gmacs,
        )
