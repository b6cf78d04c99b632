"""What training runs on."""

from dataclasses import dataclass
from typing import Literal

import torch

from ptame_deploy.errors import InvalidInputError

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Hardware:
    """What training runs on.

    Attributes:
        precision: of the networks' arithmetic; the loss is always computed in float32.
        devices: GPUs, or processes on a CPU.
    """

    precision: Precision = "fp32"
    devices: int = 1

    def __post_init__(self) -> None:
        """Refuse what this machine does not have.

        Raises:
            InvalidInputError: FP16 without a GPU, or more GPUs than there are.
        """
        gpus = torch.cuda.device_count()
        if self.precision == "fp16" and gpus == 0:
            message = (
                "--precision fp16 needs a GPU: its gradients are scaled there. Use bf16 or fp32."
            )
            raise InvalidInputError(message)
        most = gpus or 64
        if not 1 <= self.devices <= most:
            kind = "GPUs" if gpus else "processes"
            message = f"--devices must be 1 to {most} ({kind}), got {self.devices}."
            raise InvalidInputError(message)
