"""How fast this machine trains: the largest batch that pays, and steps that fit a time."""

import copy
import itertools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.utils.data import DataLoader

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.faithfulness import PERCENTAGES
from trainer.data import Batch
from trainer.hardware import Precision
from trainer.module import ExplainerModule
from trainer.networks import is_lack_of_memory
from trainer.validation import Validation

LARGEST_BATCH = 512
# A larger batch is taken only if it is this much faster: its steps are fewer, too.
_PAYS = 1.05
MEASURED = 3  # steps, after one that warms up
_JUDGED = 8  # photos that judging is measured on


def largest_paying_batch(
    module: ExplainerModule,
    size: tuple[int, int],
    photos: int,
    device: torch.device,
    *,
    precision: Precision = "fp32",
) -> int:
    """Double the batch as long as it fits into memory and images get cheaper.

    Args:
        module: real steps are taken with it; its weights are as before afterwards.
        size: height and width of the images.
        photos: that there are; a batch is never larger.
        device: to measure on.
        precision: of the networks' arithmetic.

    Returns:
        Photos a step.

    Raises:
        InvalidInputError: not even the smallest batch fits.
    """
    best, fastest = 0, 0.0
    with _borrowed(module, device), _autocast(device, precision):
        batch = min(max(2, module.min_batch), photos)
        while batch <= min(photos, LARGEST_BATCH):
            try:
                pace = batch / _seconds_per_step(module, batch, size, device)
            except RuntimeError as error:
                if not is_lack_of_memory(error):
                    raise
                break
            if pace < fastest * _PAYS:
                break
            best, fastest = batch, pace
            batch *= 2
    if best == 0:
        message = (
            "Not even the smallest batch fits into memory. Use a smaller --auxiliary-size or "
            "--precision bf16."
        )
        raise InvalidInputError(message)
    return best


def steps_within(
    module: ExplainerModule,
    loader: "DataLoader[Batch]",
    seconds: float,
    device: torch.device,
    *,
    precision: Precision = "fp32",
    accumulate: int = 1,
) -> int:
    """Measure a few real batches, decoding included, and tell how many steps fit a time.

    Args:
        module: steps are computed with it; its weights are as before afterwards.
        loader: deals batches.
        seconds: that there are.
        device: to measure on.
        precision: of the networks' arithmetic.
        accumulate: batches a step.

    Returns:
        At least 1.
    """
    with _borrowed(module, device), _autocast(device, precision):
        began, measured = time.monotonic(), 0
        for number, batch in enumerate(itertools.islice(loader, MEASURED + 1)):
            if len(batch.images) >= module.min_batch:
                _step(module, batch.images.to(device))
            if number == 0:
                began = time.monotonic()  # the first one warms up
            else:
                measured += 1
        spent = (time.monotonic() - began) / max(measured, 1)
    return max(1, int(seconds / max(spent, 1e-6)) // accumulate)


def judging_seconds(validation: Validation, device: torch.device, *, looks: int) -> float:
    """Tell how long looks at the photos left out will take, and the comparison at the end.

    Args:
        validation: is measured on a few of its photos.
        device: to measure on.
        looks: besides the one at the start.
    """
    few = Validation(validation.module, validation.images[:_JUDGED], validation.batch)
    with _borrowed(validation.module, device):
        maps = few.explainer_maps(few.module.explainer)  # the first pass warms up
        began = time.monotonic()
        few.judge(few.explainer_maps(few.module.explainer))
        look = time.monotonic() - began
        began = time.monotonic()
        few.judge(maps, PERCENTAGES)
        conclusion = 4 * (time.monotonic() - began)  # start, trained, two floors
    return (look * (looks + 1) + conclusion) * len(validation.images) / len(few.images)


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    if precision == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype)


@contextmanager
def _borrowed(module: ExplainerModule, device: torch.device) -> Iterator[None]:
    """Move a module to a device, and give it its weights and statistics back afterwards."""
    state = copy.deepcopy(module.explainer.state_dict())
    module.to(device)
    module.train()
    try:
        yield
    finally:
        module.explainer.zero_grad(set_to_none=True)
        module.explainer.load_state_dict(state)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _seconds_per_step(
    module: ExplainerModule, batch: int, size: tuple[int, int], device: torch.device
) -> float:
    images = torch.rand(batch, 3, *size, device=device)
    _step(module, images)
    best = float("inf")
    for _ in range(MEASURED):
        began = time.perf_counter()
        _step(module, images)
        best = min(best, time.perf_counter() - began)
    return best


def _step(module: ExplainerModule, images: torch.Tensor) -> None:
    module.compute_loss(images).total.backward()
    module.explainer.zero_grad(set_to_none=True)
    if images.device.type == "cuda":
        torch.cuda.synchronize()
