import pytest

from engines.archive.pool import Pool, size_pool
from ptame_deploy.errors import InvalidInputError, MissingRequirementError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("there", "asked", "pool"),
    [
        ({"cores": 8}, {}, Pool(8, 1, 0)),
        ({"cores": 8}, {"threads": 3}, Pool(2, 3, 0)),
        ({"cores": 8}, {"workers": 3}, Pool(3, 2, 0)),
        ({"cores": 2}, {"workers": 1}, Pool(1, 2, 0)),
        ({"cores": 16, "gpus": 4}, {"gpus_per_worker": 1}, Pool(4, 4, 1)),
        ({"cores": 16, "gpus": 1}, {"gpus_per_worker": 0.5}, Pool(2, 8, 0.5)),
        ({"cores": 64, "node_cores": 16}, {"workers": 2}, Pool(2, 16, 0)),
        ({"cores": 16, "gpus": 4}, {}, Pool(16, 1, 0)),
    ],
)
def test_workers_times_threads_are_the_cores(there, asked, pool):
    there = {"gpus": 0.0, "node_cores": there["cores"]} | there
    assert size_pool(**there, **asked) == pool


@pytest.mark.parametrize(
    "asked",
    [{"workers": 9}, {"threads": 5}, {"workers": 2, "gpus_per_worker": 1}],
)
def test_workers_without_room_are_refused(asked):
    with pytest.raises(InvalidInputError, match="There is no room for"):
        size_pool(cores=8, node_cores=4, gpus=1, **asked)


def test_no_gpu_is_something_missing():
    with pytest.raises(MissingRequirementError, match="needs 1 GPU, there are 0"):
        size_pool(cores=8, node_cores=8, gpus=0, gpus_per_worker=1)
