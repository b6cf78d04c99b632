"""``ptame cpp-example``."""

from pathlib import Path
from typing import Annotated

import typer

from ptame_deploy.cli import console


def cpp_example(
    model: Annotated[
        Path,
        typer.Argument(help="Folder of an exported graph, or of an engine.", show_default=False),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the project.")],
) -> None:
    """Write a small C++ project around a graph or an engine.

    It builds with two commands and explains photos.
    """
    from engines.cpp_example import write_cpp_example
    from engines.plan import PlanManifest
    from ptame_deploy.storage import check_writable

    check_writable(output.resolve().parent)
    manifest = write_cpp_example(model, output)
    for caution in manifest.cautions:
        console.warn(caution)
    if isinstance(manifest, PlanManifest):
        graph, what = manifest.graph, "engine"
        options = f"-DPTAME_BACKEND={manifest.flavour} -DTENSORRT_ROOT=/path/to/tensorrt"
    else:
        graph, what = manifest, "graph"
        options = "-DONNXRUNTIME_ROOT=/path/to/onnxruntime"
    classes = " CLASS" if graph.takes_classes else ""
    console.result(f"Wrote {output}: main.cpp, the {what}, and the library's sources")
    console.info(f"  cd {output}")
    console.info(f"  cmake -B build {options} && cmake --build build")
    console.info(f"  build/example PHOTO{classes}")
