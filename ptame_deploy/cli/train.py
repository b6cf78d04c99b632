"""``ptame train``."""


def train() -> None:
    """Placeholder."""
