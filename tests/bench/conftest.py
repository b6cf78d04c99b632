"""Small classifiers with their judges, for methods and for what an evaluation does with them."""

import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

SMALL = {"input_size": (64, 64), "resize": 72}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """So small networks are slower on several, and much slower where others use them too."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_backbone(tiny_file) -> Callable:
    """Load one of the small classifiers anew, as the user's options would."""
    from ptame_deploy.sources.load import load_backbone

    return lambda factory: load_backbone(f"{tiny_file}:{factory}", preprocessing=SMALL)


@pytest.fixture(scope="session")
def source_of(tiny_backbone) -> Callable:
    """Take any module for a classifier of the small one's preprocessing."""
    from bench.methods.source import ClassifierSource

    tiny = tiny_backbone("build")

    def make(module) -> ClassifierSource:
        module.eval().requires_grad_(requires_grad=False)
        return ClassifierSource(replace(tiny, module=module))

    return make


@pytest.fixture(scope="session")
def tiny_source(tiny_backbone):
    """The small convolutional classifier in PyTorch; whoever changes it puts it back."""
    from bench.methods.source import ClassifierSource

    return ClassifierSource(tiny_backbone("build"))


@pytest.fixture(scope="session")
def transformer_source(tiny_backbone):
    """The small transformer in PyTorch."""
    from bench.methods.source import ClassifierSource

    return ClassifierSource(tiny_backbone("transformer"))


@pytest.fixture(scope="session")
def batch_of_3() -> np.ndarray:
    """Three different photos, (3, 3, 64, 64) in [0, 1]."""
    rng = np.random.default_rng(5)
    photos = []
    for _ in range(3):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        photos.append(np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC)))
    return np.stack(photos).transpose(0, 3, 1, 2).astype(np.float32) / 255


@pytest.fixture(scope="session")
def opened(tmp_path_factory) -> Callable[..., SimpleNamespace]:
    """Open an artifact as `ptame evaluate` does: graphs, judge, and what runs them."""

    def call(artifact, batch: int = 8) -> SimpleNamespace:
        from bench.graphs import graphs_of_artifact
        from bench.measures.judge import Judge
        from bench.runtimes import RuntimeChoice

        choice = RuntimeChoice(threads=1)
        graphs = graphs_of_artifact(artifact, tmp_path_factory.mktemp("opened"))
        runtime = choice.open_graph(graphs.classifier, graphs.manifest.inputs[:1])
        judge = Judge(runtime, batch=batch, takes_uint8=graphs.manifest.takes_uint8)
        return SimpleNamespace(graphs=graphs, judge=judge, choice=choice, artifact=artifact)

    return call


@pytest.fixture(scope="session")
def tiny_opened(opened, tiny_artifact) -> SimpleNamespace:
    """The small classifier in a graph that explains its own two best classes."""
    return opened(tiny_artifact)
