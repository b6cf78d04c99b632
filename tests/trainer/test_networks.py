import pytest

from ptame_deploy.errors import CheckFailedError
from trainer.networks import lent

pytestmark = pytest.mark.unit


def test_a_decoder_that_was_killed_is_no_bug_of_ours(backbone, auxiliary):
    message = "DataLoader worker (pid 6256) is killed by signal: Killed. "
    with (
        pytest.raises(CheckFailedError, match="--workers"),
        lent(backbone, auxiliary),
    ):
        raise RuntimeError(message)


def test_other_failures_stay_what_they_are(backbone, auxiliary):
    message = "shapes do not fit"
    with pytest.raises(RuntimeError, match="shapes do not fit"), lent(backbone, auxiliary):
        raise RuntimeError(message)


def test_what_does_not_fit_is_a_lack_of_memory(backbone, auxiliary):
    message = "DefaultCPUAllocator: can't allocate memory: 1 TB\nand more"
    with pytest.raises(MemoryError, match=r"1 TB$"), lent(backbone, auxiliary):
        raise RuntimeError(message)
