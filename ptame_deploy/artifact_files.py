"""Reading and writing the files of an artifact: nothing is used that its manifest does not name.

A manifest names the artifact's files with their hashes, so that a file that was cut short, changed
or mixed up with another is found before it is used.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ptame_deploy.artifacts import (
    EXPLAINER_MANIFEST,
    GRAPH_MANIFEST,
    SCHEMA_VERSION,
    ArtifactManifest,
    FileRecord,
)
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.records import first_fault
from ptame_deploy.storage import finish_pending, sha256_of_file

Manifest = TypeVar("Manifest", bound=ArtifactManifest)


def record_files(directory: Path) -> dict[str, FileRecord]:
    """Hash every file in a folder."""
    return {
        path.name: FileRecord(bytes=path.stat().st_size, sha256=sha256_of_file(path))
        for path in sorted(directory.iterdir())
    }


def manifest_json(manifest: BaseModel) -> str:
    """Return a manifest as the text of its JSON file."""
    return json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


_FOLDERS = {
    GRAPH_MANIFEST: "the folder of a graph is expected, which ptame export makes of a classifier",
    EXPLAINER_MANIFEST: "the folder of an explainer is expected, which ptame train makes",
}


def _no_artifact(directory: Path, name: str) -> str:
    """Say what stands where an artifact was expected."""
    if directory.is_file() and (directory.parent / name).is_file():
        return f"{directory} is a file of an artifact: give its folder, {directory.parent}."
    if directory.is_file():
        expected = _FOLDERS.get(name, "the folder of an engine is expected")
        return f"{directory} is a file, and {expected}."
    if name == GRAPH_MANIFEST and (directory / EXPLAINER_MANIFEST).is_file():
        return (
            f"{directory} holds an explainer alone: put it and its classifier into one graph first "
            f"(ptame export --explainer {directory})."
        )
    if name == EXPLAINER_MANIFEST and (directory / GRAPH_MANIFEST).is_file():
        return f"{directory} holds a fused graph; an explainer (of ptame train) is expected."
    return f"{directory} holds no {name}: not an artifact, or one that was never completed."


def settle(directory: Path) -> None:
    """Finish what a killed writer left in a folder, before anybody looks what is in it."""
    with suppress(OSError):  # a folder that cannot be written is read as it is
        finish_pending(directory)


def read_manifest(directory: Path, name: str, model: type[Manifest]) -> Manifest:
    """Read a manifest and check every file that it names: presence, size, hash.

    Args:
        directory: the artifact's folder.
        name: the manifest's file name.
        model: the manifest's class.

    Raises:
        InvalidInputError: there is no such artifact.
        ArtifactError: the manifest cannot be read, or a file is missing or not the one recorded.
    """
    path = directory / name
    if not directory.exists():
        message = f"{directory} does not exist."
        raise InvalidInputError(message)
    settle(directory)
    if not path.is_file():
        raise InvalidInputError(_no_artifact(directory, name))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path} cannot be read as JSON ({error}). Make the artifact again."
        raise ArtifactError(message) from error
    check_schema_version(data, str(path))
    try:
        manifest = model.model_validate(data)
    except ValidationError as error:
        message = f"{path} is not a valid manifest: {first_fault(error)}. Make the artifact again."
        raise ArtifactError(message) from error
    for file_name, record in manifest.files.items():
        _check_file(directory, file_name, record)
    return manifest


def check_schema_version(data: object, where: str) -> None:
    """Refuse a document that a newer ptame-deploy wrote.

    Args:
        data: parsed JSON, not validated yet: newer fields would be told as faults.
        where: it was read from.

    Raises:
        ArtifactError: its ``schema_version`` is newer.
    """
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        message = (
            f"{where} has schema version {version}; this ptame-deploy reads up to "
            f"{SCHEMA_VERSION}. Update ptame-deploy."
        )
        raise ArtifactError(message)


def _check_file(directory: Path, name: str, record: FileRecord) -> None:
    if Path(name).name != name:
        message = f"{directory}: the manifest names {name!r}, which is outside its folder."
        raise ArtifactError(message)
    path = directory / name
    if not path.is_file():
        message = f"{path} is missing. Copy the whole folder, or make the artifact again."
        raise ArtifactError(message)
    size = path.stat().st_size
    if size != record.bytes:
        message = (
            f"{path} has {size} bytes, its manifest says {record.bytes}: cut short or replaced."
        )
        raise ArtifactError(message)
    if sha256_of_file(path) != record.sha256:
        message = f"{path} is not the file that its manifest describes (SHA-256 differs)."
        raise ArtifactError(message)
