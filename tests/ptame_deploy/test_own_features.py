import copy

import onnxruntime
import pytest
import torch
from torch import nn

from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer import FoldedExplainer, start_explainer
from ptame_deploy.explainer_store import load_explainer, record_explainer, save_explainer
from ptame_deploy.fused import FusedModel, NormalisedClassifier
from ptame_deploy.onnx_export import export
from ptame_deploy.own_features import OwnFeatures
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.synthetic import synthetic_images
from ptame_deploy.vision import import_torchvision
from ptame_deploy.weights import record_weights

pytestmark = pytest.mark.unit

models = import_torchvision().models


def made(factory, **arguments):
    """A frozen classifier for images of 64 pixels, with random weights."""
    torch.manual_seed(0)
    module = factory(**arguments).eval().requires_grad_(requires_grad=False)
    preprocessing = Preprocessing(
        input_size=(64, 64), resize=64, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2)
    )
    classes = module(torch.zeros(2, 3, 64, 64)).shape[1]
    return Backbone("made", module, preprocessing, classes, None, record_weights(module, "test"))


@pytest.fixture(scope="module")
def resnet():
    return made(models.resnet18, weights=None, num_classes=10)


def images(count=2):
    return torch.from_numpy(synthetic_images(count, 64, 64, seed=7))


def test_taps_are_the_last_layers_of_each_resolution(resnet):
    auxiliary = OwnFeatures(resnet)
    assert auxiliary.channels == [64, 128, 256, 512]
    assert auxiliary.tap_sizes == [(16, 16), (8, 8), (4, 4), (2, 2)]
    classifier = NormalisedClassifier(resnet)
    with torch.no_grad():
        logits, taps = auxiliary.observe(classifier, images())
        net = resnet.module
        x = (images() - classifier.mean) / classifier.std
        expected = []
        for stage in (
            nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1),
            net.layer2, net.layer3, net.layer4,
        ):  # fmt: skip
            x = stage(x)
            expected.append(x)
        torch.testing.assert_close(logits, net.fc(x.mean((2, 3))))
    for tap, other in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap, other)
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("factory", "arguments", "has_head"),
    [
        (models.resnet18, {"num_classes": 10}, True),
        (models.densenet121, {"num_classes": 10}, True),
        (models.mobilenet_v3_small, {"num_classes": 10}, False),  # a hidden layer in between
        (models.vgg11, {"num_classes": 10}, False),
    ],
)
def test_a_pooled_linear_head_is_recognised_by_its_numbers(factory, arguments, has_head):
    backbone = made(factory, weights=None, **arguments)
    auxiliary = OwnFeatures(backbone)
    explainer, start = start_explainer(auxiliary, backbone.num_classes, backbone.class_names)
    assert (start == "activation-map") is has_head is (auxiliary.embedding is not None)
    if has_head:
        head = [module for module in backbone.module.modules() if isinstance(module, nn.Linear)]
        assert torch.equal(auxiliary.embedding, head[-1].weight)
        with torch.no_grad():
            logits, taps = auxiliary.observe(NormalisedClassifier(backbone), images())
            if factory is models.resnet18:  # whose features no ReLU changes
                asked = torch.arange(10).expand(2, -1)
                maps = explainer.eval().class_maps(taps, asked).mean((2, 3))
                gap = (maps[0] - maps[1]) - (logits[0] - logits[1])
                assert gap.abs().max() < 0.05 * (logits[0] - logits[1]).abs().max()


def test_a_transformers_patches_are_a_tap():
    backbone = made(
        models.VisionTransformer, image_size=64, patch_size=16, num_layers=2, num_heads=2,
        hidden_dim=32, mlp_dim=64, num_classes=10,
    )  # fmt: skip
    assert OwnFeatures(backbone).embedding is None  # all its logits are 0: nothing to recognise
    nn.init.normal_(backbone.module.heads.head.weight)
    auxiliary = OwnFeatures(backbone)
    _, taps = auxiliary.observe(NormalisedClassifier(backbone), images())
    assert [tap.shape for tap in taps] == [(2, 32, 4, 4)]
    assert auxiliary.embedding is None  # its class token is classified, not the patches' mean


def test_a_classifier_without_places_is_refused():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3 * 64 * 64, 10)

        def forward(self, image):
            return self.head(image.flatten(1))

    with pytest.raises(InvalidInputError, match="Choose an auxiliary network instead of 'self'"):
        OwnFeatures(made(Flat))


def test_copies_with_other_weights_are_tapped_themselves(resnet):
    explainer, _ = start_explainer(OwnFeatures(resnet), 10, None)
    fused = FusedModel(resnet, OwnFeatures(resnet), FoldedExplainer(explainer.eval()))
    other = copy.deepcopy(fused)
    for parameter in other.classifier.parameters():
        parameter.data.mul_(0.5)
    with torch.no_grad():
        image = images()
        before, after = fused(image)[0], other(image)[0]
        assert not torch.allclose(before, after)
        torch.testing.assert_close(after, other.classifier(image))
        taps = other.auxiliary.observe(other.classifier, image)[1]
        assert not torch.allclose(taps[-1], fused.auxiliary.observe(fused.classifier, image)[1][-1])


@pytest.mark.integration
def test_the_fused_graph_runs_the_classifier_once(resnet, tmp_path):
    auxiliary = OwnFeatures(resnet)
    explainer, start = start_explainer(auxiliary, 10, None)
    record = record_explainer(explainer, auxiliary, state="initialised", start=start)
    manifest = export(resnet, auxiliary, explainer, record, tmp_path / "model")
    assert manifest.explainer.auxiliary_label == "the classifier's own features"
    assert manifest.explainer.auxiliary_weights == manifest.classifier.weights
    assert not any("taken to be ImageNet" in caution for caution in manifest.cautions)
    session = onnxruntime.InferenceSession(str(tmp_path / "model" / "model.onnx"))
    logits, _, saliency = session.run(None, {"image": images(3).numpy()})
    with torch.no_grad():
        expected = FusedModel(resnet, auxiliary, FoldedExplainer(explainer))(images(3))
    torch.testing.assert_close(torch.from_numpy(logits), expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(saliency), expected[2], atol=1e-4, rtol=0)
    import onnx

    graph = onnx.load(tmp_path / "model" / "model.onnx").graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 20  # ResNet-18's own: none for the explainer's identity branches


def test_an_explainer_of_own_features_is_kept_and_found_again(resnet, tmp_path):
    auxiliary = OwnFeatures(resnet)
    explainer, start = start_explainer(auxiliary, 10, None)
    record = record_explainer(explainer, auxiliary, state="initialised", start=start)
    save_explainer(explainer, record, resnet, tmp_path / "explainer", seed=0)
    loaded = load_explainer(tmp_path / "explainer", resnet, OwnFeatures(resnet))
    assert torch.equal(loaded.fusion.weight, explainer.fusion.weight)
