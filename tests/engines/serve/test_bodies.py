import asyncio

import pytest

pytest.importorskip("fastapi", reason="extra: serve")

from fastapi import HTTPException, Request

from engines.serve.batcher import OverloadedError
from engines.serve.bodies import Bodies

pytestmark = pytest.mark.unit


def request(*parts, length=None):
    """A request whose body comes in parts."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    given = iter(messages)

    async def receive():
        return next(given)

    headers = [] if length is None else [(b"content-length", length)]
    return Request({"type": "http", "headers": headers}, receive)


def test_room_is_given_back_whatever_happens():
    bodies = Bodies(10, 12)

    async def check():
        with bodies.room() as one:
            assert await one.read(request(b"12345", b"678")) == b"12345678"
            with bodies.room() as other, pytest.raises(OverloadedError, match="try again later"):
                await other.read(request(b"1234", b"5"))
            with bodies.room() as other:
                assert await other.read(request(b"1234")) == b"1234"
        with bodies.room() as one:
            assert len(await one.read(request(b"x" * 10))) == 10

    asyncio.run(check())


@pytest.mark.parametrize("length", [b"11", b"-1", b"ten", None])
def test_what_is_too_long_is_413(length):
    async def check():
        with Bodies(10, 100).room() as room:
            await room.read(request(b"x" * 11, length=length))

    with pytest.raises(HTTPException) as caught:
        asyncio.run(check())
    assert caught.value.status_code == 413
