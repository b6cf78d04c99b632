"""What Prometheus reads."""

import time
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one service; nothing global, so that several can live in one process."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """Begin at zero.

        Args:
            waiting: tells the photos that are not answered yet.
        """
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ptame_requests", "Requests by route and HTTP status.", ["route", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "ptame_request_seconds", "Time from a request's head to its answer, by route.",
            ["route"], registry=self._registry,
        )  # fmt: skip
        self._batches = Histogram(
            "ptame_batch_photos", "Photos that ran together.",
            buckets=(1, 2, 4, 8, 16, 32, 64), registry=self._registry,
        )  # fmt: skip
        gauge = Gauge("ptame_waiting_photos", "Photos not answered yet.", registry=self._registry)
        gauge.set_function(lambda: float(waiting()))

    def batch(self, photos: int) -> None:
        """Count a batch."""
        self._batches.observe(photos)

    async def __call__(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Count a request, whatever becomes of it."""
        began, status = time.monotonic(), 500
        try:
            response = await call_next(request)
            status = response.status_code
        finally:
            # The pattern, not the address: what strangers write must not become a label.
            route = getattr(request.scope.get("route"), "path", "other")
            self._requests.labels(route, str(status)).inc()
            self._seconds.labels(route).observe(time.monotonic() - began)
        return response

    def text(self) -> bytes:
        """Return all of them in Prometheus' format."""
        return generate_latest(self._registry)
