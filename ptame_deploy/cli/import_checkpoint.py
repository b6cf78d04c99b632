"""``ptame import-checkpoint``."""

from pathlib import Path
from typing import Annotated

import typer

from ptame_deploy.cli import console, loading, options

_LISTED = 20


def import_checkpoint(
    checkpoint: Annotated[
        Path, typer.Argument(help="State dict of an explainer that was trained elsewhere.")
    ],
    *,
    backbone: options.BackboneOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the artifact.")],
    auxiliary: Annotated[
        str,
        typer.Option("--auxiliary", "-a", help="The auxiliary that it was trained with."),
    ] = "resnet18",
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
    seed: options.SeedOption = 0,
) -> None:
    """Take over an explainer that was trained elsewhere, so that it can be exported.

    Branches and fusion are recognised by their shapes, whatever their names; what is left is named.
    Classifier and auxiliary must have the weights that it was trained with: no checkpoint tells.
    """
    from ptame_deploy.checkpoint_import import import_explainer
    from ptame_deploy.explainer_store import record_explainer, save_explainer
    from ptame_deploy.storage import check_writable, sha256_of_file
    from ptame_deploy.weights import read_state_dict

    sizes = options.auxiliary_sizes(auxiliary_size)
    overrides = options.preprocessing_overrides(input_size, resize, mean, std, interpolation)
    check_writable(output)
    state = read_state_dict(checkpoint)
    classifier = loading.load_classifier(
        backbone,
        weights=weights,
        preprocessing=overrides,
        class_names=class_names,
        head=head,
        seed=seed,
    )
    loaded = loading.load_auxiliary(classifier, auxiliary, auxiliary_weights, sizes, seed)
    found = import_explainer(state, loaded.channels, classifier.num_classes)
    for own, source in found.taken.items():
        console.detail(f"  {own} <- {source}")
    if found.left:
        shown = found.left if console.settings.verbose else found.left[:_LISTED]
        more = len(found.left) - len(shown)
        rest = f"\n  - and {more} more (all with --verbose)" if more else ""
        console.warn(
            f"{len(found.left)} tensors are no part of an explainer and were left:\n"
            f"{console.bullet_list(shown)}{rest}"
        )
    if classifier.weights.random or loaded.weights.random:
        console.warn("RANDOM weights: the explainer was trained with others.")
    record = record_explainer(found.explainer, loaded, state="trained", start="imported")
    training = {
        "imported_from": checkpoint.name,
        "sha256": sha256_of_file(checkpoint),
        "tensors": found.taken,
        "left": found.left,
    }
    save_explainer(found.explainer, record, classifier, output, seed=seed, training=training)
    console.result(
        f"Took {len(found.taken)} of {len(state)} tensors: wrote explainer.safetensors and "
        f"explainer.json in {output}"
    )
