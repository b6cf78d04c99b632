"""``ptame train``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptame_deploy.cli import console, options

if TYPE_CHECKING:
    from collections.abc import Callable

    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone
    from trainer.few import FewResult
    from trainer.result import Trained

    Fit = Callable[[Backbone, Auxiliary, list[Path]], Trained]

_PARTS_SHOWN = 10  # lines about progress where there is no terminal to draw a bar on
FEW_PHOTOS = 20_000  # under so many, the paper's recipe has too little to learn from


class PresetKind(StrEnum):
    """Recipes."""

    few = "few"
    paper = "paper"


class LossKind(StrEnum):
    """The paper's loss weights, by the classifier that they were tuned for."""

    vgg16 = "vgg16"
    resnet50 = "resnet50"
    vit_b_16 = "vit_b_16"


class StartKind(StrEnum):
    """What training begins with."""

    auto = "auto"
    activation_map = "activation-map"
    fit = "fit"
    random = "random"


class PrecisionKind(StrEnum):
    """Of the networks' arithmetic."""

    fp32 = "fp32"
    bf16 = "bf16"


def train(
    photos: Annotated[
        list[Path],
        typer.Argument(help="Photos, and folders of photos; no labels.", show_default=False),
    ],
    *,
    backbone: options.BackboneOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the artifact.")],
    auxiliary: options.AuxiliaryOption = None,
    weights: options.WeightsOption = None,
    auxiliary_weights: options.AuxiliaryWeightsOption = None,
    auxiliary_size: options.AuxiliarySizeOption = None,
    preset: Annotated[
        PresetKind | None,
        typer.Option(
            help="few: amortised perturbations, for hundreds to thousands of photos (default under "
            "20,000). paper: the masking loss, for a large folder."
        ),
    ] = None,
    start: Annotated[
        StartKind,
        typer.Option(
            help="auto: the auxiliary's activation map where its classes are the classifier's, "
            "else a linear fit to the classifier on these photos."
        ),
    ] = StartKind.auto,
    masks: Annotated[
        int | None, typer.Option(help="few: random masks that each photo is scored under (32).")
    ] = None,
    cache: Annotated[
        bool, typer.Option(help="few: keep the scores for the next training, and after a kill.")
    ] = True,
    loss: Annotated[
        LossKind | None,
        typer.Option(
            help="paper: loss weights; the backbone's own where it is one of these, else resnet50."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="paper: times that every photo is seen (1).")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="paper: stop after so many steps, within an epoch too.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="paper: photos a step (32).")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="paper: peak of the one cycle (1e-4).")
    ] = None,
    precision: Annotated[
        PrecisionKind | None,
        typer.Option(help="paper: bf16 is faster where the device has it (fp32)."),
    ] = None,
    allow_no_gain: Annotated[
        bool,
        typer.Option(help="few: write an explainer that is not clearly better than its start too."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that decode photos (0 on a CPU, up to 8 beside a GPU)."),
    ] = None,
    class_names: options.ClassNamesOption = None,
    input_size: options.InputSizeOption = None,
    resize: options.ResizeOption = None,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    interpolation: options.InterpolationOption = None,
    seed: options.SeedOption = 0,
) -> None:
    """Train an explainer for a classifier on a folder of photos.

    The classifier's own answers are what is explained, so that no labels are needed. A photo that
    cannot be decoded is named and skipped.
    """
    from ptame_deploy.photos import find_photos
    from ptame_deploy.storage import check_writable

    found = find_photos(photos)
    recipe = preset or (PresetKind.few if len(found) < FEW_PHOTOS else PresetKind.paper)
    chosen = {
        "loss": None if loss is None else loss.value,
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "precision": None if precision is None else precision.value,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    common = {
        "start": start.value,
        "workers": _default_workers() if workers is None else workers,
        "seed": seed,
    }
    fit = (
        _few(common, masks, cache, given, allow_no_gain)
        if recipe is PresetKind.few
        else _paper(common, backbone, masks, given)
    )
    sizes = options.auxiliary_sizes(auxiliary_size)
    overrides = options.preprocessing_overrides(input_size, resize, mean, std, interpolation)
    check_writable(output)

    from ptame_deploy.explainer_store import record_explainer, save_explainer

    classifier = options.load_classifier(
        backbone, weights=weights, preprocessing=overrides, class_names=class_names, seed=seed
    )
    loaded = options.load_auxiliary(classifier, auxiliary, auxiliary_weights, sizes, seed)
    _warn_of_weights(classifier, loaded)
    result = fit(classifier, loaded, found)
    if result.skipped:
        listed = console.bullet_list(result.skipped)
        console.warn(f"{len(result.skipped)} of {len(found)} photos were skipped:\n{listed}")
    record = record_explainer(
        result.explainer,
        loaded,
        state="trained",
        start=result.start,
        training_preset=recipe.value,
        training_steps=result.record.get("steps"),
        training_photos=result.record["photos"],
    )
    save_explainer(result.explainer, record, classifier, output, seed=seed, training=result.record)
    console.result(
        f"Trained in {result.record['seconds']:.0f} s from start '{result.start}': wrote "
        f"explainer.safetensors and explainer.json in {output}"
    )


def _few(
    common: dict[str, Any],
    masks: int | None,
    cache: bool,  # noqa: FBT001
    paper: dict[str, Any],
    allow_no_gain: bool,  # noqa: FBT001
) -> "Fit":
    """Prepare the recipe for few photos."""
    from ptame_deploy.errors import CheckFailedError, InvalidInputError
    from ptame_deploy.storage import cache_folder
    from trainer import few
    from trainer.perturbation import MaskSettings

    if paper:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in paper)
        message = (
            f"{named} belong to --preset paper; --preset few takes --masks and solves in one go."
        )
        raise InvalidInputError(message)
    count = {} if masks is None else {"count": masks}
    settings = few.FewSettings(
        **common,
        masks=MaskSettings(**count, seed=common["seed"]),
        cache=cache_folder("scores") if cache else None,
    )

    def fit(classifier: "Backbone", auxiliary: "Auxiliary", photos: list[Path]) -> "Trained":
        try:
            result = few.train(
                classifier, auxiliary, photos, settings, say=console.info, progress=console.steps
            )
        except KeyboardInterrupt:
            if cache:
                console.info("Scores are kept: the same command goes on from here.")
            raise
        console.result(describe_gain(result))
        if not result.gain.is_clear and not allow_no_gain:
            message = (
                "Training did NOT make the explainer clearly better than its start on photos left "
                "out, so nothing was written. Give more photos (or --masks), export the start "
                "itself (ptame export without --explainer), or say --allow-no-gain."
            )
            raise CheckFailedError(message)
        return result

    return fit


def _paper(
    common: dict[str, Any], backbone: str, masks: int | None, given: dict[str, Any]
) -> "Fit":
    """Prepare the paper's recipe."""
    from ptame_deploy.errors import InvalidInputError
    from trainer import paper
    from trainer.loop import StepReport
    from trainer.loss_weights import loss_for

    if masks is not None:
        message = "--masks belongs to --preset few; --preset paper masks photos with the maps."
        raise InvalidInputError(message)
    loss = loss_for(backbone, given.pop("loss", None))
    settings = paper.PaperSettings(**common, **given, loss=loss)

    def fit(classifier: "Backbone", auxiliary: "Auxiliary", photos: list[Path]) -> "Trained":
        with console.progress("Training", total=None) as bar:
            task = bar.task_ids[0]

            def show(report: StepReport) -> None:
                terms = report.terms
                short = (
                    f"loss {terms['loss']:.3f} (CE {terms['cross_entropy']:.3f}, "
                    f"area {terms['area']:.3f}, var {terms['variation']:.3g})"
                )
                bar.update(task, total=report.total, completed=report.step, description=short)
                every = max(1, report.total // _PARTS_SHOWN)
                if not bar.console.is_terminal and report.step % every == 0:
                    console.info(f"  step {report.step} of {report.total}: {describe(terms)}")

            result = paper.train(
                classifier, auxiliary, photos, settings, say=console.info, on_step=show
            )
        console.result(f"First step: {describe(result.record['first_step'])}")
        console.result(f"Last step:  {describe(result.record['last_step'])}")
        return result

    return fit


def describe_gain(result: "FewResult") -> str:
    """Return on one line how well photos left out are predicted, before and after."""
    start, trained, more = result.gain.start, result.gain.trained, result.gain.difference
    return (
        f"Agreement with the scores of {start.photos} photos left out: start {start.mean:.3f}, "
        f"trained {trained.mean:.3f} ({more.mean:+.3f}, 95 % interval {more.low:+.3f} to "
        f"{more.high:+.3f})"
    )


def describe(terms: dict[str, float]) -> str:
    """Return the loss and its terms on one line; the terms are before their weights."""
    return (
        f"loss {terms['loss']:.4f} (cross-entropy {terms['cross_entropy']:.4f}, "
        f"area {terms['area']:.4f}, variation {terms['variation']:.4g})"
    )


def _warn_of_weights(classifier: "Backbone", auxiliary: "Auxiliary") -> None:
    if classifier.weights.random:
        console.warn("classifier weights are RANDOM: what is trained explains nothing.")
    if auxiliary.weights.random:
        console.warn("auxiliary weights are RANDOM: its features say little, train with real ones.")
    options.warn_of_assumed_classes(classifier, auxiliary)


def _default_workers() -> int:
    # On a CPU the classifier takes far longer than decoding, and workers would take its cores.
    import os

    import torch

    return min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 0
