import pytest
import torch
from torch import nn

from bench.methods.target_layer import find_target_layer
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.vision import import_torchvision

pytestmark = pytest.mark.unit

models = import_torchvision().models


def image(side=64):
    return torch.full((1, 3, side, side), 0.5)


def made(build, **options):
    torch.manual_seed(0)
    return build(**options).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def resnet18():
    return made(models.resnet18, weights=None, num_classes=10)


def vision_transformer():
    return made(
        models.VisionTransformer, image_size=64, patch_size=16, num_layers=2, num_heads=2,
        hidden_dim=32, mlp_dim=64, num_classes=10,
    )  # fmt: skip


def swin():
    return made(
        models.SwinTransformer, patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 2],
        window_size=[4, 4], num_classes=10,
    )  # fmt: skip


def check(module, layer, side=64):
    """What a CAM method does with a layer: activations (B, C, h, w) with more than one place."""
    seen = []
    handle = layer.module.register_forward_hook(lambda _m, _i, output: seen.append(output))
    module(image(side))
    handle.remove()
    activations = layer.reshape(seen[0]) if layer.reshape else seen[0]
    assert activations.shape[:2] == (1, layer.channels)
    assert min(activations.shape[2:]) > 1
    assert module.get_submodule(layer.name) is layer.module
    return activations, seen[0]


def test_resnets_last_block(resnet18):
    layer = find_target_layer(resnet18, image())
    assert layer.name == "layer4"
    assert (layer.channels, layer.reshape, layer.extra_tokens) == (512, None, 0)
    check(resnet18, layer)


def test_vggs_last_places():
    """Its adaptive pooling keeps 7 x 7 places, and at its usual size it changes nothing."""
    net = made(models.vgg11, weights=None, num_classes=10)
    layer = find_target_layer(net, image())
    assert (layer.name, layer.channels) == ("avgpool", 512)
    check(net, layer)


def test_densenets_features():
    net = made(models.densenet121, weights=None, num_classes=10)
    layer = find_target_layer(net, image())
    assert (layer.name, layer.channels) == ("features", 1024)
    check(net, layer)


def test_a_transformers_norm_before_its_last_attention():
    """Behind the last block, patches have no way to the class token any more."""
    net = vision_transformer()
    layer = find_target_layer(net, image())
    assert layer.name == "encoder.layers.encoder_layer_1.ln_1"
    assert (layer.channels, layer.extra_tokens) == (32, 1)
    activations, tokens = check(net, layer)
    assert activations.shape == (1, 32, 4, 4)
    for row in range(4):
        for column in range(4):  # the class token first, then the patches row by row
            torch.testing.assert_close(
                activations[0, :, row, column], tokens[0, 1 + 4 * row + column]
            )


def test_swins_last_norm_is_channels_last():
    net = swin()
    layer = find_target_layer(net, image())
    assert layer.name == "features.3.1.norm1"
    assert (layer.channels, layer.extra_tokens) == (32, 0)
    activations, output = check(net, layer)
    assert activations.shape == (1, 32, 8, 8)
    torch.testing.assert_close(activations[0, :, 2, 5], output[0, 2, 5])


def small(*head):
    body = (nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU())
    return made(lambda: nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head))


def test_a_long_head_does_not_make_the_last_convolution_a_stem():
    net = small(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 32), nn.ReLU(),
                nn.Dropout(), nn.Linear(32, 10))  # fmt: skip
    assert find_target_layer(net, image()).name == "3"


def test_the_tests_own_small_classifier_has_one(tiny_source):
    layer = find_target_layer(tiny_source.module, image())
    assert layer.name == "module.4"
    check(tiny_source.module, layer)


def test_a_transformers_stem_is_not_what_is_meant():
    """Patches without a norm of a known name: its convolution sees no more than a patch."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 16, stride=16)
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
            self.head = nn.Linear(8, 10)

        def forward(self, images):
            tokens = self.patches(images).flatten(2).transpose(1, 2)
            for block in self.blocks:
                tokens = tokens + block(tokens)
            return self.head(tokens.mean(dim=1))

    net = made(Plain)
    with pytest.raises(InvalidInputError, match="--target-layer"):
        find_target_layer(net, image())
    assert find_target_layer(net, image(), "blocks.1").reshape is not None


def test_a_layer_that_runs_twice_stands_where_it_ran_last():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
            self.head = nn.Linear(6, 10)

        def forward(self, images):
            return self.head(self.relu(self.two(self.relu(self.one(images)))).mean((2, 3)))

    layer = find_target_layer(made(Twice), image())
    assert (layer.name, layer.channels) == ("relu", 6)


def test_a_named_layer_is_taken(resnet18):
    layer = find_target_layer(resnet18, image(), "layer2.1.conv1")
    assert (layer.name, layer.channels) == ("layer2.1.conv1", 128)
    check(resnet18, layer)
    net = vision_transformer()
    layer = find_target_layer(net, image(), "encoder.layers.encoder_layer_0.ln_2")
    assert layer.extra_tokens == 1
    check(net, layer)
    net = swin()
    assert find_target_layer(net, image(), "features.1.0.norm2").channels == 16


def test_an_unknown_name_is_refused_with_the_nearest(resnet18):
    with pytest.raises(InvalidInputError, match=r"'layer9'.* Did you mean .*layer") as found:
        find_target_layer(resnet18, image(), "layer9")
    assert "--target-layer" in str(found.value)
    with pytest.raises(InvalidInputError, match=r"no module 'zzzzzz'\.$"):
        find_target_layer(resnet18, image(), "zzzzzz")


@pytest.mark.parametrize(("name", "gives"), [("avgpool", "512, 1, 1"), ("fc", "1, 10")])
def test_a_layer_without_places_is_refused(resnet18, name, gives):
    with pytest.raises(InvalidInputError, match=f"{name} gives .*{gives}.*square patches"):
        find_target_layer(resnet18, image(), name)


def test_a_layer_that_never_runs_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 62 * 62, 10))
    net.unused = nn.Identity()
    net.forward = lambda images: net[2](net[1](net[0](images)))
    with pytest.raises(InvalidInputError, match="unused never runs"):
        find_target_layer(net, image(), "unused")


def test_a_classifier_without_places_has_none():
    net = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10)))
    with pytest.raises(InvalidInputError, match="No layer with spatial activations"):
        find_target_layer(net, image())


def test_no_hook_is_left(resnet18):
    find_target_layer(resnet18, image())
    assert not any(module._forward_hooks for module in resnet18.modules())
    with pytest.raises(RuntimeError):
        find_target_layer(resnet18, torch.zeros(1, 5, 64, 64))
    assert not any(module._forward_hooks for module in resnet18.modules())
