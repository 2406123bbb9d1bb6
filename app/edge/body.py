"""Reading a request's body: never more than a limit, never longer than a deadline."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from app.edge.wait import Wait


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The body is, or says it will be, over `limit` bytes: answer 413."""

    limit: int


@dataclass(frozen=True, slots=True)
class Late:
    """The body was not complete after `seconds`: answer 408."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Gone:
    """The client hung up: there is nobody to answer."""


def unbounded(_size: int) -> None:
    """There is always room."""


async def read_body(
    scope: Scope, receive: Receive, *, limit: int, seconds: float, take: Callable[[int], None] = unbounded
) -> bytes | TooLarge | Late | Gone:
    """The whole body of at most `limit` bytes, within `seconds` for all of it (promise 10).

    `take` is told of each piece's bytes, and raises what it likes where there is no room for them.
    """
    # Before reading: the client that waits for "100 Continue" then never sends what we would throw away.
    if announced(scope, 0) > limit:
        return TooLarge(limit)
    wait = Wait()
    deadline = asyncio.get_running_loop().call_later(seconds, wait.call_off)
    try:
        return await _collect(receive, limit, take)
    except asyncio.CancelledError:
        if wait.was_called_off():
            return Late(seconds)
        raise
    finally:
        deadline.cancel()


async def _collect(receive: Receive, limit: int, take: Callable[[int], None]) -> bytes | TooLarge | Gone:
    message = await receive()
    if not message.get("more_body"):  # nearly every body comes in one piece
        take(len(message.get("body", b"")))
        return _piece(message, limit)
    body = bytearray()
    while True:
        piece = _piece(message, limit - len(body))
        if not isinstance(piece, bytes):
            return piece if isinstance(piece, Gone) else TooLarge(limit)
        take(len(piece))
        body += piece
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()


def _piece(message: Message, room: int) -> bytes | TooLarge | Gone:
    if message["type"] == "http.disconnect":
        return Gone()
    piece: bytes = message.get("body", b"")
    return piece if len(piece) <= room else TooLarge(room)


def announced(scope: Scope, unsaid: int) -> int:
    """How many bytes the body will have, or `unsaid` where it comes in chunks."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)  # the server has refused everything but digits
        if name == b"transfer-encoding":
            return unsaid
    return 0
