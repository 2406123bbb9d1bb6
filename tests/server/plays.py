"""More of what a service can do to a gateway, beside tests/upstreams.py."""

from collections.abc import Iterable
from dataclasses import dataclass

from typing_extensions import override

from tests.upstreams import Line, Play, Seen, head


@dataclass
class Raw(Play):
    """Says these bytes, whatever they are."""

    data: bytes

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        await line.say(self.data)


def bodiless(status: int) -> Raw:
    """An answer that can have no body, and says nothing of its length."""
    return Raw(b"HTTP/1.1 %d As Told\r\n\r\n" % status)


def chunked(pieces: Iterable[bytes]) -> Raw:
    """An answer in pieces, whose length is known at its end."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return Raw(b"HTTP/1.1 200 As Told\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n")


@dataclass
class Flood(Play):
    """Sends more than anybody should take, as far as the gateway takes it."""

    size: int
    announced: bool

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        if self.announced:
            await line.say(head(200, self.size))
        else:
            await line.say(b"HTTP/1.1 200 As Told\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"x" * 2**16
        for _ in range(-(-self.size // len(piece))):
            await line.say(piece if self.announced else b"%x\r\n%b\r\n" % (len(piece), piece))
