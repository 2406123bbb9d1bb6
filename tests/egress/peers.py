"""The other side: real servers on loopback that log what reaches them and do what a test says, byte by byte."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from socket import AF_UNSPEC, AddressFamily
from ssl import SSLContext

import pytest
import uvloop
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from app.egress.client import CONNECT, Egress, Outbound, Outcome
from app.settings import Network

#: What tests must permit to call their own servers.
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
#: Nothing here takes this long, in seconds.
AGES = 5.0

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


Loop = Callable[[], asyncio.AbstractEventLoop]
#: Runs a test on the loop that tests have, and on the one that servers have.
LOOPS = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


class Line:
    """One connection that a peer accepted."""

    def __init__(self, peer: "Peer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer, self.reader, self.writer = peer, reader, writer

    async def request(self) -> bytes:
        """The next request, whole and logged. Raises IncompleteReadError when there is none."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await self.reader.readexactly(int(fields.get(b"content-length", 0)))
        self.peer.requests.append(head + body)
        self.peer.asked.set()
        return head + body

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hung_up(self) -> int:
        """Waits until the other side closes; how many more bytes came before it did."""
        rest = 0
        try:
            while piece := await self.reader.read(2**16):
                rest += len(piece)
        except ConnectionError:
            pass
        self.peer.left.set()
        return rest


Play = Callable[[Line], Awaitable[object]]


class Peer:
    """A server that plays one part on every connection. `requests` holds each request's bytes as they came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[bytes] = []
        self.lines = 0
        #: Set once a whole request has come, once a play saw the other side hang up.
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@asynccontextmanager
async def peer(
    play: Play,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: SSLContext | None = None,
    window: int | None = None,
) -> AsyncIterator[Peer]:
    """A peer for the length of a block. A part that ends hangs up. `window` bounds the bytes it takes unread."""
    plays: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        plays.add(this)
        it.lines += 1
        try:
            await play(Line(it, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if tls else writer.close()
            plays.discard(this)

    listening = socket.create_server((host, port))
    if window is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    server = await asyncio.start_server(accept, sock=listening, ssl=tls, limit=window or 2**20)
    it = Peer(server.sockets[0].getsockname()[1])
    try:
        yield it
    finally:
        server.close()
        for task in list(plays):
            task.cancel()
        await asyncio.gather(*plays, return_exceptions=True)
        await server.wait_closed()


def answers(data: bytes = OK) -> Play:
    """Answers each request of a connection with the same bytes."""

    async def play(line: Line) -> None:
        while True:
            await line.request()
            await line.say(data)

    return play


def hangs_up_after(data: bytes) -> Play:
    """Answers one request with these bytes, whatever they are, and hangs up."""

    async def play(line: Line) -> None:
        await line.request()
        await line.say(data)

    return play


def silent() -> Play:
    """Reads one request, then waits for the other side to hang up."""

    async def play(line: Line) -> None:
        await line.request()
        await line.hung_up()

    return play


class Book(AbstractResolver):
    """A resolver with the answers of a test: for each look-up the next one, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    @override
    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        now = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in now
        ]

    @override
    async def close(self) -> None:
        pass


@asynccontextmanager
async def opened(
    allow: Sequence[Network] = LOOPBACK,
    connections: int = 1000,
    *,
    connect: float = CONNECT,
    require_https: bool = False,
    resolver: AbstractResolver | None = None,
    tls: SSLContext | None = None,
) -> AsyncIterator[Egress]:
    """An egress for the length of a block."""
    egress = Egress(
        allow, connections, connect=connect, require_https=require_https, resolver=resolver, tls=tls
    )
    try:
        yield egress
    finally:
        await egress.close()


def words(text: str) -> list[str]:
    """A table in little room."""
    return text.split()


async def get(egress: Egress, url: str, **given: float) -> Outcome:
    return await call(egress, Outbound("GET", url, (), b""), **given)


async def call(
    egress: Egress, out: Outbound, *, total: float = AGES, idle: float = AGES, limit: float = 2**20
) -> Outcome:
    """`send` with limits that no test meets by accident."""
    return await egress.send(out, total=total, idle=idle, limit=int(limit))


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
