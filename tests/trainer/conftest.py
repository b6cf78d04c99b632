"""A classifier whose answer depends on one coloured square, an auxiliary, and photos of squares."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ptame_deploy.auxiliaries import Auxiliary, NetworkAuxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.preprocessing import Preprocessing
from ptame_deploy.weights import record_weights
from trainer.loss_weights import LOSSES, LossWeights
from trainer.module import ExplainerModule, OptimiserSettings

COLOURS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1))
SIZE = 64


class SquareClassifier(nn.Module):
    """Names the colour of the square on a grey ground; on black it can name none."""

    def __init__(self) -> None:
        super().__init__()
        colours = torch.tensor(COLOURS, dtype=torch.float32)
        directions = colours - colours.mean(dim=1, keepdim=True)  # blind to grey
        self.colours = nn.Conv2d(3, len(COLOURS), 1, bias=False)
        self.colours.weight.data = directions[:, :, None, None] * 100
        self.norm = nn.BatchNorm2d(len(COLOURS))
        self.drop = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        return self.drop(self.norm(self.colours(image)).relu().mean(dim=(2, 3)))


def make_squares(count: int, seed: int = 0) -> Tensor:
    """Images (count, 3, 64, 64) in [0, 1]: grey noise and a square; colours take turns."""
    rng = np.random.default_rng(seed)
    images = np.repeat(rng.uniform(0.3, 0.6, (count, 1, SIZE, SIZE)), 3, axis=1)
    for number, image in enumerate(images):
        top, left = rng.integers(0, SIZE - 20, 2)
        colour = np.array(COLOURS[number % len(COLOURS)])[:, None, None]
        image[:, top : top + 20, left : left + 20] = colour
    return torch.from_numpy(images).float()


@pytest.fixture(scope="session")
def squares() -> Callable[..., Tensor]:
    return make_squares


@pytest.fixture
def backbone() -> Backbone:
    module = SquareClassifier().eval()
    preprocessing = Preprocessing(
        input_size=(SIZE, SIZE), resize=72, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )
    record = record_weights(module, "test")
    return Backbone("squares", module, preprocessing, len(COLOURS), None, record)


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small are faster on one thread, whatever else the machine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    """No test meets scores that another left, nor leaves some with the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def make_auxiliary() -> Callable[[int], Auxiliary]:
    """Make an auxiliary with taps at a 4th, 8th and 16th of its input size; no embedding."""

    def make(input_size: int) -> Auxiliary:
        torch.manual_seed(0)
        stages = []
        for before, after, stride in ((3, 12, 4), (12, 16, 2), (16, 24, 2)):
            conv = nn.Conv2d(before, after, stride + 1, stride, padding=stride // 2)
            stages.append(nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU()))
        return NetworkAuxiliary(
            "tiny",
            stages,
            input_sizes=(input_size,),
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
            embedding=None,
            class_names=None,
            weights=record_weights(nn.Sequential(*stages), "test"),
        )

    return make


@pytest.fixture(scope="session")
def auxiliary(make_auxiliary) -> Auxiliary:
    return make_auxiliary(SIZE)


@pytest.fixture
def make_module(backbone, auxiliary) -> Callable[..., ExplainerModule]:
    """Make a module; without further arguments all its weights are random, BatchNorm gains 1."""

    def make(
        weights: LossWeights = LOSSES["vgg16"].weights,
        explainer: ExplainerNet | None = None,
        learning_rate: float = 1e-2,
        steps: int = 40,
    ) -> ExplainerModule:
        if explainer is None:
            torch.manual_seed(0)
            explainer = ExplainerNet(auxiliary.channels, backbone.num_classes)
        optimiser = OptimiserSettings(learning_rate, 0.0, steps)
        return ExplainerModule(backbone, auxiliary, explainer, weights, optimiser)

    return make


@pytest.fixture(scope="session")
def square_photos(tmp_path_factory) -> Path:
    """A folder of 12 photos."""
    folder = tmp_path_factory.mktemp("squares")
    for number, image in enumerate(make_squares(12)):
        pixels = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).resize((90, 80)).save(folder / f"{number:02}.png")
    return folder
