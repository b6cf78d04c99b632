"""Triton model repositories: folders that tritonserver serves as they are."""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines.artifact import Artifact
from engines.plan import PLAN_FILE
from engines.triton import backend
from engines.triton.config import (
    LABELS,
    MANIFEST_PARAMETER,
    BackendName,
    Serving,
    config_text,
    ensemble_config,
    graph_config,
    parse_config,
    photo_config,
)
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.graph_parts import extract_classifier
from ptame_deploy.storage import publish, writable, write_text

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

CONFIG, CODE = "config.pbtxt", "model.py"
CLASSIFIER, PHOTO, DECODE = "-classifier", "-photo", "-decode"  # endings of the models' names
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Wanted:
    """One artifact in a repository.

    Attributes:
        artifact: the graph or the plan.
        name: of the model.
        serving: how it is served.
    """

    artifact: Artifact
    name: str
    serving: Serving


@dataclass
class _Model:
    """One model of a repository, before it is written."""

    config: "ModelConfig"
    version: int
    files: dict[str, Path] = field(default_factory=dict)
    labels: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Of the model, and of its folder."""
        return str(self.config.name)


def write_models(
    wanted: Sequence[Wanted],
    repository: Path,
    *,
    ensemble: bool = False,
    also_classifier: bool = False,
) -> list[str]:
    """Write artifacts into a model repository: all of them, or none.

    Args:
        wanted: what is served, and how.
        repository: the folder that Triton is given; made if need be.
        ensemble: also ``NAME-decode``, which prepares photos, and ``NAME-photo``, which takes their
            bytes and answers as the graph does.
        also_classifier: also ``NAME-classifier``, the classifier alone.

    Returns:
        The names of the models.

    Raises:
        InvalidInputError: a name that Triton cannot have, or two models of one name, a model or
            version that is there already, or a backend that cannot run the artifact.
        MissingRequirementError: Triton's schema is not installed, or the disk is full.
    """
    for one in wanted:
        if not _NAME.fullmatch(one.name):
            message = (
                f"{one.name!r} cannot be a model's name: letters, digits, '.', '_' and '-' only. "
                "Choose another one (--name)."
            )
            raise InvalidInputError(message)
        _check_backend(one.artifact, one.serving)
    with ExitStack() as stack:
        stack.enter_context(writable(repository, "choose another --repository"))
        repository.mkdir(parents=True, exist_ok=True)
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix=".ptame-", dir=repository))
        )
        models = [
            model
            for one in wanted
            for model in _models_of(
                one, scratch, ensemble=ensemble, also_classifier=also_classifier
            )
        ]
        _check_names([model.name for model in models])
        for model in models:
            _check_place(repository / model.name, model)
        # What takes room and time comes before anything appears in the repository.
        staged = [(model, _stage(model, scratch)) for model in models]
        for model, folder in staged:
            _publish(model, folder, repository / model.name)
    return [model.name for model in models]


def _models_of(
    wanted: Wanted, scratch: Path, *, ensemble: bool, also_classifier: bool
) -> list[_Model]:
    artifact, name, serving = wanted.artifact, wanted.name, wanted.serving
    models = [_graph_model(artifact, name, serving)]
    if also_classifier:
        models.append(_classifier_model(artifact, name + CLASSIFIER, serving, scratch))
    if ensemble:
        decode = photo_config(name + DECODE, artifact.graph.inputs[0], artifact.graph, serving)
        models.append(_Model(decode, serving.version, {CODE: _backend_code("photo_model")}))
        whole = ensemble_config(name + PHOTO, decode, models[0].config, serving)
        models.append(_Model(whole, serving.version))
    return models


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = (
            f"Two models would be called {twice[0]}: write them one by one, with --name, or rename "
            "a folder."
        )
        raise InvalidInputError(message)


def _backend_of(artifact: Artifact) -> BackendName:
    """Return the backend that is made for an artifact."""
    return "onnxruntime" if artifact.plan is None else "tensorrt"


def _check_backend(artifact: Artifact, serving: Serving) -> None:
    if (artifact.plan is None) == (serving.backend == "tensorrt"):
        kind = "a graph" if artifact.plan is None else "an engine"
        message = (
            f"{artifact.directory} holds {kind}, which the backend {serving.backend} does not run: "
            f"leave --backend away, or take --backend {_backend_of(artifact)}."
        )
        raise InvalidInputError(message)
    plan = artifact.plan
    if plan is None:
        return
    if plan.flavour != "tensorrt":
        message = (
            f"{artifact.directory} was built by {plan.flavour}, and Triton loads engines of "
            "TensorRT itself alone: build one (ptame build --runtime tensorrt), or serve the graph."
        )
        raise InvalidInputError(message)
    profile = plan.profile
    if profile.min_batch > 1 or serving.max_batch > profile.max_batch:
        message = (
            f"The engine takes {profile.min_batch} to {profile.max_batch} photos, Triton would "
            f"give it 1 to {serving.max_batch}: choose --max-batch, or build it anew."
        )
        raise InvalidInputError(message)


def _graph_model(artifact: Artifact, name: str, serving: Serving) -> _Model:
    manifest, plan = artifact.graph, artifact.plan
    labels = manifest.classifier.class_names or ()
    inputs, outputs = manifest.inputs, manifest.outputs
    config = graph_config(name, inputs, outputs, manifest, serving, labelled=bool(labels))
    if plan is not None:
        files = {PLAN_FILE: artifact.directory / PLAN_FILE}
    else:
        files = {one: artifact.directory / one for one in manifest.files}
    if serving.backend == "python":
        files |= {GRAPH_MANIFEST: artifact.directory / GRAPH_MANIFEST}
        files |= {CODE: _backend_code("graph_model")}
    return _Model(config, serving.version, files, labels)


def _classifier_model(artifact: Artifact, name: str, serving: Serving, scratch: Path) -> _Model:
    if artifact.plan is not None:
        message = (
            f"--also-classifier: {artifact.directory} holds an engine, and the classifier cannot "
            "be cut out of one. Serve the graph that it was built from."
        )
        raise InvalidInputError(message)
    manifest = artifact.graph
    cut = scratch / f"cut-{name}"
    cut.mkdir()
    extract_classifier(artifact.directory / GRAPH_FILE, cut / GRAPH_FILE)
    labels = manifest.classifier.class_names or ()
    outputs = [one for one in manifest.outputs if one.name == "logits"]
    config = graph_config(
        name, manifest.inputs[:1], outputs, manifest, serving, labelled=bool(labels)
    )
    del config.parameters[MANIFEST_PARAMETER]  # it makes no maps
    files = {path.name: path for path in cut.iterdir()}
    if serving.backend == "python":
        files |= {CODE: _backend_code("graph_model")}
    return _Model(config, serving.version, files, labels)


def _backend_code(module: str) -> Path:
    return Path(backend.__file__).with_name(f"{module}.py")


def _check_place(target: Path, model: _Model) -> None:
    if not target.exists():
        return
    version = model.version
    if not (target / CONFIG).is_file():
        message = f"{target} is there already and is no model: choose another --name."
        raise InvalidInputError(message)
    versions = sorted(int(path.name) for path in target.iterdir() if path.name.isdecimal())
    if version in versions:
        message = (
            f"{target} has a version {version} already: add another one "
            f"(--model-version {versions[-1] + 1}), choose another --name, or remove it."
        )
        raise InvalidInputError(message)
    try:
        old = parse_config((target / CONFIG).read_text(encoding="utf-8"))
    except (InvalidInputError, UnicodeDecodeError) as error:
        message = (
            f"{target / CONFIG} cannot be read ({error}): choose another --name, or remove the "
            "model."
        )
        raise InvalidInputError(message) from error
    for what in ("input", "output"):
        if list(getattr(old, what)) != list(getattr(model.config, what)):
            message = (
                f"{target} has other {what}s: one configuration holds for all of a model's "
                "versions. Choose another --name."
            )
            raise InvalidInputError(message)


def _stage(model: _Model, scratch: Path) -> Path:
    """Write a model's folder where nobody looks for it."""
    staged = scratch / f"staged-{model.name}"
    folder = staged / str(model.version)
    folder.mkdir(parents=True)
    for name, source in model.files.items():
        shutil.copyfile(source, folder / name)
    if model.labels:
        lines = [" ".join(label.split()) for label in model.labels]
        (staged / LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (staged / CONFIG).write_text(config_text(model.config), encoding="utf-8")
    return staged


def _publish(model: _Model, staged: Path, target: Path) -> None:
    """Put a model in place: a new one as a whole, a version beside others before its config."""
    if not target.exists():
        publish(staged, target)
        return
    version = str(model.version)
    publish(staged / version, target / version)
    for path in sorted(staged.iterdir(), key=lambda one: one.name == CONFIG):
        if path.is_file():
            write_text(target / path.name, path.read_text(encoding="utf-8"))


def serving_of(artifact: Artifact, given: Mapping[str, object]) -> Serving:
    """Fill in what the user did not say, from what the artifact is.

    Args:
        artifact: what is served.
        given: fields of `Serving`, None for those that were not given.
    """
    said = {name: value for name, value in given.items() if value is not None}
    serving = Serving(backend=_backend_of(artifact))
    if artifact.plan is not None:
        profile = artifact.plan.profile
        serving = replace(serving, gpu=True, max_batch=profile.max_batch)
    return replace(serving, **said)  # type: ignore[arg-type]
