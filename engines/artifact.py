"""What can be served, or run over an archive: an exported graph or a plan, not yet opened."""

from dataclasses import dataclass
from pathlib import Path

from engines.plan import PLAN_FILE, PlanManifest, holds_plan, read_plan
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GRAPH_MANIFEST, GraphManifest


@dataclass(frozen=True)
class Artifact:
    """A graph or a plan whose files were checked.

    Attributes:
        directory: its folder.
        graph: describes the fused graph.
        plan: describes the plan, where it is one.
    """

    directory: Path
    graph: GraphManifest
    plan: PlanManifest | None

    @classmethod
    def read(cls, directory: Path) -> "Artifact":
        """Read an artifact and check its hashes.

        Raises:
            InvalidInputError: there is none.
            ArtifactError: it is corrupt.
        """
        if holds_plan(directory):
            plan = read_plan(directory)
            return cls(directory, plan.graph, plan)
        return cls(directory, read_manifest(directory, GRAPH_MANIFEST, GraphManifest), None)

    @property
    def plan_sha256(self) -> str | None:
        """Hash of the plan's file, where it is one."""
        return None if self.plan is None else self.plan.files[PLAN_FILE].sha256
