import builtins
import sys

import numpy as np
import pytest
import torch

from bench.methods.gradients import GradientSettings, gradient_methods
from bench.methods.source import ClassifierSource
from ptame_deploy.errors import MissingRequirementError

pytestmark = pytest.mark.unit

CLASSES = np.array([3, 0, 7])
SETTINGS = GradientSettings(steps=20, samples=5)


def methods_of(source, seed=0, settings=SETTINGS):
    return {method.name: method for method in gradient_methods(source, seed, settings)}


@pytest.fixture(scope="module")
def methods(tiny_source):
    return methods_of(tiny_source)


@pytest.fixture(params=["integrated-gradients", "smooth-grad", "input-x-gradient"])
def method(request, methods):
    return methods[request.param]


def gradient(module, image, index):
    """Of one class's logit with respect to one photo."""
    leaf = torch.from_numpy(image[None]).requires_grad_()
    (found,) = torch.autograd.grad(module(leaf)[0, index], leaf)
    return found[0].numpy()


def test_maps_are_finite_and_follow_photo_and_class(method, batch_of_3):
    maps = method.explain(batch_of_3, CLASSES)
    assert maps.shape == (3, 64, 64)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    other = method.explain(batch_of_3, CLASSES + 1)
    same_photo = method.explain(batch_of_3[[0, 0, 0]], CLASSES)
    for row in range(3):
        assert maps[row].std() > 0
        assert not np.allclose(maps[row], other[row], rtol=1e-3, atol=1e-6)
    assert not np.allclose(same_photo[1], maps[1], rtol=1e-3, atol=1e-6)


def test_a_batch_is_its_photos_one_by_one(method, batch_of_3):
    maps = method.explain(batch_of_3, CLASSES)
    for row in range(3):
        alone = method.explain(batch_of_3[row : row + 1], CLASSES[row : row + 1])[0]
        np.testing.assert_allclose(maps[row], alone, rtol=1e-3, atol=1e-4 * np.abs(alone).max())


def test_input_x_gradient_by_hand(methods, tiny_source, batch_of_3):
    maps = methods["input-x-gradient"].explain(batch_of_3, CLASSES)
    for image, index, found in zip(batch_of_3, CLASSES, maps, strict=True):
        by_hand = (image * gradient(tiny_source.module, image, index)).sum(axis=0)
        np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", [CLASSES, (CLASSES + 4) % 10])
def test_integrated_gradients_add_up_to_the_difference_from_black(tiny_source, batch_of_3, classes):
    """Sundararajan et al. 2017, axiom of completeness."""
    settings = GradientSettings(steps=200)
    method = methods_of(tiny_source, settings=settings)["integrated-gradients"]
    found = method.explain(batch_of_3, classes).sum(axis=(1, 2))
    with torch.no_grad():
        images = torch.from_numpy(batch_of_3)
        before = tiny_source.module(torch.zeros_like(images)).numpy()
        after = tiny_source.module(images).numpy()
    expected = (after - before)[np.arange(3), classes]
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_smooth_grad_without_noise_is_the_gradients_magnitude(tiny_source, batch_of_3):
    settings = GradientSettings(samples=2, noise=1e-9)
    method = methods_of(tiny_source, settings=settings)["smooth-grad"]
    maps = method.explain(batch_of_3, CLASSES)
    for image, index, found in zip(batch_of_3, CLASSES, maps, strict=True):
        by_hand = np.abs(gradient(tiny_source.module, image, index)).sum(axis=0)
        np.testing.assert_allclose(found, by_hand, rtol=1e-3, atol=1e-6)


def test_smooth_grads_noise_is_seeded_by_photo_and_seed_alone(tiny_source, methods, batch_of_3):
    method = methods["smooth-grad"]
    maps = method.explain(batch_of_3, CLASSES)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    np.testing.assert_array_equal(method.explain(batch_of_3, CLASSES), maps)
    turned = method.explain(batch_of_3[[2, 1, 0]], CLASSES[[2, 1, 0]])[::-1]
    np.testing.assert_array_equal(turned, maps)
    np.testing.assert_array_equal(method.explain(batch_of_3[1:2], CLASSES[1:2])[0], maps[1])
    other = methods_of(tiny_source, seed=1)["smooth-grad"].explain(batch_of_3, CLASSES)
    for row in range(3):
        assert not np.allclose(other[row], maps[row], rtol=1e-3)


def test_smooth_grad_leaves_the_global_random_states_alone(methods, batch_of_3):
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    methods["smooth-grad"].explain(batch_of_3, CLASSES)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_the_photos_and_the_classifier_stay_as_they_are(method, tiny_source, batch_of_3):
    before = batch_of_3.copy()
    weights = {n: t.clone() for n, t in tiny_source.module.state_dict().items()}
    method.explain(batch_of_3, CLASSES)
    np.testing.assert_array_equal(batch_of_3, before)
    for name, tensor in tiny_source.module.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert not any(p.requires_grad or p.grad is not None for p in tiny_source.module.parameters())
    assert not any(module.training for module in tiny_source.module.modules())
    assert not any(m._forward_hooks or m._backward_hooks for m in tiny_source.module.modules())


def test_costs_count_both_ways(methods):
    costs = {name: (m.cost.forward, m.cost.backward) for name, m in methods.items()}
    assert costs == {
        "integrated-gradients": (20, 20), "smooth-grad": (5, 5), "input-x-gradient": (1, 1),
    }  # fmt: skip


def test_passes_are_those_that_the_cost_tells(tiny_backbone, batch_of_3):
    source = ClassifierSource(tiny_backbone("build"))
    seen = []
    source.module.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    for method in methods_of(source).values():
        seen.clear()
        method.explain(batch_of_3[:1], CLASSES[:1])
        # captum asks once more for the number of outputs.
        assert method.cost.forward <= sum(seen) <= method.cost.forward + 2


def test_the_cascade_makes_the_method_anew(method, tiny_backbone, tiny_source, batch_of_3):
    cascade = method.classifier_cascade
    assert cascade.module is tiny_source.module
    same = cascade.explain_with(cascade.module)(batch_of_3, CLASSES)
    np.testing.assert_array_equal(same, method.explain(batch_of_3, CLASSES))
    other = ClassifierSource(tiny_backbone("build"))
    torch.nn.init.normal_(other.module.module[0].weight)
    changed = cascade.explain_with(other.module)(batch_of_3, CLASSES)
    assert not np.allclose(changed, same, rtol=1e-2)


def test_without_captum_the_reason_is_given(tiny_source, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "captum":
            message = "no captum here"
            raise ImportError(message)
        return real(name, *arguments, **options)

    for name in [name for name in sys.modules if name.partition(".")[0] == "captum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingRequirementError, match=r"captum is not installed.*evaluate"):
        gradient_methods(tiny_source, 0)
