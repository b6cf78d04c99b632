"""Options that several commands share, and how they become a classifier with its explainer."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptame_deploy.cli import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptame_deploy.artifacts import ExplainerRecord
    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone
    from ptame_deploy.explainer import ExplainerNet

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


@dataclass(frozen=True)
class Parts:
    """A classifier with its auxiliary and explainer, ready to be fused."""

    backbone: "Backbone"
    auxiliary: "Auxiliary"
    explainer: "ExplainerNet"
    record: "ExplainerRecord"


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
        "mean": None if mean is None else _three_numbers("--mean", mean),
        "std": None if std is None else _three_numbers("--std", std),
        "interpolation": interpolation,
    }
    return {name: value for name, value in given.items() if value is not None}


def load_classifier(
    name: str,
    *,
    weights: str | None,
    preprocessing: dict[str, Any],
    class_names: str | None = None,
    head: str | None = None,
    seed: int,
) -> "Backbone":
    """Load a classifier, and say how photos will be prepared for it.

    Raises:
        InvalidInputError: see `ptame_deploy.sources.load.load_backbone`.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: a corrupt file of weights.
    """
    from ptame_deploy.heads import names_function
    from ptame_deploy.sources.load import load_backbone

    console.info(f"Loading {name} ...")
    backbone = load_backbone(
        name,
        weights=weights,
        preprocessing=preprocessing,
        class_names=class_names,
        head=head,
        seed=seed,
    )
    kinds = {"softmax": "", "sigmoid": ", each for itself (sigmoid)"}
    kind = f", by {head}" if names_function(head) else kinds[backbone.head]
    console.info(f"  {backbone.num_classes} classes{kind}; {backbone.preprocessing}")
    for doubt in backbone.doubts:
        console.warn(doubt)
    if backbone.assumed:
        console.warn(
            f"{name} does not say how photos are prepared for it. Taken to be ImageNet's usual: "
            f"{_assumed(backbone)}. If it was trained otherwise, say so."
        )
    return backbone


def _assumed(backbone: "Backbone") -> str:
    """List the options of what nobody said, with what was taken."""
    told = []
    for name in backbone.assumed:
        value = getattr(backbone.preprocessing, name)
        if isinstance(value, tuple):
            value = ("x" if name == "input_size" else ",").join(f"{number:g}" for number in value)
        told.append(f"--{name.replace('_', '-')} {value}")
    return " ".join(told)


def load_auxiliary(
    backbone: "Backbone",
    name: str | None,
    weights: str | None,
    sizes: "Sequence[int] | None",
    seed: int,
) -> "Auxiliary":
    """Load the auxiliary that was asked for, or the default one.

    Raises:
        InvalidInputError: see `ptame_deploy.auxiliaries.load_auxiliary`; weights or sizes for the
            classifier's own features, or a classifier that has none.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: a corrupt file of weights.
    """
    from ptame_deploy import auxiliaries
    from ptame_deploy.artifacts import OWN_AUXILIARY
    from ptame_deploy.errors import InvalidInputError

    if name == OWN_AUXILIARY:
        from ptame_deploy.own_features import OwnFeatures

        if weights is not None or sizes is not None:
            message = (
                "--auxiliary self takes the classifier's own features, with its weights and its "
                "input size: leave --auxiliary-weights and --auxiliary-size away."
            )
            raise InvalidInputError(message)
        return OwnFeatures(backbone)
    return auxiliaries.load_auxiliary(
        name or auxiliaries.DEFAULT_AUXILIARY,
        weights=weights,
        input_sizes=sizes or auxiliaries.DEFAULT_INPUT_SIZES,
        seed=seed,
    )


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


def auxiliary_of(
    record: "ExplainerRecord", backbone: "Backbone", weights: str | None, seed: int
) -> "Auxiliary":
    """Load the auxiliary that an explainer was made with.

    Raises:
        InvalidInputError: see `load_auxiliary`.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: a corrupt file of weights.
    """
    from ptame_deploy.artifacts import OWN_AUXILIARY

    own = record.auxiliary == OWN_AUXILIARY
    sizes = None if own else record.auxiliary_input_sizes
    return load_auxiliary(backbone, record.auxiliary, weights, sizes, seed)


def load_parts(
    backbone: "Backbone",
    *,
    explainer: Path | None,
    auxiliary: str | None,
    auxiliary_weights: str | None,
    auxiliary_size: str | None,
    superpixels: bool = False,
    seed: int,
) -> Parts:
    """Load the trained explainer, or start one on an auxiliary.

    Raises:
        InvalidInputError: options that contradict each other or the explainer.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: an explainer that is corrupt or made for others.
    """
    from ptame_deploy.artifacts import OWN_AUXILIARY, SuperpixelRecord
    from ptame_deploy.errors import InvalidInputError
    from ptame_deploy.explainer import start_explainer
    from ptame_deploy.explainer_store import (
        load_explainer,
        read_explainer_manifest,
        record_explainer,
    )
    from ptame_deploy.shipped import SHIPPED, find_explainer, shipped_explainers

    if explainer is not None:
        explainer = find_explainer(explainer, backbone.name)
        manifest = read_explainer_manifest(explainer)
        if auxiliary not in (None, manifest.explainer.auxiliary) or auxiliary_size is not None:
            message = (
                f"The explainer in {explainer} brings its own auxiliary "
                f"({manifest.explainer.auxiliary_label}): leave --auxiliary and --auxiliary-size "
                "away."
            )
            raise InvalidInputError(message)
        if superpixels:
            message = (
                f"The explainer in {explainer} says itself whether its maps are averaged over "
                "superpixels: leave --superpixels away."
            )
            raise InvalidInputError(message)
        loaded = auxiliary_of(manifest.explainer, backbone, auxiliary_weights, seed)
        net = load_explainer(explainer, backbone, loaded)
        return Parts(backbone, loaded, net, manifest.explainer)
    sizes = auxiliary_sizes(auxiliary_size)
    loaded = load_auxiliary(backbone, auxiliary, auxiliary_weights, sizes, seed)
    net, start = start_explainer(loaded, backbone.num_classes, backbone.class_names, seed=seed)
    if superpixels:
        net.superpixels = SuperpixelRecord()
    if start == "random":
        reason = (
            f"{backbone.name} has no head that its features' means go into"
            if loaded.name == OWN_AUXILIARY
            else f"the {backbone.num_classes} classes of {backbone.name} are not those of "
            f"{loaded.name}"
        )
        console.warn(
            f"{reason}: the explainer starts at random and its maps mean nothing before it is "
            "trained (ptame train)."
        )
    warn_of_assumed_classes(backbone, loaded)
    if backbone.name in shipped_explainers():
        console.info(f"  a trained explainer comes with ptame-deploy: --explainer {SHIPPED}")
    record = record_explainer(net, loaded, state="initialised", start=start)
    return Parts(backbone, loaded, net, record)


def warn_of_assumed_classes(backbone: "Backbone", auxiliary: "Auxiliary") -> None:
    """Say so where classes without names are taken to be the auxiliary's by their number."""
    if backbone.class_names is None and backbone.num_classes == len(auxiliary.class_names or ()):
        console.warn(
            f"{backbone.name} names no classes; its {backbone.num_classes} are taken to be "
            "ImageNet's in the usual order. Say so with --class-names imagenet, or give the names."
        )


def _height_and_width(text: str) -> tuple[int, int]:
    from ptame_deploy.errors import InvalidInputError

    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() and len(side) < 9 for side in sides):
        message = f"--input-size is a side in pixels (224) or HEIGHTxWIDTH (48x192), got {text!r}."
        raise InvalidInputError(message)
    return int(sides[0]), int(sides[-1])


def _three_numbers(option: str, text: str) -> tuple[float, ...]:
    from ptame_deploy.errors import InvalidInputError

    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        message = f"{option} takes three numbers with commas between (0.5,0.5,0.5), got {text!r}."
        raise InvalidInputError(message)
    return numbers
