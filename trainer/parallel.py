"""Several processes that train as one: what the loss of a joined batch needs from all of them.

The loss couples the images of a batch (each is compared with the classes of all, and BatchNorm
takes its statistics from all), so that averaging gradients alone would train something else than
one process with the joined batch does. With what is here the processes' losses are parts of one
sum.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from ptame_deploy.explainer import ExplainerNet


def world_size() -> int:
    """Return the number of processes; 1 outside of a distributed training."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def rank() -> int:
    """Return this process's number, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


def launched_rank() -> int:
    """Return the number that a launcher gave this process, before the processes know each other."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Collect the rows of all processes, which may have different numbers of them.

    Args:
        rows: (n, ...) without gradient; n may be 0.

    Returns:
        (N, ...) in the processes' order, and where this process's rows begin.
    """
    if world_size() == 1:
        return rows, 0
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = [int(count) for count in counts]
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    joined = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
    return joined, sum(sizes[: rank()])


def total(values: Tensor) -> Tensor:
    """Add up values over all processes, without gradient."""
    if world_size() == 1:
        return values
    summed = values.detach().clone()
    distributed.all_reduce(summed)
    return summed


def total_count(count: int, device: torch.device) -> int:
    """Add up a number over all processes."""
    return count if world_size() == 1 else int(total(torch.tensor([count], device=device)))


def gather_names(names: Sequence[str], device: torch.device) -> list[str]:
    """Collect names of all processes, in the processes' order; mostly there are none."""
    if total_count(len(names), device) == 0:
        return []
    if world_size() == 1:
        return list(names)
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, list(names))
    return [name for part in found for name in part]


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose statistics are those of all processes' images.

    As ``torch.nn.SyncBatchNorm``, which runs on a GPU only and refuses a process without images.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, h, w); B may be 0 on some of the processes."""
        if not self.training or world_size() == 1:
            return super().forward(features)
        values = features.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        count = total(count)
        mean = all_reduce(values.sum(dim=(0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = all_reduce(centred.square().sum(dim=(0, 2, 3))) / count
        self._keep(mean.detach(), variance.detach(), count)
        scale = self.weight / torch.sqrt(variance + self.eps)
        normal: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normal.to(features.dtype)

    def _keep(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        unbiased = variance * count / (count - 1)
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)


def synchronise(explainer: ExplainerNet) -> None:
    """Let an explainer's branches take their statistics from all processes."""
    for branch in explainer.branches:
        synced = SyncedBatchNorm2d(branch.norm.num_features, branch.norm.eps, branch.norm.momentum)
        synced.load_state_dict(branch.norm.state_dict())
        branch.norm = synced
