"""``ptame cpp-example``."""

from pathlib import Path
from typing import Annotated

import typer

from ptame_deploy.cli import console


def cpp_example(
    model: Annotated[Path, typer.Argument(help="Folder of an exported graph.", show_default=False)],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the project.")],
) -> None:
    """Write a small C++ project around a graph: it builds with two commands and explains photos."""
    from engines.cpp_example import write_cpp_example
    from ptame_deploy.storage import check_writable

    check_writable(output.resolve().parent)
    manifest = write_cpp_example(model, output)
    for caution in manifest.cautions:
        console.warn(caution)
    classes = " CLASS" if manifest.takes_classes else ""
    console.result(f"Wrote {output}: main.cpp, the graph, and the library's sources")
    console.info(f"  cd {output}")
    console.info("  cmake -B build -DONNXRUNTIME_ROOT=/path/to/onnxruntime && cmake --build build")
    console.info(f"  build/example PHOTO{classes}")
