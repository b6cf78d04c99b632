"""Load what a command was asked for, and tell the user what that is."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptame_deploy.cli import console, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptame_deploy.artifacts import ExplainerManifest
    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone
    from ptame_deploy.explainer import ExplainerNet
    from ptame_deploy.part_records import ExplainerRecord


@dataclass(frozen=True)
class Parts:
    """A classifier with its auxiliary and explainer, ready to be fused."""

    backbone: "Backbone"
    auxiliary: "Auxiliary"
    explainer: "ExplainerNet"
    record: "ExplainerRecord"


def load_classifier(
    name: str,
    *,
    weights: str | None,
    preprocessing: dict[str, Any],
    class_names: str | None = None,
    head: str | None = None,
    explainer: Path | None = None,
    seed: int,
) -> "Backbone":
    """Load a classifier, and say how photos will be prepared for it.

    What neither it nor the user says is taken from the explainer that was trained for it, if there
    is one.

    Raises:
        InvalidInputError: see `ptame_deploy.sources.load.load_backbone`.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: a corrupt file of weights.
    """
    from ptame_deploy.heads import names_function
    from ptame_deploy.sources.load import load_backbone

    console.info(f"Loading {name} ...")
    trained = None if explainer is None else _trained_with(explainer, name)
    if head is None and trained is not None and trained.classifier.head != "softmax":
        head = trained.classifier.head
    backbone = load_backbone(
        name,
        weights=weights,
        preprocessing=preprocessing,
        fallback=None if trained is None else _told(trained),
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


def _trained_with(explainer: Path, name: str) -> "ExplainerManifest":
    """Return what a classifier was when an explainer was trained for it."""
    from ptame_deploy.explainer_store import read_explainer_manifest
    from ptame_deploy.shipped import find_explainer

    return read_explainer_manifest(find_explainer(explainer, name))


def _told(manifest: "ExplainerManifest") -> dict[str, Any]:
    """Return the fields of the preprocessing that somebody said."""
    from ptame_deploy.sources.import_string import FUNCTION_SOURCE

    assumed = set(manifest.classifier.assumed)
    if manifest.classifier.weights.source.startswith(FUNCTION_SOURCE):
        assumed |= {"mean", "std"}  # it is given images in [0, 1]; the model behind it may not be
    return {key: value for key, value in manifest.preprocessing if key not in assumed}


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
    from ptame_deploy.errors import InvalidInputError
    from ptame_deploy.part_records import OWN_AUXILIARY

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


def auxiliary_of(
    record: "ExplainerRecord", backbone: "Backbone", weights: str | None, seed: int
) -> "Auxiliary":
    """Load the auxiliary that an explainer was made with.

    Raises:
        InvalidInputError: see `load_auxiliary`.
        MissingRequirementError: weights that cannot be downloaded.
        ArtifactError: a corrupt file of weights.
    """
    from ptame_deploy.part_records import OWN_AUXILIARY

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
    from ptame_deploy.errors import InvalidInputError
    from ptame_deploy.explainer import start_explainer
    from ptame_deploy.explainer_store import (
        load_explainer,
        read_explainer_manifest,
        record_explainer,
    )
    from ptame_deploy.part_records import OWN_AUXILIARY, SuperpixelRecord
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
        backbone = _with_class_names(backbone, manifest)
        loaded = auxiliary_of(manifest.explainer, backbone, auxiliary_weights, seed)
        net = load_explainer(explainer, backbone, loaded)
        record = manifest.explainer
        if superpixels and record.superpixels is None:
            net.superpixels = SuperpixelRecord()
            record = record.model_copy(update={"superpixels": net.superpixels})
        return Parts(backbone, loaded, net, record)
    sizes = options.auxiliary_sizes(auxiliary_size)
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


def _with_class_names(backbone: "Backbone", manifest: "ExplainerManifest") -> "Backbone":
    """Compare class names with those of the training, which serve where none are given."""
    from ptame_deploy.explainer_store import with_class_names

    before, trained_with = backbone.class_names, manifest.classifier.class_names
    backbone = with_class_names(backbone, manifest)
    if before is None and backbone.class_names is not None:
        console.info("  class names: those that the explainer was trained with")
    elif before is not None and trained_with is not None and list(before) != trained_with:
        console.warn("the class names are others than when the explainer was trained.")
    return backbone


def warn_of_assumed_classes(backbone: "Backbone", auxiliary: "Auxiliary") -> None:
    """Say so where classes without names are taken to be the auxiliary's by their number."""
    if backbone.class_names is None and backbone.num_classes == len(auxiliary.class_names or ()):
        console.warn(
            f"{backbone.name} names no classes; its {backbone.num_classes} are taken to be "
            "ImageNet's in the usual order. Say so with --class-names imagenet, or give the names."
        )
