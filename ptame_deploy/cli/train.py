"""``ptame train``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console, loading, options

if TYPE_CHECKING:
    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone

FEW_PHOTOS = 20_000  # under so many, the paper's recipe has too little to learn from
TRAINING = "training"  # folder of checkpoint and logs beside the explainer
_FEW, _PAPER = "Preset few", "Preset paper"


class PresetKind(StrEnum):
    """Recipes."""

    few = "few"
    paper = "paper"


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
    fp16 = "fp16"


def train(
    photos: options.TrainingPhotosArgument,
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
    allow_no_gain: Annotated[
        bool,
        typer.Option(help="Write an explainer that is not clearly better than its start too."),
    ] = False,
    max_bad: Annotated[
        float | None,
        typer.Option(
            help="Unreadable photos that are tolerated: a share under 1, or a number (5 %, or 10 "
            "where that is more)."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that decode photos (0 on a CPU, up to 8 beside a GPU)."),
    ] = None,
    masks: Annotated[
        int | None,
        typer.Option(
            help="Random masks that each photo is scored under (32).", rich_help_panel=_FEW
        ),
    ] = None,
    superpixels: Annotated[
        bool | None,
        typer.Option(
            "--superpixels/--no-superpixels",
            help="Average the maps over regions of like colour, so that they follow the photo's "
            "edges (yes).",
            rich_help_panel=_FEW,
        ),
    ] = None,
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache",
            help="Keep the scores for the next training, and after a kill (yes).",
            rich_help_panel=_FEW,
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="Loss weights: vgg16, resnet50 (default, but for those two) or vit_b_16, or a "
            "file that `ptame tune` wrote.",
            rich_help_panel=_PAPER,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Times that every photo is seen (1).", rich_help_panel=_PAPER),
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(help="Stop after so many steps, within an epoch too.", rich_help_panel=_PAPER),
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option(
            help="About how long training may take (90s, 20m, 2h): the steps are made to fit.",
            rich_help_panel=_PAPER,
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Photos a batch (32).", rich_help_panel=_PAPER)
    ] = None,
    auto_batch: Annotated[
        bool,
        typer.Option(
            "--auto-batch",
            help="Measure the largest batch that pays on this machine.",
            rich_help_panel=_PAPER,
        ),
    ] = False,
    accumulate: Annotated[
        int | None, typer.Option(help="Batches a step (1).", rich_help_panel=_PAPER)
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Peak of the one cycle (1e-4).", rich_help_panel=_PAPER),
    ] = None,
    precision: Annotated[
        PrecisionKind | None,
        typer.Option(
            help="bf16 is faster where the device has it; fp16 needs a GPU (fp32).",
            rich_help_panel=_PAPER,
        ),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(help="GPUs, or processes on a CPU (1).", rich_help_panel=_PAPER),
    ] = None,
    validation: Annotated[
        int | None,
        typer.Option(
            help="Photos left out to judge on (every tenth, up to 200); 0 for none.",
            rich_help_panel=_PAPER,
        ),
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(help="Steps between two looks at them (ten looks).", rich_help_panel=_PAPER),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many looks without a new best, and take the best.",
            rich_help_panel=_PAPER,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with a training that was interrupted, or write one that was refused.",
            rich_help_panel=_PAPER,
        ),
    ] = False,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(help="Time between two checkpoints (1m).", rich_help_panel=_PAPER),
    ] = None,
    class_names: options.ClassNamesOption = None,
    head: options.HeadOption = None,
    input_size: options.InputSizeOption = None,
    resize: options.ResizeOption = None,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    interpolation: options.InterpolationOption = None,
    seed: options.SeedOption = 0,
) -> None:
    """Train an explainer for a classifier on photos.

    The classifier's own answers are what is explained, so that no labels are needed. A photo that
    cannot be decoded is named and skipped. What is not clearly better than its start on photos left
    out is not written (exit 1).
    """
    from ptame_deploy.cli import train_outcome, train_recipes
    from ptame_deploy.storage import check_writable
    from trainer.parallel import launched_rank
    from trainer.sources import find_training_photos
    from trainer.teacher import can_be_kept

    helps = launched_rank() > 0  # of several processes, the first one speaks and writes
    console.settings.quiet |= helps
    found = find_training_photos(photos)
    recipe = preset or (PresetKind.few if len(found) < FEW_PHOTOS else PresetKind.paper)
    common = {
        "start": start.value,
        "workers": _default_workers() if workers is None else workers,
        "max_bad": max_bad,
        "seed": seed,
    }
    for_few = {"masks": masks, "superpixels": superpixels, "cache": cache}
    for_paper = {
        "loss": loss,
        "epochs": epochs,
        "max_steps": max_steps,
        "time_budget": time_budget,
        "batch_size": batch_size,
        "auto_batch": auto_batch or None,
        "accumulate": accumulate,
        "learning_rate": learning_rate,
        "precision": None if precision is None else precision.value,
        "devices": devices,
        "validation": validation,
        "validate_every": validate_every,
        "patience": patience,
        "resume": resume or None,
        "checkpoint_every": checkpoint_every,
    }
    fit = (
        train_recipes.few(common, for_few, for_paper)
        if recipe is PresetKind.few
        else train_recipes.paper(common, for_paper, for_few, backbone, output / TRAINING)
    )
    sizes = options.auxiliary_sizes(auxiliary_size)
    overrides = options.preprocessing_overrides(input_size, resize, mean, std, interpolation)
    check_writable(output)

    from ptame_deploy.explainer_store import record_explainer, save_explainer

    classifier = loading.load_classifier(
        backbone,
        weights=weights,
        preprocessing=overrides,
        class_names=class_names,
        head=head,
        seed=seed,
    )
    loaded = loading.load_auxiliary(classifier, auxiliary, auxiliary_weights, sizes, seed)
    if not helps:
        _warn_of_weights(classifier, loaded)
    result = fit(classifier, loaded, found)
    if helps:
        return
    if result.skipped:
        listed = console.bullet_list(result.skipped)
        console.warn(f"{len(result.skipped)} of {len(found)} photos were skipped:\n{listed}")
    folder = output / TRAINING
    page = train_outcome.report(folder, result, classifier, loaded, allowed=allow_no_gain)
    kept = recipe is PresetKind.few and cache is not False and can_be_kept(classifier)
    train_outcome.check_gain(result, page, allowed=allow_no_gain, kept=kept)
    record = record_explainer(
        result.explainer,
        loaded,
        state="trained",
        start=result.start,
        training_preset=recipe.value,
        training_steps=result.record.get("steps"),
        training_photos=result.record["photos"],
        gain=None if result.gain is None else result.gain.better,
        own_answers=result.own_answers,
        other_classes=result.other_classes,
    )
    train_outcome.tell_agreement(record)
    save_explainer(
        result.explainer, record, classifier, output,
        seed=seed, training=result.record, terms=result.terms,
    )  # fmt: skip
    train_recipes.forget_checkpoint(output / TRAINING)
    console.result(
        f"Trained in {result.record['seconds']:.0f} s from start '{result.start}': wrote "
        f"explainer.safetensors and explainer.json in {output}; what it gained: {page}"
    )


def _warn_of_weights(classifier: "Backbone", auxiliary: "Auxiliary") -> None:
    if classifier.weights.random:
        console.warn("classifier weights are RANDOM: what is trained explains nothing.")
    if auxiliary.weights.random:
        console.warn("auxiliary weights are RANDOM: its features say little, train with real ones.")
    loading.warn_of_assumed_classes(classifier, auxiliary)


def _default_workers() -> int:
    # On a CPU the classifier takes far longer than decoding, and workers would take its cores.
    import os

    import torch

    return min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 0
