"""Requests that arrive together run together, and no more of them wait than can be served."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from engines.runtime import Arrays
from ptame_deploy.errors import PtameError


class OverloadedError(PtameError):
    """So many photos wait already that another would wait too long."""


@dataclass
class _Request:
    inputs: Arrays
    answer: "asyncio.Future[Arrays]"
    count: int = field(init=False)
    shapes: tuple[Any, ...] = field(init=False)  # requests of the same ones can run together

    def __post_init__(self) -> None:
        self.count = len(next(iter(self.inputs.values())))
        self.shapes = tuple(
            (name, str(array.dtype), array.shape[1:]) for name, array in self.inputs.items()
        )


class Batcher:
    """Gathers requests and runs them one batch after the other, in the order they came.

    Attributes:
        waiting: photos that are not answered yet.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Arrays],
        *,
        max_batch: int,
        delay: float,
        max_waiting: int,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            run: runs one batch, in a thread of its own.
            max_batch: photos that run together at most.
            delay: seconds that a request may wait for others to run with.
            max_waiting: photos that may wait or run at most.
            on_batch: is told the photos of each batch.
        """
        self.waiting = 0
        self._run = run
        self._max_batch, self._delay, self._max_waiting = max_batch, delay, max_waiting
        self._on_batch = on_batch
        self._queue: asyncio.Queue[_Request] = asyncio.Queue()
        self._held: _Request | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ptame-run")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run what comes; an event loop must be running."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Answer what waits, then end."""
        while self.waiting:
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
        self._pool.shutdown()

    async def __call__(self, inputs: Arrays) -> Arrays:
        """Run a request, together with others where they come in time.

        Args:
            inputs: by name, batch first; any number of photos.

        Raises:
            OverloadedError: too many photos wait.
            PtameError: the graph refuses this request.
        """
        count = len(next(iter(inputs.values())))
        if self.waiting and self.waiting + count > self._max_waiting:
            message = f"{self.waiting} photos wait already; try again later."
            raise OverloadedError(message)
        loop = asyncio.get_running_loop()
        parts = [
            _Request(
                {name: array[start : start + self._max_batch] for name, array in inputs.items()},
                loop.create_future(),
            )
            for start in range(0, count, self._max_batch)
        ]
        for part in parts:
            self.waiting += part.count
            part.answer.add_done_callback(partial(self._answered, part.count))
            self._queue.put_nowait(part)
        try:
            answers = await asyncio.gather(*(part.answer for part in parts))
        finally:  # whoever gave up waits for nothing more
            for part in parts:
                part.answer.cancel()
        return {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}

    def _answered(self, count: int, _: "asyncio.Future[Arrays]") -> None:
        self.waiting -= count

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [request for request in await self._gather() if not request.answer.done()]
            if not batch:
                continue
            self._on_batch(sum(request.count for request in batch))
            answers = await loop.run_in_executor(self._pool, self._answers, batch)
            for request, answer in zip(batch, answers, strict=True):
                if request.answer.done():
                    continue
                if isinstance(answer, BaseException):
                    request.answer.set_exception(answer)
                else:
                    request.answer.set_result(answer)

    async def _gather(self) -> list[_Request]:
        """Wait for a request, then for as many others as fit into its batch and come in time."""
        first = self._held or await self._queue.get()
        self._held = None
        batch, size = [first], first.count
        loop = asyncio.get_running_loop()
        end = loop.time() + self._delay
        while size < self._max_batch:
            try:
                async with asyncio.timeout_at(end):
                    request = await self._queue.get()
            except TimeoutError:
                if self._queue.empty():
                    break
                request = self._queue.get_nowait()
            if request.shapes != first.shapes or size + request.count > self._max_batch:
                self._held = request
                break
            batch.append(request)
            size += request.count
        return batch

    def _answers(self, batch: Sequence[_Request]) -> list[Arrays | BaseException]:
        """Run a batch; where it fails, run its requests one by one, so that one fails alone."""
        joined = {
            name: np.concatenate([request.inputs[name] for request in batch])
            for name in batch[0].inputs
        }
        try:
            outputs = self._run(joined)
        except Exception as error:  # noqa: BLE001 - goes to whoever asked
            if len(batch) == 1:
                return [error]
            return [answer for request in batch for answer in self._answers([request])]
        ends = np.cumsum([request.count for request in batch])[:-1]
        parts = {name: np.split(array, ends) for name, array in outputs.items()}
        return [{name: parts[name][number] for name in parts} for number in range(len(batch))]
