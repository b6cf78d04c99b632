"""``ptame evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from ptame_deploy.cli import console, options
from ptame_deploy.cli.bench import RuntimeKind
from ptame_deploy.cli.explain import ProviderKind


def evaluate(
    *,
    images: Annotated[
        list[Path],
        typer.Option("--images", help="Photos, or folders of photos. Repeatable."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            help="Folder of an exported graph; then of what ptame quantize or ptame build made of "
            "it. Repeatable.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            help="Classifier, as for ptame export: what gradient and CAM methods need. Without "
            "--model it is exported on the way.",
            show_default=False,
        ),
    ] = None,
    explainer: options.ExplainerOption = None,
    auxiliary: options.AuxiliaryOption = None,
    weights: options.WeightsOption = None,
    auxiliary_weights: options.AuxiliaryWeightsOption = None,
    auxiliary_size: options.AuxiliarySizeOption = None,
    class_names: options.ClassNamesOption = None,
    head: options.HeadOption = None,
    input_size: options.InputSizeOption = None,
    resize: options.ResizeOption = None,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    interpolation: options.InterpolationOption = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods with commas between (rise,grad-cam); all by default. P-TAME and the two "
            "floors always run.",
            show_default=False,
        ),
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(
            help="Measures with commas between: drop-published, drop-matched, insertion, deletion, "
            "road; all by default.",
            show_default=False,
        ),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--maps",
            metavar="LABEL=FOLDER",
            help="Maps that another tool made, to judge beside the others: a .npy file (h, w) for "
            "each photo, called as the photo, for the class that the classifier puts first. "
            "Repeatable.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Photos at most, drawn by the seed.")
    ] = None,
    seed: options.SeedOption = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder that holds an evaluation.")
    ] = False,
    boxes: Annotated[
        Path | None,
        typer.Option(help="Boxes for the pointing game: COCO JSON, VOC XML, or a folder of those."),
    ] = None,
    target_layer: Annotated[
        str | None, typer.Option(help="Module that the CAM methods look at; found by default.")
    ] = None,
    rise_masks: Annotated[int, typer.Option(min=1, help="Masks of RISE.")] = 1000,
    samples: Annotated[int, typer.Option(min=2, help="Samples of LIME and KernelSHAP.")] = 500,
    costly_passes: Annotated[
        int, typer.Option(min=0, help="Methods of more passes a photo run on fewer photos.")
    ] = 64,
    costly_photos: Annotated[int, typer.Option(min=1, help="On how many at most.")] = 25,
    costly_budget: Annotated[
        int, typer.Option(min=1, help="Passes that such a method gets over all photos.")
    ] = 25_000,
    gallery: Annotated[
        bool, typer.Option(help="Draw the best, the worst and some other photos by all methods.")
    ] = True,
    retime: Annotated[
        bool, typer.Option("--retime", help="With --resume: time all methods again.")
    ] = False,
    steps: Annotated[
        int, typer.Option(min=2, help="Points of the insertion and deletion curves.")
    ] = 20,
    sanity_photos: Annotated[
        int, typer.Option(min=0, help="Photos of the sanity checks; 0 for none.")
    ] = 8,
    rise_curve: Annotated[
        int, typer.Option(min=0, help="Photos of RISE's curve of quality against masks; 0: none.")
    ] = 0,
    rise_curve_masks: Annotated[
        int, typer.Option(min=1, help="Masks of its last point; two seeds are run.")
    ] = 8000,
    batch: Annotated[int, typer.Option(min=1, help="Copies that are classified at once.")] = 8,
    runtime: Annotated[
        RuntimeKind, typer.Option(help="What runs the graphs, and the judge.")
    ] = RuntimeKind.onnxruntime,
    provider: Annotated[
        ProviderKind, typer.Option(help="Where ONNX Runtime computes.")
    ] = ProviderKind.cpu,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 for one a core.")] = 0,
) -> None:
    """Compare P-TAME with other explanation methods on your photos: faithfulness beside speed.

    Writes results.json, values.csv (every photo), methods.csv, table.md and report.html. What is
    done is kept: after a kill, --resume goes on and gives the same numbers.
    """
    from bench.evaluation.options import EvaluationOptions
    from bench.evaluation.photos import choose_photos, photo_names
    from bench.evaluation.report.write import summary_table, write_report
    from bench.evaluation.rise_curve import CurveSettings
    from bench.evaluation.run import RESULTS, WORK
    from bench.evaluation.run import evaluate as run_evaluation
    from bench.measures.boxes import read_boxes
    from bench.measures.measure import MeasureSettings
    from bench.measures.registry import choose
    from bench.methods.given_maps import parse_given
    from bench.methods.perturbation import PerturbationSettings
    from bench.methods.registry import MethodSettings, check_names
    from bench.runtimes import RuntimeChoice
    from ptame_deploy.cli import evaluate_sources as sources
    from ptame_deploy.errors import InvalidInputError
    from ptame_deploy.photos import find_photos
    from ptame_deploy.storage import check_writable

    given = {
        "--auxiliary": auxiliary,
        "--auxiliary-size": auxiliary_size,
        "--class-names": class_names,
        "--head": head if backbone is None else None,  # a function's, which no graph can tell
        "--input-size": input_size,
        "--resize": resize,
        "--mean": mean,
        "--std": std,
        "--interpolation": interpolation,
    }
    sources.check(model, backbone, explainer, [name for name, value in given.items() if value])
    chosen_options = EvaluationOptions(
        methods=_listed(methods),
        measures=_listed(measures),
        maps=parse_given(maps or []),
        steps=steps,
        seed=seed,
        batch=batch,
        costly_passes=costly_passes,
        costly_limit=costly_photos,
        costly_budget=costly_budget,
        gallery=gallery,
        retime=retime,
        sanity_photos=sanity_photos,
        settings=MethodSettings(
            target_layer=target_layer,
            perturbation=PerturbationSettings(rise_masks=rise_masks, samples=samples),
        ),
        curve=CurveSettings(photos=rise_curve, masks=rise_curve_masks),
    )
    check_names(chosen_options.methods or ())
    choose(chosen_options.measures, MeasureSettings(steps=steps))
    found = find_photos(images)
    found_boxes = None if boxes is None else read_boxes(boxes)
    check_writable(output)
    begun = (output / RESULTS).exists() or any((output / WORK).glob("photos-*.json"))
    if begun and not resume:
        message = f"{output} holds an evaluation: add --resume to go on, or choose another -o."
        raise InvalidInputError(message)
    choice = RuntimeChoice(name=runtime.value, provider=provider.value, threads=threads)
    choice.check()
    overrides = options.preprocessing_overrides(input_size, resize, mean, std, interpolation)
    subject = sources.open_subject(
        model or [],
        backbone,
        sources.Networks(
            explainer=explainer,
            auxiliary=auxiliary,
            weights=weights,
            auxiliary_weights=auxiliary_weights,
            auxiliary_size=auxiliary_size,
            class_names=class_names,
            head=head,
            preprocessing=overrides,
            seed=seed,
        ),
        choice,
        output / WORK,
        batch=batch,
    )
    for caution in subject.graphs[0].manifest.cautions:
        console.warn(caution)
    try:
        evaluation = run_evaluation(
            subject,
            choose_photos(found, photo_names(found, images), limit, seed),
            chosen_options,
            output,
            limit=limit,
            boxes=found_boxes,
            progress=console.steps,
            say=console.info,
        )
    except KeyboardInterrupt:
        console.info(f"What is done is kept in {output}: add --resume to go on.")
        raise
    write_report(output, [evaluation], [output])
    console.table(summary_table(evaluation))
    for text in evaluation.warnings:
        console.warn(text)
    console.result(f"Report: {output / 'report.html'}")
    if evaluation.skipped:
        listed = console.bullet_list(evaluation.skipped)
        total = evaluation.photos + len(evaluation.skipped)
        message = f"{len(evaluation.skipped)} of {total} photos were skipped:\n{listed}"
        raise InvalidInputError(message)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
