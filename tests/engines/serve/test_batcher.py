import asyncio
import threading
import time

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="extra: serve")

from engines.serve.batcher import Batcher, OverloadedError
from ptame_deploy.errors import InvalidInputError

pytestmark = pytest.mark.unit


def double(inputs):
    return {"twice": inputs["x"] * 2}


def given(*values, width=1):
    return {"x": np.repeat(np.array(values, float)[:, None], width, axis=1)}


def run(check, function=double, **settings):
    """Run a check with a batcher; the batches that it ran come back."""
    batches = []
    defaults = {"max_batch": 4, "delay": 0.05, "max_waiting": 100}

    async def main():
        batcher = Batcher(function, on_batch=batches.append, **(defaults | settings))
        batcher.start()
        await check(batcher)
        await asyncio.wait_for(batcher.stop(), 5)
        assert batcher.waiting == 0

    asyncio.run(main())
    return batches


def test_requests_that_arrive_together_run_together_and_get_their_own():
    async def check(batcher):
        answers = await asyncio.gather(*(batcher(given(n, n + 0.5)) for n in range(4)))
        for n, answer in enumerate(answers):
            assert answer["twice"][:, 0].tolist() == [2 * n, 2 * n + 1]

    assert run(check) == [4, 4]


def test_a_lonely_request_waits_for_the_delay_alone():
    async def check(batcher):
        began = time.monotonic()
        await batcher(given(1))
        assert time.monotonic() - began < 2

    assert run(check) == [1]


def test_a_full_batch_does_not_wait():
    async def check(batcher):
        began = time.monotonic()
        await batcher(given(1, 2, 3, 4))
        assert time.monotonic() - began < 20

    assert run(check, delay=30.0) == [4]


def test_more_than_a_batch_is_split():
    async def check(batcher):
        answer = await batcher(given(*range(10)))
        assert answer["twice"][:, 0].tolist() == [2 * n for n in range(10)]

    assert run(check) == [4, 4, 2]


def test_other_shapes_run_apart_in_order():
    async def check(batcher):
        asked = [given(1), given(2, width=3), given(3, width=3), given(4)]
        answers = await asyncio.gather(*(batcher(one) for one in asked))
        assert [one["twice"].shape for one in answers] == [(1, 1), (1, 3), (1, 3), (1, 1)]

    assert run(check) == [1, 2, 1]


def test_one_that_fails_fails_alone():
    def picky(inputs):
        if (inputs["x"] < 0).any():
            message = "negative"
            raise InvalidInputError(message)
        return double(inputs)

    async def check(batcher):
        asked = [given(1), given(-1), given(2)]
        found = await asyncio.gather(*(batcher(one) for one in asked), return_exceptions=True)
        assert isinstance(found[1], InvalidInputError)
        assert [found[n]["twice"][0, 0] for n in (0, 2)] == [2, 4]
        assert (await batcher(given(5)))["twice"][0, 0] == 10

    run(check, picky)


def test_too_many_are_refused_and_the_others_answered():
    release = threading.Event()

    def slow(inputs):
        release.wait(5)
        return double(inputs)

    async def check(batcher):
        tasks = [asyncio.create_task(batcher(given(n))) for n in range(6)]
        await asyncio.sleep(0.2)
        with pytest.raises(OverloadedError, match="6 photos wait"):
            await batcher(given(9))
        release.set()
        assert [(await task)["twice"][0, 0] for task in tasks] == [0, 2, 4, 6, 8, 10]
        await batcher(given(9))

    run(check, slow, max_waiting=6)


def test_whoever_gives_up_is_not_run_and_holds_no_place():
    release = threading.Event()

    def slow(inputs):
        release.wait(5)
        return double(inputs)

    async def check(batcher):
        first = asyncio.create_task(batcher(given(1)))
        await asyncio.sleep(0.2)
        impatient = asyncio.create_task(batcher(given(2)))
        await asyncio.sleep(0.05)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        assert batcher.waiting == 1
        release.set()
        await first

    assert run(check, slow) == [1]


def test_stopping_answers_what_waits():
    async def check(batcher):
        tasks = [asyncio.create_task(batcher(given(n))) for n in range(9)]
        await asyncio.sleep(0)
        await batcher.stop()
        assert [(await task)["twice"][0, 0] for task in tasks] == [2 * n for n in range(9)]

    run(check)
