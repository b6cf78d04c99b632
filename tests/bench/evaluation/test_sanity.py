from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from judges import PatchRuntime
from toy_evaluations import Brightness, bench_of, method_of

from bench.evaluation.sanity import _shuffled, check_sanity
from bench.measures.judge import Judge
from bench.methods.cam import cam_methods
from bench.methods.floors import floors
from bench.methods.gradients import gradient_methods
from bench.methods.method import Cascade
from bench.methods.ptame import SOURCE, SOURCE_LABEL, source_method
from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.explainer import start_explainer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), 4)


@pytest.fixture
def toy(folder, tmp_path):
    return bench_of(folder, tmp_path / "work")


@pytest.fixture(scope="module")
def source(source_of):
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 5, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3),
        torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, stride=2),
        torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(16, 10),
    )  # fmt: skip
    torch.nn.init.normal_(net[-1].weight, std=2.0)
    return source_of(net)


@pytest.fixture(scope="module")
def grad_cam(source):
    return cam_methods(source, Judge(PatchRuntime()))[0]


@pytest.fixture(scope="module")
def p_tame(source):
    auxiliary = load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(64,), seed=0)
    explainer, _ = start_explainer(auxiliary, 10, None, seed=0)
    record = SimpleNamespace(
        auxiliary_label="x", state="initialised", weights_sha256="y", superpixels=None
    )
    manifest = SimpleNamespace(explainer=record, cautions=[])
    return source_method(SOURCE, SOURCE_LABEL, source, auxiliary, explainer, manifest)


def test_a_method_that_ignores_the_class_is_seen(toy):
    ignores = method_of(lambda images, _: Brightness()(images, np.zeros(len(images))), "ignores")
    record = check_sanity(toy.bench, ignores, toy.photos, 0)
    assert record.other_class.mean == pytest.approx(1)
    assert record.other_class.photos == 4
    heeds = check_sanity(toy.bench, method_of(Brightness(), "heeds"), toy.photos, 0)
    assert heeds.other_class.mean < 0.8


def test_floors_stand_where_they_must(toy):
    gaussian, random = (check_sanity(toy.bench, one, toy.photos, 0) for one in floors(0))
    assert gaussian.other_class.mean == gaussian.noise.mean == pytest.approx(1)
    assert random.other_class.mean == pytest.approx(1)
    assert abs(random.noise.mean) < 0.5
    assert gaussian.cascade == gaussian.own_cascade == []
    assert "cascade" in gaussian.reasons


def test_slight_noise_hardly_moves_a_smooth_method(toy):
    stable = check_sanity(toy.bench, method_of(Brightness()), toy.photos, 0).noise
    assert 0.9 < stable.mean <= 1

    def nervous(images, _):
        return np.modf(images[:, 0] * 1000)[0]

    assert check_sanity(toy.bench, method_of(nervous, "n"), toy.photos, 0).noise.mean < 0.3


def test_the_classifiers_layers_change_a_real_grad_cam(toy, grad_cam):
    record = check_sanity(toy.bench, grad_cam, toy.photos, 0)
    steps = record.cascade
    assert [step.layers for step in steps] == sorted({step.layers for step in steps})
    assert steps[0].layers == 1
    assert steps[-1].layers == steps[-1].of == 5  # three convolutions, a norm, the head
    assert steps[0].deepest == "module.9"  # from the top
    assert steps[-1].deepest == "module.0"
    assert all(step.similarity.mean < 0.95 for step in steps)
    assert "cascade" not in record.reasons
    assert record.other_class.mean < 0.95


def test_a_gradient_method_changes_too(toy, source):
    method = gradient_methods(source, 0)[2]
    steps = check_sanity(toy.bench, method, toy.photos, 0).cascade
    assert steps[-1].similarity.mean < 0.8


def test_told_the_class_p_tame_is_left_exactly_alone_by_the_classifiers_layers(toy, p_tame):
    record = check_sanity(toy.bench, p_tame, toy.photos, 0)
    assert len(record.cascade) >= 3
    for step in record.cascade:
        assert step.similarity.mean == pytest.approx(1, abs=1e-12)
        assert step.similarity.low == step.similarity.high
    own = record.own_cascade
    assert own[0].layers == 1
    assert own[-1].layers == own[-1].of > 20
    assert own[0].deepest.startswith("1")  # the explainer before the auxiliary
    assert own[-1].deepest.startswith("0")
    assert own[0].similarity.mean < 0.9
    images = toy.bench.images(toy.photos)
    index = np.array([1, 2, 3, 4])
    before = p_tame.explain(images, index)
    for _, _, _, module in _shuffled(p_tame.classifier_cascade.module, 0):
        after = p_tame.classifier_cascade.explain_with(module)(images, index)
        np.testing.assert_array_equal(before, after)


def test_a_cascade_shuffles_a_copy_from_the_top(source):
    module = source.module
    weights = {n: t.clone() for n, t in module.state_dict().items()}
    seen = []
    for count, total, name, changed in _shuffled(module, 0):
        assert changed is not module
        assert total == 5
        moved = set()
        for key, tensor in changed.state_dict().items():
            values, own = tensor.flatten().sort()[0], weights[key].flatten().sort()[0]
            assert torch.equal(values, own)  # the same values in another order
            if not torch.equal(tensor, weights[key]):
                moved.add(key.rpartition(".")[0])
        seen.append((count, name, moved))
    assert [count for count, _, _ in seen] == [1, 2, 4, 5]
    assert seen[0][1:] == ("module.9", {"module.9"})
    # The norm's weights are all alike, shuffled or not.
    assert seen[-1][1:] == ("module.0", {f"module.{i}" for i in (0, 2, 5, 9)})
    for one, next_one in pairwise(seen):
        assert one[2] <= next_one[2]
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_the_shuffle_is_seeded(source):
    def last(seed):
        *_, (_, _, _, module) = _shuffled(source.module, seed)
        return module.state_dict()["module.0.weight"].clone()

    assert torch.equal(last(0), last(0))
    assert not torch.equal(last(0), last(1))


def test_normalisation_statistics_stay(source):
    *_, (_, _, _, module) = _shuffled(source.module, 0)
    for name in ("module.3.running_mean", "module.3.running_var", "mean", "std"):
        assert torch.equal(module.state_dict()[name], source.module.state_dict()[name])


def test_what_is_done_is_not_done_again(toy, grad_cam):
    record = check_sanity(toy.bench, grad_cam, toy.photos, 0)
    (path,) = (toy.bench.store.directory / "sanity" / "grad-cam").iterdir()
    before = path.stat().st_mtime_ns
    assert check_sanity(toy.bench, grad_cam, toy.photos, 0) == record
    assert path.stat().st_mtime_ns == before
    other = check_sanity(toy.bench, grad_cam, toy.photos, 1)
    assert other.noise != record.noise
    fewer = check_sanity(toy.bench, grad_cam, toy.photos[:2], 0)
    assert fewer.noise.photos == 2


def test_a_costly_method_says_why_it_was_not_checked(toy):
    record = check_sanity(toy.bench, method_of(Brightness(), passes=100), toy.photos, 0)
    assert record.noise is record.other_class is None
    assert set(record.reasons) == {"noise", "other_class", "cascade"}
    assert not (toy.bench.store.directory / "sanity").exists()


def test_a_method_that_chooses_its_class_cannot_be_asked_for_another(toy):
    method = method_of(Brightness(), own_classes=lambda _, asked: asked)
    record = check_sanity(toy.bench, method, toy.photos, 0)
    assert record.other_class is None
    assert "itself" in record.reasons["other_class"]
    assert record.noise is not None


def test_an_untouched_copy_gives_the_method_itself(toy, source, grad_cam):
    cascade = grad_cam.classifier_cascade
    assert isinstance(cascade, Cascade)
    images, index = toy.bench.images(toy.photos), np.array([1, 2, 3, 4])
    again = cascade.explain_with(cascade.module)(images, index)
    np.testing.assert_array_equal(again, grad_cam.explain(images, index))
