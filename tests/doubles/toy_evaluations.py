"""Small evaluations without a command line: methods and photos made by hand."""

from types import SimpleNamespace

import numpy as np
from judges import PatchRuntime

from bench.evaluation.collect import Bench
from bench.evaluation.photos import judge_photos, photo_names
from bench.evaluation.store import Store
from bench.measures.judge import Judge
from bench.measures.measure import MeasureSettings
from bench.measures.registry import choose
from bench.methods.cost import Cost
from bench.methods.method import Method
from ptame_deploy.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(input_size=(64, 64), resize=72)


def bench_of(folder, workspace, measures=("drop-matched", "insertion"), **changes):
    """A bench on the photos of a folder, with its judge's runtime."""
    runtime = PatchRuntime()
    judge = Judge(runtime, batch=4)
    paths = sorted(folder.iterdir())
    chosen = list(zip(paths, photo_names(paths, [folder]), strict=True))
    photos = judge_photos(chosen, PREPROCESSING, judge, "judge", workspace).photos
    settings = MeasureSettings(steps=4)
    arguments = {"costly_passes": 64, "costly_limit": 25, "costly_budget": 25_000, **changes}
    bench = Bench(
        judge=judge, judge_identity="judge", preprocessing=PREPROCESSING,
        measures=choose(measures, settings), store=Store(workspace), **arguments,
    )  # fmt: skip
    return SimpleNamespace(bench=bench, photos=photos, runtime=runtime)


class Brightness:
    """A method: the photo's own brightness on an 8 x 8 grid, shifted by the class."""

    def __init__(self):
        self.calls = []

    def __call__(self, images, index):
        self.calls.append(len(images))
        coarse = images.mean(axis=1).reshape(len(images), 8, 8, 8, 8).mean(axis=(2, 4))
        rolled = [
            np.roll(one, int(shift), axis=1) for one, shift in zip(coarse, index, strict=True)
        ]
        return np.stack(rolled).astype(np.float32)


def method_of(explain, name="toy", passes=1, **changes):
    """A row around a function."""
    return Method(
        name=name, label=name.title(), family="gradient", explain=explain,
        cost=Cost(forward=passes), runtime="toy", **changes,
    )  # fmt: skip
