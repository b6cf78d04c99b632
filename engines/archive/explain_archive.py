"""Explaining an archive: what is to be done, what is done already, and what came of it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field

from engines.archive.contents import count_rows
from engines.archive.folder import ArchiveFolder
from engines.archive.locations import find_entries
from engines.archive.manifest import ARCHIVE_MANIFEST, ArchiveManifest, Settings
from engines.archive.shards import Shard, fingerprint, plan_shards
from engines.archive.worker import Report
from engines.artifact import Artifact
from ptame_deploy.artifacts import GRAPH_FILE
from ptame_deploy.errors import (
    ArtifactError,
    CheckFailedError,
    InvalidInputError,
    MissingRequirementError,
)
from ptame_deploy.photos import printable
from ptame_deploy.provenance import Provenance

Runner = Callable[[Sequence[Shard]], Generator[Report]]  # a report a shard, as they are done

# Errors cross processes by their names.
_KINDS = {
    kind.__name__: kind
    for kind in (ArtifactError, CheckFailedError, InvalidInputError, MissingRequirementError)
}


@dataclass(frozen=True)
class Plan:
    """An archive that is to be made or gone on with.

    Attributes:
        model: explains.
        folder: of the archive.
        manifest: of the archive.
        shards: all of it.
    """

    model: Artifact
    folder: ArchiveFolder
    manifest: ArchiveManifest
    shards: Sequence[Shard]

    def left(self) -> list[Shard]:
        """Return the shards that have no part yet."""
        done = self.folder.parts()
        return [shard for shard in self.shards if shard.number not in done]


@dataclass
class Summary:
    """What is in an archive that is complete, and what this run did of it.

    Attributes:
        photos: rows of the whole archive.
        bad: of them, those without an explanation.
        done: photos of this run.
        seconds: between this run's first photo and its last, without the start of Ray and models.
        named: the first bad photos, each with the reason.
    """

    photos: int = 0
    bad: int = 0
    done: int = 0
    seconds: float = 0.0
    named: list[str] = field(default_factory=list)

    @property
    def photos_per_second(self) -> float:
        """Of this run; 0 where it did nothing."""
        return self.done / self.seconds if self.seconds else 0.0


def plan_archive(sources: Sequence[str], model: Artifact, output: str, settings: Settings) -> Plan:
    """Find the photos, cut them into shards, and see that the archive is not another's.

    Args:
        sources: files, folders, tar and Parquet files; paths or URLs.
        model: explains them.
        output: path or URL of the archive.
        settings: of the archive.

    Raises:
        InvalidInputError: nothing to explain, an archive of something else, or a folder that cannot
            be written or is one of the inputs.
        ArtifactError: the archive's manifest is damaged.
        MissingRequirementError: a file system's package is missing, or the disk is full.
    """
    folder = ArchiveFolder(output)
    for source in sources:
        if folder.lies_in(source):
            message = (
                f"-o {folder.name} lies in {printable(source)}: its Parquet files would be taken "
                "for photos. Choose another -o."
            )
            raise InvalidInputError(message)
    folder.check_writable()
    entries = find_entries(sources)
    shards = plan_shards(
        entries,
        size=settings.shard_size,
        image_column=settings.image_column,
        key_column=settings.key_column,
    )
    counts = [shard.photos for shard in shards]
    known = [count for count in counts if count is not None]
    manifest = ArchiveManifest(
        provenance=Provenance.here(seed=model.graph.provenance.seed),
        graph_sha256=model.graph.files[GRAPH_FILE].sha256,
        plan_sha256=model.plan_sha256,
        classifier=model.graph.classifier.name,
        cautions=model.graph.cautions,
        preprocessing=model.graph.preprocessing,
        settings=settings,
        sources=[printable(source) for source in sources],
        inputs_sha256=fingerprint(entries),
        shards=len(shards),
        photos=sum(known) if len(known) == len(counts) else None,
    )
    begun = folder.read_manifest()
    if begun is not None:
        begun.refuse_another(manifest, folder.name)
    elif folder.parts():
        message = (
            f"{folder.name} holds parts of an archive, but no {ARCHIVE_MANIFEST} that tells of "
            "which. Choose another -o."
        )
        raise InvalidInputError(message)
    return Plan(model, folder, begun or manifest, shards)


def explain_archive(
    plan: Plan,
    start: Callable[[], AbstractContextManager[Runner]],
    advance: Callable[[Report], None] = lambda _: None,
) -> Summary:
    """Do the shards that are left, and see that the whole archive is there.

    Args:
        plan: of the archive.
        start: starts workers; not called where nothing is left.
        advance: called with each report.

    Raises:
        InvalidInputError: another run is at work there.
        CheckFailedError: shards that could not be done, or parts that are not as planned.
        PtameError: what would meet every shard, such as a full disk.
    """
    summary = Summary()
    with plan.folder.locked():
        if plan.folder.read_manifest() is None:
            plan.folder.write_manifest(plan.manifest)
        left = plan.left()
        if left:
            # Reports end while the workers are still there, whatever ends them.
            with start() as run, closing(run(left)) as reports:
                _run(reports, summary, plan, advance)
        summary.photos, summary.bad, summary.named = count_rows(plan.folder, plan.shards)
    return summary


def _run(
    reports: Iterator[Report], summary: Summary, plan: Plan, advance: Callable[[Report], None]
) -> None:
    done: list[Report] = []
    failed: dict[int, str] = {}
    for report in reports:
        if report.error:
            raise _KINDS.get(report.error, CheckFailedError)(report.failure)
        if report.failure:
            failed[report.number] = report.failure
        else:
            done.append(report)
        advance(report)
    if done:
        summary.done = sum(report.photos for report in done)
        summary.seconds = max(r.ended for r in done) - min(r.began for r in done)
    missing = plan.left()
    if missing:
        for shard in missing:
            failed.setdefault(
                shard.number,
                "its worker died every time, for want of memory or by one of its photos "
                f"({printable(shard.urls[0])} and what follows)",
            )
        listed = "\n".join(f"  - shard {n}: {why}" for n, why in list(failed.items())[:10])
        message = (
            f"{len(missing)} of {len(plan.shards)} shards could not be done; the rest is kept, and "
            f"the same command tries them again:\n{listed}"
        )
        raise CheckFailedError(message)
