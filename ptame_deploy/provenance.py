"""When, with what and by which command something was made."""

import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from ptame_deploy.photos import printable
from ptame_deploy.records import Record

_TRACED_PACKAGES = (
    "ptame-deploy", "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime",
    "onnxruntime-gpu", "numpy", "pillow", "lightning",
)  # fmt: skip


class Provenance(Record):
    """When, with what and by which command an artifact was made.

    Attributes:
        created: in UTC, ISO 8601.
        command: without the paths that led to the program.
        seed: of everything random.
        versions: of Python and of the packages that shape results.
    """

    created: str
    command: str
    seed: int
    versions: dict[str, str]

    @classmethod
    def here(cls, *, seed: int) -> "Provenance":
        """Describe the running process."""
        return cls(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=" ".join(map(printable, [Path(sys.argv[0]).name, *sys.argv[1:]])),
            seed=seed,
            versions=package_versions(),
        )


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that shape results."""
    versions = {"python": platform.python_version()}
    for name in _TRACED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
