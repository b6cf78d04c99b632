"""Fixtures that many tests share: a small classifier of a user's own, its graph, real photos."""

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ptame_deploy.cli import console, run

# Real classifier and photos for developers who have them; nothing of them is in the project.
SHARED = Path(os.environ.get("PTAME_SHARED", Path(__file__).parents[2] / "shared"))

TINY_CLASSIFIER = '''
import torch
from torch import nn


def build(classes=10, seed=0):
    """A small convolutional classifier whose answers depend on the image and differ by class."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, classes),
    )
    nn.init.normal_(net[-1].weight, std=2.0)
    return net


def thousand():
    return build(1000)


def one():
    return build(1)


def transformer():
    """torchvision's own, small: 4 x 4 patches, two layers of two heads."""
    from torchvision.models import VisionTransformer
    torch.manual_seed(0)
    net = VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=10,
    )
    nn.init.normal_(net.heads.head.weight, std=2.0)
    return net


def zero_head():
    net = build()
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    return net


def two_outputs():
    class Two(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)), x
    return Two()


def not_a_module():
    return 3


number = 5


def raises():
    raise RuntimeError("no luck")


def leaves():
    raise SystemExit(3)


def leaves_later():
    class Leaves(nn.Module):
        def forward(self, x):
            raise SystemExit(3)
    return Leaves()


def half():
    return nn.Sequential(build(), HalfPrecision())


class HalfPrecision(nn.Module):
    def forward(self, x):
        return x.half()


def no_classes():
    return nn.Sequential(nn.Flatten(), Nothing())


class Nothing(nn.Module):
    def forward(self, x):
        return x[:, :0]


def scripted():
    return torch.jit.script(build())


def meta():
    return build().to("meta")
'''
TINY_OPTIONS = ("--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random",
                "--auxiliary-size", "64", "--input-size", "64", "--resize", "72")  # fmt: skip
# Without a second network, an export takes a third of the time: where features do not matter.
OWN_OPTIONS = ("--auxiliary", "self", "--input-size", "64", "--resize", "72")


# Files of a few tests that take minutes: workers begin with them, or one would end alone.
LONGEST = ("test_readme.py", "test_killed.py", "test_docs.py", "test_full_disk.py")


def pytest_collection_modifyitems(items):
    """Put the longest files first, all else in its order."""
    items.sort(
        key=lambda item: (
            LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)
        )
    )


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """A shell's background jobs ignore Ctrl-C, and so would what the tests start and interrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _fresh_console():
    """Global options of one command line must not reach the next test."""
    yield
    console.settings.verbose = console.settings.quiet = console.settings.debug = False


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory) -> Path:
    """A user's file with factories of small classifiers."""
    path = tmp_path_factory.mktemp("user") / "tiny_classifier.py"
    path.write_text(TINY_CLASSIFIER)
    return path


@pytest.fixture(scope="session")
def export_tiny(tiny_file) -> Callable[..., int]:
    """Export the 10-class classifier of `tiny_file` with further options; returns the exit code."""

    def call(directory: Path, *options: str, factory: str = "build") -> int:
        backbone = f"{tiny_file}:{factory}"
        arguments = ["export", "--backbone", backbone, *TINY_OPTIONS, *options]
        return run([*arguments, "-o", str(directory)])

    return call


@pytest.fixture(scope="session")
def export_own(tiny_file) -> Callable[..., int]:
    """Export as `export_tiny` does, explained by the classifier's own features."""

    def call(directory: Path, *options: str, factory: str = "build") -> int:
        backbone = f"{tiny_file}:{factory}"
        return run(["export", "--backbone", backbone, *OWN_OPTIONS, *options, "-o", str(directory)])

    return call


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Let one worker make what all of them read, at a path that it is given; none writes there."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    folder.mkdir(exist_ok=True)

    def call(name: str, make: Callable[[Path], object]) -> Path:
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / name).exists():
                make(folder / name)
        return folder / name

    return call


@pytest.fixture(scope="session")
def exported_once(made_once, export_tiny) -> Callable[..., Path]:
    """Export as `export_tiny` does, for all workers; the folder is called ``model``."""

    def call(name: str, *options: str, factory: str = "build") -> Path:
        def make(directory: Path) -> None:
            assert export_tiny(directory / "model", *options, factory=factory) == 0

        return made_once(name, make) / "model"

    return call


@pytest.fixture(scope="session")
def tiny_artifact(exported_once) -> Path:
    """An exported graph that explains the two best classes."""
    return exported_once("two-best", "--top-k", "2")


@pytest.fixture(scope="session")
def tiny_classes_artifact(exported_once) -> Path:
    """An exported graph that takes the classes to explain, and uint8 images."""
    return exported_once("classes-input", "--classes", "input", "--input", "uint8")


@pytest.fixture(scope="session")
def transformer_artifact(exported_once) -> Path:
    """An exported graph of a small transformer; takes the classes to explain."""
    return exported_once("transformer", "--classes", "input", factory="transformer")


@pytest.fixture(scope="session")
def torchvision_artifact(made_once) -> Callable[[str], Path]:
    """Export a torchvision classifier with random weights; each only once."""

    def export(name: str) -> Path:
        def make(directory: Path) -> None:
            options = ["--weights", "random", "--auxiliary-weights", "random"]
            arguments = ["export", "--backbone", name, "--auxiliary", "resnet18", *options]
            assert run([*arguments, "-o", str(directory)]) == 0

        return made_once(name, make)

    return export


@pytest.fixture(scope="session")
def real_photos() -> dict[str, Path]:
    """Photos that come with scikit-image, CC0 or public domain."""
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the photos")
    folder = Path(data.__file__).parent
    names = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "camera.png")
    return {Path(name).stem: folder / name for name in names}


@pytest.fixture(scope="session")
def make_photos() -> Callable[..., Path]:
    """Write photos of coarse coloured patches, each different."""

    def make(folder: Path, count: int, size: tuple[int, int] = (90, 80)) -> Path:
        rng = np.random.default_rng(3)
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
        return folder

    return make


@pytest.fixture
def photo_folder(tmp_path) -> Path:
    """Three small photos of different shapes and contents."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (90, 70)), ("b.jpg", (64, 64)), ("c.png", (70, 120))):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def shared_resnet50() -> str:
    """Import string of a real ImageNet ResNet-50 that is a user's own."""
    path = SHARED / "models" / "resnet50_keras.py"
    if not path.is_file():
        pytest.skip("no models/resnet50_keras.py in the folder that PTAME_SHARED names")
    return f"{path}:build"
