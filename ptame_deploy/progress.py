"""How long work tells how far it is, to whatever shows it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

# Takes a description and how many steps there will be; what it gives is called with the number of
# steps that were just done.
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def no_progress(_description: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda _: None)
