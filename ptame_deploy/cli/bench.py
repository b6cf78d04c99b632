"""``ptame bench``."""


def bench() -> None:
    """Placeholder."""
