"""``ptame tune``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptame_deploy.cli import console, loading, options

if TYPE_CHECKING:
    from trainer.tuning import TrialReport


def tune(
    photos: options.TrainingPhotosArgument,
    *,
    backbone: options.BackboneOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the search.")],
    trials: Annotated[int, typer.Option(help="Trainings in all, resumed ones included.")] = 20,
    max_steps: Annotated[int, typer.Option(help="Steps of each training.")] = 200,
    batch_size: Annotated[int, typer.Option(help="Photos a batch.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak of the one cycle.")] = 1e-4,
    validation: Annotated[
        int | None,
        typer.Option(help="Photos left out to judge on (every tenth, up to 200)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a search that was interrupted.")
    ] = False,
    auxiliary: options.AuxiliaryOption = None,
    weights: options.WeightsOption = None,
    auxiliary_weights: options.AuxiliaryWeightsOption = None,
    auxiliary_size: options.AuxiliarySizeOption = None,
    workers: Annotated[int, typer.Option(help="Processes that decode photos.")] = 0,
    class_names: options.ClassNamesOption = None,
    head: options.HeadOption = None,
    input_size: options.InputSizeOption = None,
    resize: options.ResizeOption = None,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    interpolation: options.InterpolationOption = None,
    seed: options.SeedOption = 0,
) -> None:
    """Search for the loss weights of --preset paper that suit a classifier.

    Each trial is a short training; the paper's three sets are tried first. The best weights go to
    loss.json, for ``ptame train --loss``.
    """
    from ptame_deploy.storage import check_writable
    from trainer.loss_weights import loss_for
    from trainer.paper_settings import PaperSettings
    from trainer.sources import find_training_photos
    from trainer.tuning import LOSS_FILE
    from trainer.tuning import tune as search

    found = find_training_photos(photos)
    settings = PaperSettings(
        loss=loss_for(backbone), max_steps=max_steps, batch_size=batch_size,
        epochs=max_steps, learning_rate=learning_rate,  # the steps are what ends a trial
        validation=validation, workers=workers, seed=seed,
    )  # fmt: skip
    sizes = options.auxiliary_sizes(auxiliary_size)
    overrides = options.preprocessing_overrides(input_size, resize, mean, std, interpolation)
    check_writable(output)
    classifier = loading.load_classifier(
        backbone,
        weights=weights,
        preprocessing=overrides,
        class_names=class_names,
        head=head,
        seed=seed,
    )
    loaded = loading.load_auxiliary(classifier, auxiliary, auxiliary_weights, sizes, seed)
    result = search(
        classifier, loaded, found, settings, output, trials=trials, resume=resume, on_trial=_tell
    )
    console.result(
        f"Best of {result.trials} trials: '{result.loss.name}', average drop at 50 % "
        f"(contrast-matched) {result.drop:.2f} on photos left out; the start's is "
        f"{result.start:.2f}"
    )
    if result.drop >= result.start:
        console.warn("no loss weights beat the start: give more photos or --max-steps.")
    console.result(
        f"Wrote {output / LOSS_FILE}: ptame train --preset paper --loss {output / LOSS_FILE}"
    )


def _tell(report: "TrialReport") -> None:
    weights = report.loss.weights
    outcome = "given up" if report.drop is None else f"average drop {report.drop:.2f}"
    best = "" if report.best is None else f", best {report.best:.2f}"
    console.info(
        f"  trial {report.number} ({report.loss.name}: cross-entropy {weights.cross_entropy:.3g}, "
        f"area {weights.area:.3g}, variation {weights.variation:.3g}, power "
        f"{weights.area_power:.2g}, decay {report.loss.weight_decay:.2g}): {outcome}{best}"
    )
