"""Errors that a user can act on, each with the exit code that the command line returns.

0 done, 1 a check failed, 2 bad usage or input, 3 something is missing,
4 an artifact is corrupt or does not match, 130 interrupted.
"""


class PtameError(Exception):
    """Base of every error that ptame raises on purpose; its message is meant for the user."""

    exit_code = 1


class CheckFailedError(PtameError):
    """A check did not hold: parity, a tolerance, a floor."""

    exit_code = 1


class InvalidInputError(PtameError):
    """The user's input or options cannot be used as they are."""

    exit_code = 2


class MissingRequirementError(PtameError):
    """This machine lacks something: a package, a driver, a download, room on the disk."""

    exit_code = 3


class ArtifactError(PtameError):
    """An artifact is corrupt, incomplete, or does not fit the other one it was given with."""

    exit_code = 4


def reason(error: BaseException) -> str:
    """Return why something failed, in one phrase: the system's words where they are its own."""
    return str(getattr(error, "strerror", None) or error)
