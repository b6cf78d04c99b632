"""``ptame train``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console, options

if TYPE_CHECKING:
    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone
    from trainer.fit import FitResult, FitSettings

_PARTS_SHOWN = 10  # lines about progress where there is no terminal to draw a bar on


class PresetKind(StrEnum):
    """The paper's settings."""

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
            help="Loss weights; the backbone's own where it is one of these, else resnet50."
        ),
    ] = None,
    start: Annotated[
        StartKind,
        typer.Option(
            help="auto: the auxiliary's activation map where its classes are the classifier's, "
            "else a linear fit to the classifier on these photos."
        ),
    ] = StartKind.auto,
    epochs: Annotated[int, typer.Option(help="Times that every photo is seen.")] = 1,
    max_steps: Annotated[
        int | None, typer.Option(help="Stop after so many steps, within an epoch too.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Photos a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak of the one cycle.")] = 1e-4,
    precision: Annotated[
        PrecisionKind, typer.Option(help="bf16 is faster where the device has it.")
    ] = PrecisionKind.fp32,
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
    from trainer.fit import FitSettings
    from trainer.presets import preset_for

    settings = FitSettings(
        preset=preset_for(backbone, None if preset is None else preset.value),
        start=start.value,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        precision=precision.value,
        workers=_default_workers() if workers is None else workers,
        seed=seed,
    )
    sizes = options.auxiliary_sizes(auxiliary_size)
    overrides = options.preprocessing_overrides(input_size, resize, mean, std, interpolation)
    found = find_photos(photos)
    check_writable(output)

    from ptame_deploy.explainer_store import record_explainer, save_explainer

    classifier = options.load_classifier(
        backbone, weights=weights, preprocessing=overrides, class_names=class_names, seed=seed
    )
    loaded = options.load_auxiliary(classifier, auxiliary, auxiliary_weights, sizes, seed)
    _warn_of_weights(classifier, loaded)
    result = _fit(classifier, loaded, found, settings)
    if result.skipped:
        listed = console.bullet_list(result.skipped)
        console.warn(f"{len(result.skipped)} of {len(found)} photos were skipped:\n{listed}")
    record = record_explainer(
        result.explainer,
        loaded,
        state="trained",
        start=result.start,
        training_steps=result.record["steps"],
        training_photos=result.record["photos"],
    )
    save_explainer(result.explainer, record, classifier, output, seed=seed, training=result.record)
    console.result(f"First step: {describe(result.first)}")
    console.result(f"Last step:  {describe(result.last)}")
    console.result(
        f"Trained {result.record['steps']} steps in {result.record['seconds']:.0f} s from start "
        f"'{result.start}': wrote explainer.safetensors and explainer.json in {output}"
    )


def describe(terms: dict[str, float]) -> str:
    """Return the loss and its terms on one line; the terms are before their weights."""
    return (
        f"loss {terms['loss']:.4f} (cross-entropy {terms['cross_entropy']:.4f}, "
        f"area {terms['area']:.4f}, variation {terms['variation']:.4g})"
    )


def _fit(
    classifier: "Backbone", auxiliary: "Auxiliary", photos: list[Path], settings: "FitSettings"
) -> "FitResult":
    """Train with a live line of the loss terms."""
    from trainer.fit import fit
    from trainer.loop import StepReport

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

        return fit(classifier, auxiliary, photos, settings, say=console.info, on_step=show)


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
