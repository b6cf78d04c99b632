"""Connections that do not get on are ended: nobody holds one for ever by being slow."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with a time for each step: a request's head, then the rest with its answer.

    Uvicorn limits neither. The time of a request's body and of its answer's making is the app's
    (``ServeSettings.timeout``); what comes on top is for reading the answer.
    """

    patience = 30.0  # seconds for a head, and twice that for what follows

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._timer: asyncio.TimerHandle | None = None
        self._watched: object = None  # the request whose time runs

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request's head."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Give a new request its own time."""
        super().data_received(data)
        if self.cycle is not self._watched:
            self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next head, or for the request that came with it."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._watched = self.cycle
        is_busy = self.cycle is not None and not self.cycle.response_complete
        seconds = 2 * self.patience if is_busy else self.patience
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self.transport.abort()  # to close it would wait for what the other side does not read


def patient_protocol(seconds: float) -> type[PatientProtocol]:
    """Return the protocol with so much patience.

    Args:
        seconds: for a request's head; twice that for its body and its answer.
    """
    return type("PatientProtocol", (PatientProtocol,), {"patience": seconds})
