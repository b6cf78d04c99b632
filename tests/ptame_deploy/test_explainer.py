import copy

import pytest
import torch
from torch.nn import functional

from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.class_maps import all_class_maps
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer import (
    AttentionBranch,
    ExplainerNet,
    FoldedExplainer,
    shares_classes,
    start_explainer,
)
from ptame_deploy.fused import min_max_normalise

pytestmark = pytest.mark.unit

CHANNELS = [4, 6, 10]
CLASSES = 7


def trained_explainer(seed=0):
    """An explainer none of whose parameters or statistics is at its initial value."""
    torch.manual_seed(seed)
    net = ExplainerNet(CHANNELS, CLASSES)
    for branch in net.branches:
        torch.nn.init.normal_(branch.norm.weight)
        torch.nn.init.normal_(branch.norm.bias)
        branch.norm.running_mean.normal_()
        branch.norm.running_var.uniform_(0.5, 2.0)
    return net.eval()


def features(batch=3, size=16, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, c, size >> d, size >> d, generator=generator)
        for d, c in enumerate(CHANNELS)
    ]


def test_parameter_count_of_the_paper():
    auxiliary = load_auxiliary("resnet18", weights="random")
    explainer = ExplainerNet(auxiliary.channels, 1000)
    assert auxiliary.channels == [64, 128, 256, 512]
    assert sum(p.numel() for p in explainer.parameters()) == 1_311_040


def test_fast_form_equals_the_papers_form():
    net, maps = trained_explainer(), features()
    index = torch.tensor([[0, 6], [3, 3], [5, 1]])
    with torch.no_grad():
        everything = net.all_class_maps(maps)
        chosen = net.class_maps(maps, index)
    assert everything.shape == (3, CLASSES, 16, 16)
    for b in range(3):
        for k in range(2):
            torch.testing.assert_close(chosen[b, k], everything[b, index[b, k]], atol=2e-5, rtol=0)
    # The comparison means something: classes and images differ by far more than the tolerance.
    assert (everything[0, 0] - everything[0, 1]).abs().max() > 0.1
    assert (everything[0, 0] - everything[1, 0]).abs().max() > 0.1


SIZES = [
    ((14, 14), (7, 7), (4, 4)), ((75, 75), (38, 38), (19, 19)),
    ((8, 24), (4, 12), (2, 6)), ((12, 5), (6, 3), (3, 2)), ((9, 8), (9, 8), (3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES)
def test_each_depth_grows_from_one_taps_size_to_the_next(sizes):
    attended = [torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]
    fusion, grown = torch.randn(CLASSES, sum(CHANNELS)), list(attended)
    for depth in range(len(grown)):
        for size in reversed(sizes[:depth]):
            grown[depth] = functional.interpolate(
                grown[depth], size=size, mode="bilinear", align_corners=False
            )
    expected = torch.einsum("kc,bchw->bkhw", fusion, torch.cat(grown, dim=1))
    found = all_class_maps(attended, fusion, like=attended)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("sizes", SIZES)
def test_forms_agree_where_sizes_do_not_halve(sizes):
    net = trained_explainer()
    maps = [torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]
    index = torch.tensor([[2], [4]])
    with torch.no_grad():
        everything = net.all_class_maps(maps)
        chosen = net.class_maps(maps, index)
    torch.testing.assert_close(chosen[0, 0], everything[0, 2], atol=2e-5, rtol=0)
    torch.testing.assert_close(chosen[1, 0], everything[1, 4], atol=2e-5, rtol=0)


@pytest.mark.parametrize("all_classes", [False, True])
def test_folded_explainer_equals_the_unfolded(all_classes):
    net, maps = trained_explainer(), features()
    index = torch.tensor([[0, 6], [3, 3], [5, 1]])
    with torch.no_grad():
        expected = net.class_maps(maps, index)
        folded = FoldedExplainer(net, all_classes=all_classes)(maps, index)
    torch.testing.assert_close(folded, expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("all_classes", [False, True])
@pytest.mark.parametrize(
    ("unused", "branches"), [([0], 2), ([0, 1], 1), ([1], 2), ([2], 2), ([1, 2], 1), ([0, 1, 2], 1)]
)
def test_folding_leaves_out_what_changes_nothing(all_classes, unused, branches):
    """Taps without weight are not read; the map keeps the finest tap's size and its way there."""
    net, maps = trained_explainer(), features()
    with torch.no_grad():
        rows = net.fusion.weight.split(CHANNELS, dim=1)
        for tap in unused:
            rows[tap].zero_()
        net.branches[1].norm.weight.zero_()
        net.branches[1].norm.bias.zero_()
    folded = FoldedExplainer(net, all_classes=all_classes)
    index = torch.tensor([[0, 6], [3, 3], [5, 1]])
    with torch.no_grad():
        torch.testing.assert_close(
            folded(maps, index), net.class_maps(maps, index), atol=5e-5, rtol=0
        )
    assert len(folded.branches) == branches
    identities = [isinstance(branch, torch.nn.Identity) for branch in folded.branches]
    assert sum(identities) == (1 not in unused)


def test_a_start_folds_to_its_deepest_tap_alone():
    net = ExplainerNet(CHANNELS, CLASSES)
    net.initialise_activation_map(torch.randn(CLASSES, 10))
    folded = FoldedExplainer(net.eval())
    assert folded.used == [False, False, True]
    assert sum(p.numel() for p in folded.parameters()) == 0
    assert folded.fusion.shape == (CLASSES, 10)


def test_taps_of_one_size_are_added():
    torch.manual_seed(0)
    net = ExplainerNet([4, 6, 6, 10, 10], CLASSES).eval()
    maps = [torch.randn(2, c, s, s) for c, s in ((4, 16), (6, 8), (6, 8), (10, 4), (10, 2))]
    index = torch.tensor([[2], [4]])
    with torch.no_grad():
        everything = net.all_class_maps(maps)
        chosen = net.class_maps(maps, index)
    torch.testing.assert_close(chosen[:, 0], everything[[0, 1], [2, 4]], atol=2e-5, rtol=0)


def test_branch_is_the_papers_formula():
    torch.manual_seed(0)
    branch = AttentionBranch(3).eval()
    branch.norm.running_mean.normal_()
    branch.norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(branch.norm.weight)
    x = torch.randn(1, 3, 2, 2)
    conv = torch.einsum("oi,bihw->bohw", branch.conv.weight[:, :, 0, 0], x)
    conv = conv + branch.conv.bias[:, None, None]
    mean, var = branch.norm.running_mean[:, None, None], branch.norm.running_var[:, None, None]
    normed = (conv - mean) / (var + 1e-5).sqrt() * branch.norm.weight[:, None, None]
    expected = (normed + branch.norm.bias[:, None, None] + x).clamp(min=0)
    torch.testing.assert_close(branch(x), expected, atol=1e-5, rtol=1e-5)


def test_start_is_the_auxiliarys_activation_map():
    auxiliary = load_auxiliary("resnet18", weights="random")
    explainer, start = start_explainer(auxiliary, 1000, auxiliary.class_names)
    assert start == "activation-map"
    explainer.eval()
    image = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        taps = auxiliary(image)
        maps = explainer.class_maps(taps, torch.tensor([[5], [17]]))
        activation = torch.einsum("chw,c->hw", taps[-1][1], auxiliary.embedding[17])[None, None]
        for _ in range(3):  # 7 -> 14 -> 28 -> 56
            activation = functional.interpolate(activation, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(maps[1:], activation, atol=1e-4, rtol=1e-4)


def test_start_sums_the_activation_maps_of_all_sizes():
    auxiliary = load_auxiliary("resnet18", weights="random", input_sizes=(64, 128))
    explainer, start = start_explainer(auxiliary, 1000, auxiliary.class_names)
    assert start == "activation-map"
    with torch.no_grad():
        taps = auxiliary(torch.rand(1, 3, 128, 128))
        maps = explainer.eval().class_maps(taps, torch.tensor([[5]]))
        small, large = (
            torch.einsum("chw,c->hw", taps[tap][0], auxiliary.embedding[5])[None, None]
            for tap in reversed(auxiliary.deepest_taps)
        )
        assert (small.shape[-1], large.shape[-1]) == (2, 4)
        expected = functional.interpolate(small, scale_factor=2, mode="bilinear") + large
        for _ in range(3):
            expected = functional.interpolate(expected, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)


def test_start_is_random_and_says_so_where_classes_differ():
    auxiliary = load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(64,))
    first, start = start_explainer(auxiliary, 10, None, seed=3)
    again, _ = start_explainer(auxiliary, 10, None, seed=3)
    other, _ = start_explainer(auxiliary, 10, None, seed=4)
    assert start == "random"
    assert torch.equal(first.fusion.weight, again.fusion.weight)
    assert not torch.equal(first.fusion.weight, other.fusion.weight)


def test_shared_classes_are_judged_by_name_where_names_are_known():
    auxiliary = load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(64,))
    names = list(auxiliary.class_names)
    assert shares_classes(auxiliary, 1000, None)
    assert shares_classes(auxiliary, 1000, names)
    assert not shares_classes(auxiliary, 1000, names[::-1])
    assert not shares_classes(auxiliary, 999, None)


def test_embedding_of_other_classes_is_refused():
    with pytest.raises(InvalidInputError, match="classes are not the classifier's"):
        ExplainerNet(CHANNELS, CLASSES).initialise_activation_map(torch.zeros(8, 10))


def test_folding_leaves_the_original_alone():
    net = trained_explainer()
    before = copy.deepcopy(net.state_dict())
    FoldedExplainer(net)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_min_max_normalisation_by_map():
    maps = torch.tensor([[[[1.0, 3.0]], [[-5.0, 5.0]]], [[[2.0, 2.0]], [[0.0, 1e-9]]]])
    got = min_max_normalise(maps)
    assert got[0].flatten().tolist() == [0.0, 1.0, 0.0, 1.0]
    assert got[1, 0].flatten().tolist() == [0.0, 0.0]  # flat: no division by zero
    assert torch.isfinite(got).all()


def test_rounding_noise_of_a_flat_map_is_not_stretched():
    features = [torch.full((1, c, 16 >> d, 16 >> d), 5.0) for d, c in enumerate(CHANNELS)]
    with torch.no_grad():
        raw = trained_explainer().class_maps(features, torch.tensor([[0, 1, 2]]))
        assert min_max_normalise(raw).max() < 0.2
