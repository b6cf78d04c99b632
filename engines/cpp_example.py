"""A small C++ project around a graph or an engine: it, the library's sources, and a program."""

import shutil
import tempfile
from pathlib import Path

from engines.plan import PLAN_MANIFEST, PlanManifest, holds_plan, read_plan
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GRAPH_MANIFEST, GraphManifest
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.storage import publish, writable

LIBRARY = Path(__file__).parent / "cpp"
_PARTS = ("CMakeLists.txt", "app", "cmake", "include", "src")


def write_cpp_example(model: Path, directory: Path) -> GraphManifest | PlanManifest:
    """Write the project; the folder appears when it is complete.

    Args:
        model: folder of an exported graph, or of an engine.
        directory: of the project; must not be there, or be empty.

    Raises:
        InvalidInputError: there is no artifact, or the folder holds something.
        ArtifactError: the artifact is corrupt.
        MissingRequirementError: the disk is full.
    """
    manifest: GraphManifest | PlanManifest
    if holds_plan(model):
        manifest, name_of_json = read_plan(model), PLAN_MANIFEST
    else:
        manifest, name_of_json = read_manifest(model, GRAPH_MANIFEST, GraphManifest), GRAPH_MANIFEST
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        message = f"{directory} is there already and not empty: choose another -o."
        raise InvalidInputError(message)
    with writable(directory):
        parent = directory.resolve().parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".ptame-", dir=parent) as scratch:
            staged = Path(scratch) / "project"
            (staged / "model").mkdir(parents=True)
            for name in (*manifest.files, name_of_json):
                shutil.copyfile(model / name, staged / "model" / name)
            shutil.copytree(LIBRARY / "example", staged, dirs_exist_ok=True)
            for name in _PARTS:
                source, target = LIBRARY / name, staged / "ptame" / name
                target.parent.mkdir(exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target)
                else:
                    shutil.copyfile(source, target)
            if directory.exists():
                directory.rmdir()
            publish(staged, directory)
    return manifest
