"""What every recipe owes the networks that it was lent."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import CheckFailedError, reason_of


@contextmanager
def lent(backbone: Backbone, auxiliary: Auxiliary) -> Iterator[None]:
    """Give networks back on the CPU, and tell a lack of memory from other failures.

    Raises:
        MemoryError: what ran within did not fit.
        CheckFailedError: a process that decodes photos was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if is_lack_of_memory(error):
            raise MemoryError(reason_of(error)) from error
        if "DataLoader worker" in str(error) and "killed by signal" in str(error):
            message = (
                "A process that decodes photos was killed, as the system does where memory runs "
                "out. Use fewer of them (--workers), or free memory."
            )
            raise CheckFailedError(message) from error
        raise
    finally:
        backbone.module.cpu()
        auxiliary.cpu()


def is_lack_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that something did not fit, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
