import builtins

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bench.measures.judge import Judge
from bench.methods.cam import cam_methods
from bench.methods.target_layer import find_target_layer
from ptame_deploy.errors import InvalidInputError, MissingRequirementError
from ptame_deploy.vision import import_torchvision

pytestmark = pytest.mark.unit

NAMES = ["grad-cam", "grad-cam++", "layer-cam", "hires-cam", "score-cam", "ablation-cam"]
CLASSES = np.array([3, 0, 7])


class TorchRuntime:
    """A module as a judge's runtime."""

    description = "torch"

    def __init__(self, module):
        self.module, self.batches = module, []

    def run(self, inputs):
        self.batches.append(len(inputs["image"]))
        with torch.no_grad():
            logits = self.module(torch.from_numpy(inputs["image"])).numpy()
        return {"logits": logits}


def judge_of(source, batch=8):
    return Judge(TorchRuntime(source.module), batch=batch)


def methods_of(source, layer=None):
    return {method.name: method for method in cam_methods(source, judge_of(source), layer)}


def convolutional(channels=80, *, in_place=False):
    """More channels than are ablated at once, and a head to which places differ."""
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 5, stride=4), nn.ReLU(inplace=in_place), nn.Conv2d(12, channels, 3),
        nn.ReLU(inplace=in_place), nn.Conv2d(channels, channels, 3), nn.ReLU(inplace=in_place),
        nn.Flatten(), nn.Linear(11 * 11 * channels, 10),
    )  # fmt: skip
    nn.init.normal_(net[-1].weight, std=0.1)
    return net


@pytest.fixture(scope="module")
def source(source_of):
    return source_of(convolutional())


@pytest.fixture(scope="module")
def methods(source):
    return methods_of(source)


@pytest.fixture(params=NAMES)
def method(request, methods):
    return methods[request.param]


def stretched(one):
    return (one - one.min()) / (one.max() - one.min())


def test_six_methods_on_one_layer(methods):
    assert list(methods) == NAMES
    for method in methods.values():
        assert method.family == "cam"
        assert method.settings["target_layer"] == "5"
    assert {name: m.cost.passes for name, m in methods.items()} == {
        "grad-cam": 3, "grad-cam++": 3, "layer-cam": 3, "hires-cam": 3, "score-cam": 80,
        "ablation-cam": 80,
    }  # fmt: skip
    assert "torch" in methods["score-cam"].runtime
    cascades = [name for name, m in methods.items() if m.classifier_cascade]
    assert cascades == NAMES[:4]


def test_maps_are_finite_and_follow_photo_and_class(method, batch_of_3):
    maps = method.explain(batch_of_3, CLASSES)
    assert maps.ndim == 3
    assert len(maps) == 3
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    others = method.explain(batch_of_3, (CLASSES + 1) % 10)
    same_photo = method.explain(batch_of_3[[0, 0, 0]], CLASSES)
    for row in range(3):
        assert maps[row].std() > 0
        assert not np.allclose(maps[row], others[row], atol=1e-2)
    assert not np.allclose(same_photo[1], maps[1], atol=1e-2)
    assert not np.allclose(same_photo[1], same_photo[0], atol=1e-2)


def test_a_batch_is_its_photos_one_by_one(method, batch_of_3):
    maps = method.explain(batch_of_3, CLASSES)
    for row in range(3):
        alone = method.explain(batch_of_3[row : row + 1], CLASSES[row : row + 1])
        np.testing.assert_allclose(alone[0], maps[row], atol=1e-4)


def test_the_transformers_maps_too(transformer_source, batch_of_3):
    for method in methods_of(transformer_source).values():
        maps = method.explain(batch_of_3, CLASSES)
        others = method.explain(batch_of_3, (CLASSES + 1) % 10)
        assert np.isfinite(maps).all()
        assert not np.allclose(maps, others, atol=1e-2)
        alone = method.explain(batch_of_3[2:], CLASSES[2:])[0]
        np.testing.assert_allclose(alone, maps[2], atol=1e-4)


def parts_by_hand(module, layer, image, index):
    """A layer's activations and the logit's gradients there, (C, h, w), by autograd alone.

    The network runs from its input to the layer, and anew from a leaf in the layer's place.
    """
    activations = []
    handle = layer.register_forward_hook(lambda _m, _i, output: activations.append(output.clone()))
    module(torch.from_numpy(image[None]))
    handle.remove()
    leaf = activations[0].detach().requires_grad_()
    handle = layer.register_forward_hook(lambda *_: leaf.clone())
    logit = module(torch.from_numpy(image[None]))[0, index]
    handle.remove()
    (gradients,) = torch.autograd.grad(logit, leaf)
    return leaf[0].detach(), gradients[0]


def shown(weighted):
    """ReLU and upsampling of (h, w) to the photo's size, stretched to [0, 1]."""
    size = {"size": (64, 64), "mode": "bilinear", "align_corners": False}
    up = functional.interpolate(torch.relu(weighted)[None, None], **size)[0, 0].numpy()
    return stretched(up)


BY_HAND = {
    "grad-cam": lambda a, g: (g.mean((1, 2), keepdim=True) * a).sum(0),
    "hires-cam": lambda a, g: (g * a).sum(0),
    "layer-cam": lambda a, g: (torch.relu(g) * a).sum(0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_gradient_methods_by_hand(name, methods, source, batch_of_3):
    layer = source.module.module[5]
    maps = methods[name].explain(batch_of_3, CLASSES)
    for image, index, found in zip(batch_of_3, CLASSES, maps, strict=True):
        weighted = BY_HAND[name](*parts_by_hand(source.module, layer, image, index))
        np.testing.assert_allclose(stretched(found), shown(weighted), atol=2e-3)


class InPlace(nn.Module):
    """As torchvision's DenseNets: the last layer's output is changed in place behind it."""

    def __init__(self):
        super().__init__()
        self.features, self.head = convolutional()[:5], convolutional()[7]

    def forward(self, images):
        return self.head(functional.relu(self.features(images), inplace=True).flatten(1))


def test_a_layer_that_is_changed_in_place_later_is_seen_as_it_was(source_of, batch_of_3):
    source = source_of(InPlace())
    layer = source.module.module.features
    maps = methods_of(source)["grad-cam"].explain(batch_of_3, CLASSES)
    for image, index, found in zip(batch_of_3, CLASSES, maps, strict=True):
        activations, gradients = parts_by_hand(source.module, layer, image, index)
        assert activations.min() < 0
        weighted = BY_HAND["grad-cam"](activations, gradients)
        np.testing.assert_allclose(stretched(found), shown(weighted), atol=2e-3)


def packages(kind, source, images, **arguments):
    """The package's own method on the same module and layer."""
    import_torchvision()
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    layer = find_target_layer(source.module, source.example())
    cam = getattr(pytorch_grad_cam, kind)(
        source.module, [layer.module], reshape_transform=layer.reshape, **arguments
    )
    maps = []
    with torch.no_grad():
        for image, index in zip(images, CLASSES, strict=True):
            targets = [ClassifierOutputTarget(int(index))]
            maps.append(cam(torch.from_numpy(image[None]), targets)[0])
    cam.activations_and_grads.release()
    return np.stack(maps)


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_streamed_score_cam_is_the_packages(source, batch, batch_of_3):
    judge = judge_of(source, batch)
    method = next(m for m in cam_methods(source, judge) if m.name == "score-cam")
    maps = method.explain(batch_of_3, CLASSES)
    np.testing.assert_allclose(maps, packages("ScoreCAM", source, batch_of_3), atol=1e-3)
    assert set(judge.runtime.batches) == {batch}
    assert sum(judge.runtime.batches) == 3 * -(-80 // batch) * batch


def test_streamed_score_cam_of_the_transformer_is_the_packages(transformer_source, batch_of_3):
    maps = methods_of(transformer_source)["score-cam"].explain(batch_of_3, CLASSES)
    np.testing.assert_allclose(
        maps, packages("ScoreCAM", transformer_source, batch_of_3), atol=1e-3
    )


def layers_of_package(source):
    from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit

    layer = find_target_layer(source.module, source.example())
    return AblationLayer() if layer.reshape is None else AblationLayerVit()


class Reshapes(nn.Module):
    """Behind the layer it needs to know how many photos came in front of it."""

    def __init__(self):
        super().__init__()
        self.body = convolutional()[:6]
        self.head = nn.Linear(80, 10)
        nn.init.normal_(self.head.weight)

    def forward(self, images):
        return self.head(self.body(images).view(len(images), 80, -1).mean(dim=2))


class Residual(nn.Module):
    """The layer stands beside another way that the photos take."""

    def __init__(self):
        super().__init__()
        self.stem = convolutional()[:4]
        self.layer, self.beside = nn.Conv2d(80, 80, 3, padding=1), nn.Conv2d(80, 80, 1)
        self.act, self.head = nn.ReLU(), nn.Linear(80, 10)
        nn.init.normal_(self.head.weight)

    def forward(self, images):
        stem = self.stem(images)
        beside = self.beside(stem)
        return self.head((self.act(self.layer(stem)) + beside).mean((2, 3)))


@pytest.mark.parametrize("kind", [convolutional, Reshapes, Residual, "transformer"])
def test_ablation_cam_with_its_shortcut_is_the_packages(
    kind, source_of, transformer_source, batch_of_3
):
    source = transformer_source if kind == "transformer" else source_of(kind())
    maps = methods_of(source)["ablation-cam"].explain(batch_of_3, CLASSES)
    plain = packages(
        "AblationCAM", source, batch_of_3, ablation_layer=layers_of_package(source), batch_size=32
    )
    np.testing.assert_allclose(maps, plain, atol=1e-3)
    assert maps.std(axis=(1, 2)).max() > 0.05


def test_the_shortcut_saves_the_layers_in_front(source_of, batch_of_3):
    source = source_of(convolutional())
    seen = []
    source.module.module[0].register_forward_hook(lambda _m, _i, output: seen.append(len(output)))
    method = methods_of(source)["ablation-cam"]
    seen.clear()
    method.explain(batch_of_3[:1], CLASSES[:1])
    assert sum(seen) < 45  # in full: 1 and 80


def modules_of(source):
    return {name: id(module) for name, module in source.module.named_modules()}


def test_nothing_is_left_behind(method, source, batch_of_3):
    before = modules_of(source)
    weights = {n: t.clone() for n, t in source.module.state_dict().items()}
    photos = batch_of_3.copy()
    method.explain(batch_of_3, CLASSES)
    assert modules_of(source) == before
    for module in source.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
        assert not module.training
    for parameter in source.module.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
    for name, tensor in source.module.state_dict().items():
        assert torch.equal(tensor, weights[name])
    np.testing.assert_array_equal(batch_of_3, photos)


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_modules_are_put_back_even_if_the_classifier_fails(source_of, batch_of_3, calls):
    """At its first answer, or in the middle, when the package's layer stands in for its own."""

    class Fails(nn.Module):
        left = None

        def forward(self, x):
            if self.left is not None:
                if self.left == 0:
                    message = "in the middle"
                    raise ValueError(message)
                self.left -= 1
            return x

    fails = Fails()
    source = source_of(nn.Sequential(*convolutional(), fails))
    methods = methods_of(source)
    before = modules_of(source)
    expected = {name: m.explain(batch_of_3, CLASSES) for name, m in methods.items()}
    for name in ("grad-cam", "ablation-cam"):
        fails.left = 0 if name == "grad-cam" else calls
        with pytest.raises(ValueError, match="in the middle"):
            methods[name].explain(batch_of_3, CLASSES)
        assert modules_of(source) == before
        assert not any(m._forward_hooks for m in source.module.modules())
    fails.left = None
    for name, method in methods.items():
        np.testing.assert_array_equal(method.explain(batch_of_3, CLASSES), expected[name])


def test_a_layer_is_named_as_the_classifier_names_it(source, methods, batch_of_3):
    """The user does not know what the classifier is wrapped in."""
    other = methods_of(source, "2")["grad-cam"]
    assert other.settings["target_layer"] == "2"
    maps = methods["grad-cam"].explain(batch_of_3, CLASSES)
    assert not np.allclose(other.explain(batch_of_3, CLASSES), maps, atol=1e-2)


def test_a_wrong_name_is_answered_with_the_classifiers_own_names(source_of):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = convolutional()[:6], nn.Linear(80, 10)

        def forward(self, images):
            return self.head(self.features(images).mean((2, 3)))

    with pytest.raises(InvalidInputError, match="Did you mean") as found:
        methods_of(source_of(Named()), "feature")
    assert "module." not in str(found.value)


def test_without_grad_cam_the_reason_is_given(source, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "pytorch_grad_cam":
            message = "no grad-cam here"
            raise ImportError(message)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingRequirementError, match=r"grad-cam is not installed.*evaluate"):
        cam_methods(source, judge_of(source))
