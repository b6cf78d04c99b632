"""Listening, and ending without losing what has arrived."""

import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from engines.explainer import Explainer
from engines.serve.app import make_app
from engines.serve.patience import patient_protocol
from engines.serve.settings import ServeSettings
from ptame_deploy.errors import InvalidInputError, reason_of

_BACKLOG = 256


class _Server(uvicorn.Server):
    """Says where it listens, and ends on a signal as something that is done."""

    def __init__(self, config: uvicorn.Config, address: str, say: Callable[[str], None]) -> None:
        super().__init__(config)
        self._address, self._say = address, say

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._say(f"Serving at {self._address}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._say("Ending: what has arrived is answered first.")
        # Uvicorn raises the signals again when all is answered; to be asked to end is no failure.
        self._captured_signals.clear()


def run_server(
    explainer: Explainer,
    settings: ServeSettings,
    host: str,
    port: int,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        explainer: the graph or the plan.
        settings: limits and name.
        host: address to listen at.
        port: 0 for a free one.
        say: is told where it listens, and that it ends.

    Raises:
        InvalidInputError: the address cannot be listened at.
    """
    if not host:
        message = "--host is empty, which would be every network: say 0.0.0.0 if that is meant."
        raise InvalidInputError(message)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends at once what is written (TCP_NODELAY): otherwise an
    # answer's end waits 40 ms for the client to acknowledge its beginning.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except (OSError, UnicodeError) as error:  # the second: a name that can be no host's
            message = f"Cannot listen at {host}:{port}: {reason_of(error)}."
            raise InvalidInputError(message) from error
        shown = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(
            make_app(explainer, settings),
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=round(settings.timeout) + 5,
            http=patient_protocol(settings.timeout),
            ws="none",
        )
        server = _Server(config, f"http://{shown}:{listening.getsockname()[1]}", say)
        before = signal.getsignal(signal.SIGTERM)
        try:
            server.run(sockets=[listening])
        finally:
            signal.signal(signal.SIGTERM, before)
