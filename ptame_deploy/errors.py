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


def reason_of(error: BaseException) -> str:
    """Return why something failed, in one phrase.

    The system's words where they are its own, else the first line of the error's, else its kind:
    exporters, hubs and runtimes add pages of advice, and some errors say nothing at all.
    """
    told = getattr(error, "strerror", None) or str(error)
    if len(error.args) > 1 and told == str(error.args):  # as Python prints what it does not know
        told = str(error.args[0])
    lines = told.strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
