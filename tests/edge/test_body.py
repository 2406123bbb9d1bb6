"""Reading a body within its limits, against a hand-fed `receive`; tests/web reads them from real sockets."""

import asyncio
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive, Scope

from app.edge.body import Gone, Late, TooLarge, read_body


def fed(*messages: Message) -> Receive:
    """Gives these messages, then nothing for ever."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def scope(headers: Iterable[tuple[bytes, bytes]] = ()) -> Scope:
    return {"type": "http", "headers": list(headers)}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([piece(b"", more=False)], b""),
        ([{"type": "http.request"}], b""),
        ([piece(b"whole", more=False)], b"whole"),
        ([piece(b"0123456789", more=False)], b"0123456789"),
        ([piece(b"in "), piece(b""), piece(b"two", more=False)], b"in two"),
        ([piece(b"01234"), piece(b"56789"), piece(b"", more=False)], b"0123456789"),
        ([piece(b"0123456789X", more=False)], TooLarge(10)),
        ([piece(b"0123456789X")], TooLarge(10)),
        ([piece(b"01234"), piece(b"56789X")], TooLarge(10)),
        ([{"type": "http.disconnect"}], Gone()),
        ([piece(b"half"), {"type": "http.disconnect"}], Gone()),
        ([], Late(0.01)),
        ([piece(b"half")], Late(0.01)),
    ],
)
async def test_a_body_or_why_there_is_none(
    messages: list[Message], expected: bytes | TooLarge | Late | Gone
) -> None:
    assert await read_body(scope(), fed(*messages), limit=10, seconds=0.01) == expected


async def test_the_announced_length_is_refused_before_a_byte_is_read() -> None:
    async def never() -> Message:
        raise AssertionError("read")

    announced = scope([(b"host", b"a"), (b"content-length", b"11 ")])
    assert await read_body(announced, never, limit=10, seconds=1) == TooLarge(10)


async def test_the_deadline_is_for_the_whole_body_not_for_each_piece() -> None:
    async def trickle() -> Message:
        await asyncio.sleep(0.005)
        return piece(b"x")

    assert await read_body(scope(), trickle, limit=1_000, seconds=0.05) == Late(0.05)


async def test_a_cancelled_reader_is_cancelled_not_late() -> None:
    reading = asyncio.ensure_future(read_body(scope(), fed(), limit=10, seconds=5))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
