"""What archives need beyond the base installation."""

from importlib.util import find_spec

from ptame_deploy.errors import MissingRequirementError

READING = ("pyarrow", "fsspec")
EXPLAINING = (*READING, "ray", "pandas")


def require_packages(names: tuple[str, ...] = EXPLAINING) -> None:
    """See that packages are installed, without loading them.

    Raises:
        MissingRequirementError: one is not.
    """
    absent = [name for name in names if find_spec(name) is None]
    if absent:
        message = (
            f"Archives need {', '.join(absent)}, which is not installed here: "
            'pip install "ptame-deploy[archive]".'
        )
        raise MissingRequirementError(message)
