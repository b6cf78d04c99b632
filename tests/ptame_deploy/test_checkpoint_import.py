import pytest
import torch
from torch import nn
from torch.nn import functional

from ptame_deploy.checkpoint_import import import_explainer
from ptame_deploy.cli import run
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer_store import read_explainer_manifest

pytestmark = pytest.mark.unit
CHANNELS, CLASSES = (6, 6, 10), 7


class Branch(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return functional.relu(self.bn(self.conv(x)) + x)


class Foreign(nn.Module):
    """The method as its paper words it, with names and an order of its own."""

    def __init__(self):
        super().__init__()
        # A frozen network beside it, with a 1x1 convolution and BatchNorms of the same channels.
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 10, 1))
        self.fuse = nn.Conv2d(sum(CHANNELS), CLASSES, 1, bias=False)
        self.attention = nn.ModuleList(Branch(count) for count in CHANNELS)

    def forward(self, taps):
        maps = [branch(tap) for branch, tap in zip(self.attention, taps, strict=True)]
        size = maps[0].shape[-1]
        large = []
        for small in maps:
            grown = small
            while grown.shape[-1] < size:
                grown = functional.interpolate(grown, scale_factor=2.0, mode="bilinear")
            large.append(grown)
        return self.fuse(torch.cat(large, dim=1))


@pytest.fixture
def foreign():
    torch.manual_seed(0)
    net = Foreign()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return net.eval()


@pytest.mark.parametrize("prefix", ["", "module.", "model.explainer."])
def test_maps_are_those_of_the_foreign_form(foreign, prefix):
    state = {prefix + name: value for name, value in foreign.state_dict().items()}
    found = import_explainer(state, CHANNELS, CLASSES)
    taps = [
        torch.randn(2, count, side, side) for count, side in zip(CHANNELS, (8, 4, 2), strict=True)
    ]
    expected = foreign(taps)
    index = torch.tensor([[0, 3, 6], [1, 2, 5]])
    assert torch.allclose(found.explainer.all_class_maps(taps), expected, atol=1e-5)
    chosen = found.explainer.class_maps(taps, index)
    assert torch.allclose(chosen[1], expected[1, index[1]], atol=1e-5)
    assert sorted(found.left) == sorted(prefix + n for n in foreign.state_dict() if "body" in n)
    assert set(found.taken.values()) | set(found.left) == set(state)


def test_a_sequence_without_names_and_a_fusion_with_bias_are_known(foreign):
    names = {"conv": "0", "bn": "1"}
    state = {}
    for name, value in foreign.state_dict().items():
        parts = [names.get(part, part) for part in name.split(".")]
        if parts[0] != "body":
            state[".".join(parts)] = value
    state["fuse.weight"] = state["fuse.weight"][:, :, 0, 0]
    state["fuse.bias"] = torch.ones(CLASSES)
    found = import_explainer(state, CHANNELS, CLASSES)
    assert found.left == []
    assert torch.equal(found.explainer.fusion.weight, foreign.fuse.weight[:, :, 0, 0])


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        ("attention.2.conv.bias", r"no attention branch 3 for 10 channels"),
        ("attention.1.bn.running_var", "no BatchNorm that clearly belongs to net.attention.1.conv"),
        ("fuse.weight", "no fusion layers"),
    ],
)
def test_what_is_missing_is_named(foreign, drop, says):
    state = {f"net.{name}": value for name, value in foreign.state_dict().items()}
    del state[f"net.{drop}"]
    if drop.startswith("attention.2"):
        state = {name: value for name, value in state.items() if not name.startswith("net.body")}
    with pytest.raises(InvalidInputError, match=says):
        import_explainer(state, CHANNELS, CLASSES)


def test_another_classifiers_checkpoint_is_refused(foreign):
    with pytest.raises(InvalidInputError, match=r"weight \(8, 22, 1, 1\)"):
        import_explainer(foreign.state_dict(), CHANNELS, 8)
    with pytest.raises(InvalidInputError, match="branch 3 for 12 channels"):
        import_explainer(foreign.state_dict(), (6, 6, 12), CLASSES)


def test_broken_numbers_are_refused(foreign):
    state = foreign.state_dict()
    state["attention.1.conv.weight"][0, 0] = float("nan")
    with pytest.raises(InvalidInputError, match=r"attention\.1\.conv\.weight holds NaN"):
        import_explainer(state, CHANNELS, CLASSES)


@pytest.mark.integration
def test_an_imported_explainer_is_exported(tiny_file, tmp_path, capsys):
    from ptame_deploy.auxiliaries import load_auxiliary

    auxiliary = load_auxiliary("resnet18", weights="random", input_sizes=(64,))
    torch.manual_seed(1)
    state = {}
    for number, count in enumerate(auxiliary.channels):
        branch = Branch(count)
        state |= {f"net.attn.{number}.{name}": v for name, v in branch.state_dict().items()}
    state["net.fuse.weight"] = torch.randn(10, sum(auxiliary.channels), 1, 1)
    state["net.spare"] = torch.zeros(3)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "theirs.pt")
    common = ["--backbone", f"{tiny_file}:build", "--input-size", "64", "--resize", "72"]
    aux = ["--auxiliary-weights", "random", "--auxiliary-size", "64"]
    words = ["import-checkpoint", tmp_path / "theirs.pt", *common, *aux, "-o", tmp_path / "own"]
    assert run([str(word) for word in words]) == 0
    assert "net.spare" in capsys.readouterr().err
    manifest = read_explainer_manifest(tmp_path / "own")
    assert manifest.explainer.start == "imported"
    assert manifest.training["imported_from"] == "theirs.pt"
    words = ["export", *common, "--explainer", tmp_path / "own", "-o", tmp_path / "model"]
    assert run([str(word) for word in (*words, "--auxiliary-weights", "random")]) == 0


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_file_that_is_no_checkpoint_is_exit_4(tiny_file, tmp_path, capsys, content):
    (tmp_path / "bad.pt").write_bytes(content)
    words = ["import-checkpoint", tmp_path / "bad.pt", "--backbone", f"{tiny_file}:build"]
    assert run([str(word) for word in (*words, "-o", tmp_path / "own")]) == 4
    assert "bad.pt" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()
