import copy

import pytest
import torch
from torch import nn

from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.vision import import_timm, import_torchvision
from ptame_deploy.weights import state_sha256
from trainer.folding import fold_batch_norms

pytestmark = pytest.mark.integration
IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def statistics(network):
    """BatchNorms that do something: new ones change nothing."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            size = module.running_mean.shape
            module.running_mean.copy_(torch.randn(size, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
            if module.weight is not None:
                with torch.no_grad():
                    module.weight.copy_(torch.rand(size, generator=generator) + 0.5)
                    module.bias.copy_(torch.randn(size, generator=generator) * 0.1)
    return network.eval().requires_grad_(requires_grad=False)


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def fold(network):
    return fold_batch_norms(network, lambda net: [net(IMAGE)])


class Network(nn.Module):
    """A network whose parts are called as a test says."""

    def __init__(self, forward, *, affine=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4, affine=affine)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.call = forward

    def forward(self, x):
        return self.call(self, x).mean(dim=(2, 3))


@pytest.mark.parametrize("affine", [True, False])
def test_a_pair_becomes_one_convolution_with_the_same_gradient(affine):
    network = statistics(Network(lambda n, x: n.second(n.norm(n.conv(x)).relu()), affine=affine))
    before = state_sha256(network)
    folded = fold(network)
    assert norms(folded) == 0
    assert state_sha256(network) == before
    results = []
    for one in (network, folded):
        image = IMAGE.clone().requires_grad_()
        outputs = one(image)
        outputs[:, 1].sum().backward()
        results.append((outputs.detach(), image.grad))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize(
    "forward",
    [
        lambda n, x: n.norm(n.conv(x)) + n.conv(x),  # the convolution is used twice
        lambda n, x: n.norm(n.second(n.norm(n.conv(x)))),  # the BatchNorm is used twice
        lambda n, x: sum(f(y) for y in [n.conv(x)] for f in (n.norm, nn.Identity())),  # a branch
        lambda n, x: n.norm(n.conv(x) + 1.0),
        lambda n, x: n.conv(x),
    ],
)
def test_what_would_change_the_answer_stays(forward):
    network = statistics(Network(forward))
    assert fold(network) is network


def test_a_network_that_cannot_be_copied_stays():
    network = statistics(Network(lambda n, x: n.norm(n.conv(x))))

    def refuse(_):
        raise TypeError

    network.__deepcopy__ = refuse
    assert fold(network) is network


def test_batch_norm_with_statistics_of_the_batch_stays():
    network = statistics(Network(lambda n, x: n.norm(n.conv(x)))).train()
    assert fold(network) is network


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_torchvisions_networks(name):
    network = statistics(getattr(import_torchvision().models, name)(weights=None))
    folded = fold(network)
    assert norms(folded) < norms(network) / (1 if name != "densenet121" else 1.5)
    torch.testing.assert_close(folded(IMAGE), network(IMAGE), rtol=1e-3, atol=1e-4)


def test_timms_activations_are_kept():
    network = statistics(import_timm().create_model("tf_efficientnet_lite0"))
    folded = fold(network)
    assert norms(folded) == 0
    torch.testing.assert_close(folded(IMAGE), network(IMAGE), rtol=1e-3, atol=1e-4)


def test_auxiliaries_keep_their_taps():
    auxiliary = statistics(load_auxiliary("resnet18", weights="random", input_sizes=(64, 96)))
    folded = fold_batch_norms(auxiliary, lambda net: net(IMAGE))
    assert norms(folded) == 0
    for mine, other in zip(folded(IMAGE), auxiliary(IMAGE), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)
    assert folded.deepest_taps == auxiliary.deepest_taps
    assert copy.deepcopy(folded).channels == auxiliary.channels
