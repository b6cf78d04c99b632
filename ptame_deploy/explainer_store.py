"""Explainer artifacts: ``explainer.safetensors`` with ``explainer.json``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ptame_deploy.artifact_files import manifest_json, read_manifest, record_files
from ptame_deploy.artifacts import EXPLAINER_FILE, EXPLAINER_MANIFEST, ExplainerManifest
from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.bootstrap import Interval
from ptame_deploy.classifier_answers import other_answer, record_answers
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.explainer import ExplainerNet, SharedTerms, start_explainer
from ptame_deploy.part_records import ExplainerRecord, Preset, Start, State
from ptame_deploy.provenance import Provenance
from ptame_deploy.sources.function_head import FunctionHead
from ptame_deploy.sources.import_string import FUNCTION_SOURCE, is_function
from ptame_deploy.storage import staged_artifact
from ptame_deploy.weights import load_state, read_state_dict, state_sha256


def record_explainer(
    explainer: ExplainerNet,
    auxiliary: Auxiliary,
    *,
    state: State,
    start: Start,
    training_preset: Preset | None = None,
    training_steps: int | None = None,
    training_photos: int | None = None,
    gain: Interval | None = None,
    own_answers: Interval | None = None,
    other_classes: Interval | None = None,
) -> ExplainerRecord:
    """Describe an explainer for a manifest; what is given is told in `ExplainerRecord`."""
    return ExplainerRecord(
        auxiliary=auxiliary.name,
        auxiliary_input_sizes=list(auxiliary.input_sizes),
        auxiliary_weights=auxiliary.weights,
        state=state,
        start=start,
        training_preset=training_preset,
        training_steps=training_steps,
        training_photos=training_photos,
        weights_sha256=state_sha256(explainer),
        superpixels=explainer.superpixels,
        gain=gain,
        own_answers=own_answers,
        other_classes=other_classes,
    )


def save_explainer(
    explainer: ExplainerNet,
    record: ExplainerRecord,
    backbone: Backbone,
    directory: Path,
    *,
    seed: int,
    training: dict[str, Any] | None = None,
    terms: SharedTerms | None = None,
) -> ExplainerManifest:
    """Write an explainer and what it belongs to.

    Args:
        explainer: what to keep.
        record: describes it.
        backbone: the classifier that it explains.
        directory: where the artifact goes.
        seed: that it was trained with.
        training: how it was trained, for the reader.
        terms: what made it of the auxiliary's activation map; they are kept in place of its
            weights, at a thousandth of the size.

    Raises:
        InvalidInputError: the folder cannot be written.
        MissingRequirementError: the disk is full.
    """
    with staged_artifact(directory, EXPLAINER_MANIFEST) as stage:
        # Python's own writing tells a full disk from other failures.
        (stage / EXPLAINER_FILE).write_bytes(save((terms or explainer).state_dict()))
        manifest = ExplainerManifest(
            files=record_files(stage),
            provenance=Provenance.here(seed=seed),
            classifier=backbone.record(),
            explainer=record,
            preprocessing=backbone.preprocessing,
            channels=explainer.channels,
            form="weights" if terms is None else "shared-terms",
            answers=record_answers(backbone),
            training=training,
        )
        (stage / EXPLAINER_MANIFEST).write_text(manifest_json(manifest), encoding="utf-8")
    return manifest


def read_explainer_manifest(directory: Path) -> ExplainerManifest:
    """Read ``explainer.json`` and check the weights' hash.

    Raises:
        InvalidInputError: there is no explainer.
        ArtifactError: it is corrupt.
    """
    return read_manifest(directory, EXPLAINER_MANIFEST, ExplainerManifest)


def load_explainer(directory: Path, backbone: Backbone, auxiliary: Auxiliary) -> ExplainerNet:
    """Load an explainer for the classifier and the auxiliary that it was made with.

    Raises:
        InvalidInputError: there is no explainer.
        ArtifactError: it was made for others, or its tensors do not fit its own description.
    """
    manifest = read_explainer_manifest(directory)
    _check_belongs(directory, manifest, backbone, auxiliary)
    path = directory / EXPLAINER_FILE
    explainer = ExplainerNet(manifest.channels, manifest.classifier.num_classes)
    terms = SharedTerms(manifest.channels) if manifest.form == "shared-terms" else None
    try:
        load_state(terms or explainer, read_state_dict(path), str(path))
    except InvalidInputError as error:
        raise ArtifactError(str(error)) from error
    if terms is not None:
        explainer, start = start_explainer(auxiliary, backbone.num_classes, backbone.class_names)
        if start != "activation-map":
            message = (
                f"The explainer in {directory} is kept as a change of {auxiliary.name}'s "
                f"activation map, and the classes of {backbone.name} are not that one's. Train one "
                "for these classes, or give the --class-names that it was trained with."
            )
            raise ArtifactError(message)
        terms.apply_to(explainer)
    explainer.superpixels = manifest.explainer.superpixels
    return explainer.eval()


def moved_class(trained_with: Sequence[str], given: Sequence[str]) -> str | None:
    """Return a class name that stands for another output than when an explainer was trained.

    Names may be changed (another language, a typing error); one that moved labels wrongly.

    Args:
        trained_with: the names at training, in the order of the outputs.
        given: those given now, as many.
    """
    before, now = Counter(trained_with), Counter(given)
    moved = (
        name
        for name, here in zip(given, trained_with, strict=True)
        if name != here and before[name] == now[name]
    )
    return next(moved, None)


def with_class_names(backbone: Backbone, manifest: ExplainerManifest) -> Backbone:
    """Give a classifier the class names of an explainer's training, where it has none.

    Raises:
        InvalidInputError: it has the same names in another order.
    """
    trained_with = manifest.classifier.class_names
    if trained_with is None or len(trained_with) != backbone.num_classes:
        return backbone
    if backbone.class_names is None:
        return replace(backbone, class_names=tuple(trained_with))
    moved = moved_class(trained_with, backbone.class_names)
    if moved is not None:
        message = (
            f"The name {moved!r} is given for output {backbone.class_names.index(moved)}, and was "
            f"output {trained_with.index(moved)}'s when the explainer was trained. Names go in the "
            "order of the classifier's outputs; without --class-names those of the training serve."
        )
        raise InvalidInputError(message)
    return backbone


def _check_belongs(
    directory: Path, manifest: ExplainerManifest, backbone: Backbone, auxiliary: Auxiliary
) -> None:
    record = manifest.explainer
    preprocessing, weights = backbone.preprocessing, backbone.weights.sha256
    of_function = manifest.classifier.weights.source.startswith(FUNCTION_SOURCE)
    if of_function and manifest.answers is not None and not is_function(backbone):
        # A function is given images in [0, 1], and has no weights that could be compared.
        preprocessing, weights = preprocessing.not_normalised(), manifest.classifier.weights.sha256
    pairs: Sequence[tuple[str, object, object]] = (
        ("auxiliary", record.auxiliary, auxiliary.name),
        ("auxiliary input sizes", record.auxiliary_input_sizes, list(auxiliary.input_sizes)),
        ("auxiliary weights", record.auxiliary_weights.sha256, auxiliary.weights.sha256),
        ("auxiliary channels", manifest.channels, auxiliary.channels),
        ("number of classes", manifest.classifier.num_classes, backbone.num_classes),
        ("preprocessing", manifest.preprocessing, preprocessing),
        ("classifier weights", manifest.classifier.weights.sha256, weights),
    )
    for what, made_with, given in pairs:
        if made_with != given:
            if what == "classifier weights" and isinstance(backbone.module, FunctionHead):
                what = "classifier weights, or another function as --head"  # noqa: PLW2901
            message = (
                f"The explainer in {directory} was made for {manifest.classifier.name} with other "
                f"{what}: {_short(made_with)} there, {_short(given)} here. Give the options that "
                "it was trained with, or train one for these."
            )
            raise ArtifactError(message)
    if manifest.answers is not None:
        difference = other_answer(backbone, manifest.answers)
        if difference is not None:
            message = (
                f"{backbone.name} answers otherwise than {manifest.classifier.name} did when the "
                f"explainer in {directory} was trained: of the same test image, {difference}. Is "
                f"an option missing here? It was trained with {_told(manifest)}. Otherwise the "
                "code or the weights changed: train an explainer for this classifier."
            )
            raise ArtifactError(message)


def _told(manifest: ExplainerManifest) -> str:
    """Say what the user told of a classifier when its explainer was trained."""
    prepared = manifest.preprocessing
    mean, std = (",".join(f"{x:g}" for x in numbers) for numbers in (prepared.mean, prepared.std))
    return f"--head {manifest.classifier.head}, --mean {mean} and --std {std}"


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if isinstance(value, str) and len(text) == 64 else text
