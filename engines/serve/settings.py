"""How a service runs, and what it refuses."""

from dataclasses import dataclass

from ptame_deploy.errors import InvalidInputError

MEGABYTE = 10**6


@dataclass(frozen=True)
class ServeSettings:
    """How a model is served.

    Attributes:
        name: of the model in addresses.
        max_batch: photos that run together at most.
        delay: seconds that a request may wait for others to run with.
        max_waiting: photos that may wait or run; more are answered 429.
        max_body: bytes of a request, and of the numbers that it asks for; more are answered 413.
        max_pixels: of a photo; more are answered 413. `ptame_deploy.photos.MAX_PIXELS`, which is
            a little more than the default, holds beside it.
        timeout: seconds that a request may take from its first byte to its answer.
        api_key: that requests must bring; None where everybody is served.
    """

    name: str
    max_batch: int = 8
    delay: float = 0.002
    max_waiting: int = 64
    max_body: int = 32 * MEGABYTE
    max_pixels: int = 89 * MEGABYTE
    timeout: float = 30.0
    api_key: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InvalidInputError: one is too small, requests would wait for longer than they may
                take, the name fits into no address, or the key is empty.
        """
        if not self.name or "/" in self.name or not self.name.isprintable():
            message = f"{self.name!r} cannot be a model's name in addresses: choose a --name."
            raise InvalidInputError(message)
        for option in ("max_batch", "max_waiting", "max_body", "max_pixels"):
            if getattr(self, option) < 1:
                text = option.replace("_", "-")
                message = f"--{text} must be at least 1, got {getattr(self, option)}."
                raise InvalidInputError(message)
        if self.timeout <= 0:
            message = "--timeout must be more than 0s."
            raise InvalidInputError(message)
        if self.delay >= self.timeout:
            message = (
                f"--queue-delay {self.delay:g}s is not less than --timeout {self.timeout:g}s: "
                "lonely requests would all be answered 503."
            )
            raise InvalidInputError(message)
        if self.api_key is not None and not self.api_key.strip():
            message = "The API key is empty: everybody would have it."
            raise InvalidInputError(message)
