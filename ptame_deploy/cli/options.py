"""Options that several commands share, and how the text of some is read."""

from pathlib import Path
from typing import Annotated, Any

import typer

# For RGB in [0, 1]; what is beyond is for 0 to 255 (127.5 and 57.4, say).
_MOST_MEAN, _MOST_STD = 1.0, 10.0

TrainingPhotosArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Photos, folders of photos, lists of them (.txt), WebDataset shards (.tar).",
        show_default=False,
    ),
]
BackboneOption = Annotated[
    str,
    typer.Option(
        "--backbone",
        "-b",
        help="Classifier: torchvision name, timm:NAME, hf:NAME or hf:FOLDER, model.onnx, "
        "model.pt2, model.pt, package.module:factory or file.py:factory.",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(help="Classifier weights: a file, or 'random' for latency work only."),
]
AuxiliaryOption = Annotated[
    str | None,
    typer.Option(
        "--auxiliary",
        "-a",
        help="efficientnet_lite0 (default), resnet18, mobilenet_v3_small, mnasnet0_5, or self: the "
        "classifier's own features.",
    ),
]
AuxiliaryWeightsOption = Annotated[
    str | None, typer.Option(help="Auxiliary weights: a file, or 'random' for latency work only.")
]
AuxiliarySizeOption = Annotated[
    str | None,
    typer.Option(
        help="Side in pixels of the image that the auxiliary sees (224); several with commas "
        "(224,448): slower, and better maps."
    ),
]
ClassNamesOption = Annotated[
    str | None, typer.Option(help="Class names: a file (JSON list, or one a line), or 'imagenet'.")
]
HeadOption = Annotated[
    str | None,
    typer.Option(
        help="softmax: one class is right; sigmoid: any number of them (multi-label, binary); or "
        "file.py:function, from what the classifier returns to probabilities. Only where the "
        "classifier does not say it itself."
    ),
]
InputSizeOption = Annotated[
    str | None,
    typer.Option(help="Replace the classifier's input size: side in pixels, or HEIGHTxWIDTH."),
]
ResizeOption = Annotated[
    int | None, typer.Option(help="Replace the shorter side's length before the crop.")
]
MeanOption = Annotated[
    str | None, typer.Option(help="Replace the mean, for RGB in [0, 1]: three numbers with commas.")
]
StdOption = Annotated[
    str | None, typer.Option(help="Replace the std, for RGB in [0, 1]: three numbers with commas.")
]
InterpolationOption = Annotated[
    str | None, typer.Option(help="Replace the interpolation: nearest, bilinear, bicubic, lanczos.")
]
PhotosArgument = Annotated[
    list[Path], typer.Argument(help="Photos, and folders of photos.", show_default=False)
]
PicturesOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for pictures and tables.")
]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        "-c",
        help="Class to explain, by name or index, for a graph exported with --classes input. "
        "May be repeated.",
    ),
]
SaveMapsOption = Annotated[
    bool, typer.Option("--save-maps", help="Also write the maps: NPY, float32 (K, h, w).")
]
OpacityOption = Annotated[float, typer.Option(min=0, max=1, help="Of the map over the photo.")]
ExplainerOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a trained explainer (from ptame train), or 'shipped': the one that comes "
        "with ptame-deploy for this classifier.",
        show_default=False,
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, max=2**62, help="Seed of everything random.")]


def refuse_plan_folder(directory: Path) -> None:
    """Refuse a folder that holds an engine: whoever opens it would find that, not the graph.

    Raises:
        InvalidInputError: it does.
    """
    from engines.plan import holds_plan
    from ptame_deploy.errors import InvalidInputError

    if holds_plan(directory):
        message = f"{directory} holds an engine: a graph needs a folder of its own."
        raise InvalidInputError(message)


def preprocessing_overrides(
    input_size: str | None,
    resize: int | None,
    mean: str | None,
    std: str | None,
    interpolation: str | None,
) -> dict[str, Any]:
    """Collect the preprocessing that the user set, as fields of `Preprocessing`."""
    given = {
        "input_size": None if input_size is None else _height_and_width(input_size),
        "resize": resize,
        "mean": None if mean is None else _three_numbers("--mean", mean, _MOST_MEAN),
        "std": None if std is None else _three_numbers("--std", std, _MOST_STD),
        "interpolation": interpolation,
    }
    return {name: value for name, value in given.items() if value is not None}


def seconds(option: str, text: str) -> float:
    """Read a time as people write it: 5ms, 90s, 20m, 2h; a bare number is seconds.

    Raises:
        InvalidInputError: it is none.
    """
    from ptame_deploy.errors import InvalidInputError

    units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    unit = next((one for one in units if text.endswith(one)), "")
    try:
        value = float(text.removesuffix(unit)) * units.get(unit, 1.0)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        message = f"{option} must be a time such as 5ms, 90s, 20m or 2h, got {text!r}."
        raise InvalidInputError(message)
    return value


def auxiliary_sizes(text: str | None) -> tuple[int, ...] | None:
    """Read ``224,448`` as numbers of pixels.

    Raises:
        InvalidInputError: it is no list of whole numbers.
    """
    from ptame_deploy.errors import InvalidInputError

    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        message = (
            f"--auxiliary-size takes whole numbers of pixels with commas between (224,448), got "
            f"{text!r}."
        )
        raise InvalidInputError(message) from error


def _height_and_width(text: str) -> tuple[int, int]:
    from ptame_deploy.errors import InvalidInputError

    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() and len(side) < 9 for side in sides):
        message = f"--input-size is a side in pixels (224) or HEIGHTxWIDTH (48x192), got {text!r}."
        raise InvalidInputError(message)
    return int(sides[0]), int(sides[-1])


def _three_numbers(option: str, text: str, most: float) -> tuple[float, ...]:
    from ptame_deploy.errors import InvalidInputError

    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        message = f"{option} takes three numbers with commas between (0.5,0.5,0.5), got {text!r}."
        raise InvalidInputError(message)
    if any(abs(number) > most for number in numbers):
        message = (
            f"{option} is for RGB in [0, 1], got {text!r}, which looks like one for 0 to 255: "
            "divide it by 255."
        )
        raise InvalidInputError(message)
    return numbers
