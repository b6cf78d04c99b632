"""A real tritonserver on a CPU, where its own environment is (see the Makefile)."""

from contextlib import ExitStack

import pytest

from bench.servers import find_tritonserver, tritonserver
from ptame_deploy.errors import MissingRequirementError


@pytest.fixture(scope="session")
def start_triton(tmp_path_factory):
    """Start tritonserver on a repository; stopped at the end."""
    try:
        find_tritonserver()
    except MissingRequirementError as error:
        pytest.skip(str(error))
    with ExitStack() as stack:
        yield lambda repository: stack.enter_context(
            tritonserver(repository, tmp_path_factory.mktemp("triton"))
        )
