import builtins
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bench.methods import registry
from bench.methods.gradients import GradientSettings
from bench.methods.method import Method, Unavailable
from bench.methods.perturbation import PerturbationSettings
from bench.methods.registry import (
    ALWAYS,
    NAMES,
    MethodSettings,
    Source,
    Subject,
    check_names,
    make_methods,
)
from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer import start_explainer

pytestmark = pytest.mark.integration

CAM = ["grad-cam", "grad-cam++", "layer-cam", "hires-cam", "score-cam", "ablation-cam"]
GRADIENT = ["integrated-gradients", "smooth-grad", "input-x-gradient"]
PERTURBATION = ["rise", "occlusion", "lime", "kernel-shap"]
P_TAME = ["p-tame", "p-tame-pytorch"]  # here the explainer is the untrained start itself
FLOORS = ["gaussian", "random"]
SETTINGS = MethodSettings(
    gradient=GradientSettings(steps=3, samples=2),
    perturbation=PerturbationSettings(rise_masks=10, samples=10),
)


@pytest.fixture
def subject(tiny_opened, tmp_path):
    opened = tiny_opened
    return Subject([opened.graphs], opened.judge, opened.choice, tmp_path / "work")


@pytest.fixture(scope="module")
def networks():
    auxiliary = load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(64,), seed=0)
    explainer, _ = start_explainer(auxiliary, 10, None, seed=0)
    return auxiliary, explainer


@pytest.fixture(scope="module")
def source(source_of):
    """A convolutional classifier of ten classes."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip
    nn.init.normal_(net[-1].weight, std=2.0)
    return source_of(net)


@pytest.fixture
def sourced(subject, source, networks):
    return with_source(subject, source, networks)


def with_source(subject, source, networks, start=None):
    found = Source(source, *networks, start)
    return Subject(subject.graphs, subject.judge, subject.choice, subject.workspace, (), found)


def rows_of(subject, names=None, settings=SETTINGS):
    return {row.name: row for row in make_methods(subject, settings, names)}


def test_every_method_is_a_row_and_runs(sourced, batch_of_3):
    rows = rows_of(sourced)
    assert list(rows) == P_TAME + CAM + GRADIENT + PERTURBATION + FLOORS
    assert set(NAMES) < set(rows)
    for row in rows.values():
        assert isinstance(row, Method), row
        maps = row.explain(batch_of_3[:1], np.array([2]))
        assert maps.ndim == 3
        assert np.isfinite(maps).all()


def test_without_the_source_gradient_methods_say_what_would_help(subject):
    rows = rows_of(subject)
    assert list(rows) == P_TAME + CAM + GRADIENT + PERTURBATION + FLOORS
    missing = [name for name, row in rows.items() if isinstance(row, Unavailable)]
    assert missing == ["p-tame-pytorch", *CAM, *GRADIENT]
    for name in missing:
        assert rows[name].label
        assert "--backbone" in rows[name].reason


def test_chosen_methods_alone_run_beside_those_that_always_do(subject, sourced):
    assert list(rows_of(sourced, ["rise", "grad-cam"])) == [*P_TAME, "grad-cam", "rise", *FLOORS]
    assert list(rows_of(sourced, [])) == [*P_TAME, *FLOORS]
    assert list(rows_of(subject, ["lime"])) == [*P_TAME, "lime", *FLOORS]
    assert set(ALWAYS) == {"p-tame", *FLOORS}


def test_an_unknown_name_is_refused_with_the_nearest_and_all(subject):
    for call in (check_names, lambda names: make_methods(subject, SETTINGS, names)):
        with pytest.raises(InvalidInputError, match=r"'grad-cm'.* Did you mean grad-cam") as found:
            call(["rise", "grad-cm"])
        assert all(name in str(found.value) for name in NAMES)
    with pytest.raises(InvalidInputError, match=r"'zzz'. There are"):
        check_names(["zzz"])
    check_names(NAMES)
    check_names([])


def test_an_unknown_target_layer_is_the_users_error(sourced):
    settings = MethodSettings(target_layer="nowhere")
    with pytest.raises(InvalidInputError, match=r"--target-layer.*'nowhere'"):
        rows_of(sourced, ["grad-cam"], settings)
    assert "rise" in rows_of(sourced, ["rise"], settings)  # who does not look at it does not mind


def test_a_missing_package_is_a_reason_in_its_rows(sourced, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] in ("captum", "pytorch_grad_cam"):
            message = f"no {name}"
            raise ImportError(message)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    rows = rows_of(sourced)
    for name in (*CAM, *GRADIENT, "occlusion", "lime", "kernel-shap"):
        assert isinstance(rows[name], Unavailable), name
        assert "pip install" in rows[name].reason
    for name in ("p-tame", "p-tame-pytorch", "rise", *FLOORS):
        assert isinstance(rows[name], Method), name


def test_a_classifier_without_places_is_a_reason_not_the_end(subject, source_of, networks):
    """Nobody named a layer: the CAM rows say why they are not there, and the others run."""
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10))
    rows = rows_of(with_source(subject, source_of(flat), networks))
    for name in CAM:
        assert isinstance(rows[name], Unavailable)
        assert "--target-layer" in rows[name].reason
    assert isinstance(rows["input-x-gradient"], Method)


def test_a_channels_last_transformer_lacks_one_row_alone(subject, source_of, networks, batch_of_3):
    """grad-cam's Ablation-CAM cannot ablate such layers; the five others can look at them."""
    from torchvision.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    swin = SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=10)
    rows = rows_of(with_source(subject, source_of(swin), networks))
    assert isinstance(rows["ablation-cam"], Unavailable)
    assert "channels-last" in rows["ablation-cam"].reason
    for name in CAM[:5]:
        assert rows[name].explain(batch_of_3[:1], np.array([2])).std() > 0


def test_the_untrained_start_is_made_where_the_explainer_is_trained(
    subject, source, networks, tiny_classes_artifact, opened
):
    trained = subject.graphs[0].manifest.explainer.model_copy(update={"state": "trained"})
    manifest = subject.graphs[0].manifest.model_copy(update={"explainer": trained})
    graphs = type(subject.graphs[0])(
        manifest, subject.graphs[0].fused, subject.graphs[0].classifier
    )
    parts = Source(source, *networks, lambda: opened(tiny_classes_artifact).graphs)
    made = Subject([graphs], subject.judge, subject.choice, subject.workspace, (), parts)
    rows = rows_of(made, [])
    assert isinstance(rows["p-tame-start"], Method)
    assert rows["p-tame"].label == "P-TAME"
    alone = Subject([graphs], subject.judge, subject.choice, subject.workspace)
    assert "--backbone" in rows_of(alone, [])["p-tame-start"].reason


def test_the_seed_reaches_the_methods(sourced, batch_of_3):
    chosen = ["smooth-grad", "rise", "lime", "kernel-shap"]
    one = rows_of(sourced, chosen)
    other = rows_of(sourced, chosen, replace(SETTINGS, seed=5))
    for name in (*chosen, "random"):
        assert one[name].settings["seed"] == 0
        assert other[name].settings["seed"] == 5
        maps = [rows[name].explain(batch_of_3[:1], np.array([2])) for rows in (one, other)]
        assert not np.allclose(*maps)


def test_an_engine_that_cannot_run_here_is_a_row(subject, tmp_path):
    engine = tmp_path / "plan"
    engine.mkdir()
    (engine / "model.plan").write_bytes(b"plan")
    made = Subject(subject.graphs, subject.judge, subject.choice, subject.workspace, [engine])
    row = rows_of(made, [])["p-tame-engine-plan"]
    assert isinstance(row, Unavailable)
    assert row.reason


def test_names_are_those_of_the_modules():
    assert list(registry.NAMES) == ["p-tame", *CAM, *GRADIENT, *PERTURBATION, *FLOORS]
