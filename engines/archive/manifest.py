"""``_archive.json``: what an archive is made from, so that only the same run goes on with it."""

import json
from typing import Literal

from pydantic import Field, ValidationError

from ptame_deploy.artifact_files import check_schema_version
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.provenance import Provenance
from ptame_deploy.records import Record, first_fault

# Readers of folders of Parquet files leave out what begins with an underscore.
ARCHIVE_MANIFEST = "_archive.json"
SCHEMA_VERSION = 1
MapDtype = Literal["uint8", "float16"]


class Settings(Record):
    """What shapes the parts; how many workers make them does not."""

    map_dtype: MapDtype | None  # None for no maps
    class_index: list[int] | None  # asked for, of a graph that takes classes
    shard_size: int = Field(ge=1)
    image_column: str | None
    key_column: str | None


class ArchiveManifest(Record):
    """Describes an archive, complete or not; its parts are ``part-NNNNNN.parquet``."""

    schema_version: Literal[1] = 1
    kind: Literal["explanations-archive"] = "explanations-archive"
    provenance: Provenance
    graph_sha256: str
    plan_sha256: str | None
    classifier: str
    cautions: list[str]
    preprocessing: Preprocessing  # which part of a photo a map covers
    settings: Settings
    sources: list[str]
    inputs_sha256: str
    shards: int = Field(ge=1)
    photos: int | None  # None where only reading tells

    def refuse_another(self, asked: "ArchiveManifest", directory: str) -> None:
        """See that a run which goes on with this archive is the one that began it.

        Args:
            asked: of the run.
            directory: of the archive, for messages.

        Raises:
            InvalidInputError: another model, other settings or other inputs.
        """
        differs = []
        if (self.graph_sha256, self.plan_sha256) != (asked.graph_sha256, asked.plan_sha256):
            differs.append(f"another model (of {self.classifier}; its hash differs)")
        for name in Settings.model_fields:
            old, new = getattr(self.settings, name), getattr(asked.settings, name)
            if old != new:
                differs.append(f"{name} {_told(old)}, not {_told(new)}")
        if (self.inputs_sha256, self.shards) != (asked.inputs_sha256, asked.shards):
            differs.append("other photos (names, sizes or times differ)")
        if differs:
            message = (
                f"{directory} holds an archive that was begun with {'; '.join(differs)}. Go on "
                "with the same command, or choose another -o."
            )
            raise InvalidInputError(message)


def parse_manifest(text: str, where: str) -> ArchiveManifest:
    """Read ``_archive.json``.

    Raises:
        ArtifactError: it is damaged, or of a newer ptame-deploy.
    """
    try:
        data = json.loads(text)
        check_schema_version(data, where)
        return ArchiveManifest.model_validate(data)
    except (ValueError, RecursionError) as error:
        told = first_fault(error) if isinstance(error, ValidationError) else error
        message = f"{where} is not a valid {ARCHIVE_MANIFEST} ({told}). Choose another -o."
        raise ArtifactError(message) from error


def _told(value: object) -> str:
    return "none" if value is None else str(value)
