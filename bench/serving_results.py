"""What a load on servers found, as it is written to JSON, and its table."""

from typing import Literal

from bench.results import Device, Ratio, Subject, Throughput
from ptame_deploy.provenance import Provenance
from ptame_deploy.records import Record

_HEADER = (
    "| server | clients | alone: photos/s | p50, p95, p99, ms | together: photos/s "
    "| p50, p95, p99, ms | photos a run | together / alone |"
)
_NOTE = (
    "Each client sends one prepared photo ({request}) and the next one when the answer has come, "
    "from the same machine, whose cores server and clients share. Alone: every request is run by "
    "itself (`ptame triton --no-batching`, `ptame serve --max-batch 1`). Together: requests that "
    "wait at the same time are one run, up to {max_batch} photos, and the first waits up to "
    "{delay:g} ms for others. All took turns; a ratio is the median over {rounds} rounds, with "
    "quartiles. Latencies are the clients', in {seconds:g} s a cell."
)


class ServedReading(Record):
    """A model under load; latencies are what clients wait for an answer."""

    clients: int
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    throughput: Throughput
    photos_a_run: float


class BatchingGain(Record):
    """How many times as many photos a second a server answers with batching as without."""

    clients: int
    ratio: Ratio


class ServedModel(Record):
    """One server, without and with batching."""

    server: str
    runs: str
    alone: list[ServedReading]
    together: list[ServedReading]
    gains: list[BatchingGain]


class ServingSettings(Record):
    """How it was measured."""

    clients: list[int]
    max_batch: int
    queue_delay_ms: float
    seconds: float
    rounds: int
    threads: int
    request_bytes: int
    seed: int


class ServingReport(Record):
    """Servers under load, as in its JSON."""

    schema_version: Literal[1] = 1
    kind: Literal["serving"] = "serving"
    provenance: Provenance
    device: Device
    subject: Subject
    settings: ServingSettings
    servers: list[ServedModel]


def serving_table(report: ServingReport) -> str:
    """Return a report as Markdown: photos a second and latencies without and with batching."""
    device, subject, settings = report.device, report.subject, report.settings
    where = f"{device.cpu}, {device.cores} cores" + (f", {device.gpu}" if device.gpu else "")
    version = report.provenance.versions["ptame-deploy"]
    when = f"{report.provenance.created[:10]} with ptame-deploy {version}"
    lines = [
        f"{subject.pair}, {subject.precision}; {where}; taken {when}.",
        "",
        _HEADER,
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for served in report.servers:
        rows = zip(served.alone, served.together, served.gains, strict=True)
        for alone, together, gain in rows:
            ratio = gain.ratio
            cells = [
                f"{served.server} ({served.runs})",
                str(alone.clients),
                *_cells(alone),
                *_cells(together),
                f"{together.photos_a_run:.1f}",
                f"**{ratio.value:.2f}** ({ratio.p25:.2f} - {ratio.p75:.2f})",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    note = _NOTE.format(
        request=f"{settings.request_bytes / 1e3:.0f} kB",
        max_batch=settings.max_batch,
        delay=settings.queue_delay_ms,
        rounds=settings.rounds,
        seconds=settings.seconds,
    )
    return "\n".join([*lines, "", note])


def _cells(reading: ServedReading) -> list[str]:
    rate = reading.throughput
    times = (reading.p50_ms, reading.p95_ms, reading.p99_ms)
    return [
        f"{rate.images_per_s:.1f} ± {rate.variation_percent:.0f} %",
        ", ".join(f"{time:.0f}" for time in times),
    ]
