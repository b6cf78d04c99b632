"""Bodies of requests: no longer than allowed, and never more of them in memory than fit."""

from typing import Self

from fastapi import HTTPException, Request

from engines.serve.batcher import OverloadedError


class Bodies:
    """Room for the bodies that are held at once, however many connections there are."""

    def __init__(self, longest: int, together: int) -> None:
        """Begin empty.

        Args:
            longest: bytes of one body at most.
            together: bytes of all that are held at most.
        """
        self._longest, self._together = longest, together
        self._held = 0

    def room(self) -> "Room":
        """Return a context in which one body is held."""
        return Room(self)

    def take(self, size: int) -> None:
        """Hold some more bytes.

        Raises:
            OverloadedError: there is no room for them.
        """
        if self._held + size > self._together:
            message = "The requests that are being read fill the memory; try again later."
            raise OverloadedError(message)
        self._held += size

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self._held -= size

    @property
    def longest(self) -> int:
        """Bytes of one body at most."""
        return self._longest


class Room:
    """One body's room, given back at the end of its request."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._size = bodies, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.give_back(self._size)

    async def read(self, request: Request) -> bytes:
        """Read a request's body as far as the limits allow.

        Raises:
            HTTPException: it is longer than allowed.
            OverloadedError: so many are held already that it does not fit.
        """
        limit = self._bodies.longest
        told = request.headers.get("content-length", "0")
        if not told.isdecimal() or int(told) > limit:
            raise HTTPException(413, f"A request may have {limit:,} bytes.")
        parts = []
        async for part in request.stream():
            if self._size + len(part) > limit:
                raise HTTPException(413, f"A request may have {limit:,} bytes.")
            self._bodies.take(len(part))
            self._size += len(part)
            parts.append(part)
        return b"".join(parts)
