import errno
import os

import pytest

from ptame_deploy.errors import reason_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOENT, os.strerror(errno.ENOENT), "a.png"), "No such file or directory"),
        (OSError("no connection"), "no connection"),
        (ValueError("\n  first line \nsecond"), "first line"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "'name'"),
        (RuntimeError(" \n "), "RuntimeError"),
        (RuntimeError("Expected HTTP", 8), "Expected HTTP"),
        (
            UnicodeDecodeError("ascii", b"\xff", 0, 1, "odd"),
            str(UnicodeDecodeError("ascii", b"\xff", 0, 1, "odd")),
        ),
    ],
)
def test_why_something_failed_is_one_phrase(error, reason):
    assert reason_of(error) == reason
