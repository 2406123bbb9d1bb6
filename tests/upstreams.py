"""A service of the delegator's: a real server on loopback that logs every request and does what a test tells it to.

    async with upstream() as service:
        report = service.on("/v1/reports/7", Hang())
        ...                               # call it through the gateway
        await report.reached.wait()
        report.release()
        assert [each.dispatch_id for each in service.seen] == [...]

Its log is the third witness of a test of loss, beside the client's own and the ledgers. Run by itself, it answers
everything: `python -m tests.upstreams [PORT]`.
"""

import asyncio
import gzip
import socket
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import orjson
from typing_extensions import override

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Seen:
    """A request, as it came. `path` is the raw one, with its query; header names are in lower case."""

    method: str
    path: str
    headers: Headers
    body: bytes = field(repr=False)
    #: Which request of its connection it was, from 1.
    number: int = 1

    def values(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for header, value in self.headers if header == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of a header that comes once at most."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def dispatch_id(self) -> str | None:
        return self.header("Crossgrant-Dispatch-Id")

    @property
    def json(self) -> object:
        return orjson.loads(self.body)


class Line:
    """One connection of the gateway's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.asked = 0

    async def request(self) -> Seen:
        """The next request. Raises IncompleteReadError where there is none."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        pairs = [line.partition(":") for line in lines]
        headers = [(name.lower(), value.strip()) for name, _, value in pairs]
        body = await self.reader.readexactly(int(dict(headers).get("content-length", "0")))
        self.asked += 1
        return Seen(method, path, headers, body, self.asked)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """A whole answer."""
        await self.say(head(status, len(body), headers) + body)

    def reset(self) -> None:
        """Ends the connection with a RST rather than a FIN."""
        taken: socket.socket = self.writer.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hung_up(self) -> None:
        """Waits until the gateway hangs up."""
        try:
            while await self.reader.read(2**16):
                pass
        except ConnectionError:
            pass


def head(status: int, length: int, headers: Headers = ()) -> bytes:
    """The head of an answer with a body of this length."""
    lines = [f"HTTP/1.1 {status} As Told", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode("latin-1")


class Play(ABC):
    """What the service does with a request. It keeps the connection unless the play ends it."""

    @abstractmethod
    async def __call__(self, line: Line, seen: Seen) -> None: ...


P = TypeVar("P", bound=Play)


@dataclass
class Answer(Play):
    """Answers these bytes."""

    body: bytes = b'{"ok":true}'
    status: int = 200
    headers: Headers = (("Content-Type", "application/json"),)

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        await line.answer(self.status, self.body, self.headers)


class Echo(Play):
    """Answers what it saw: method, path, body and dispatch id."""

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        told = {
            "method": seen.method,
            "path": seen.path,
            "body": seen.body.decode("utf-8", "replace"),
            "dispatchId": seen.dispatch_id,
        }
        body = b"" if seen.method == "HEAD" else orjson.dumps(told)
        await line.answer(200, body, [("Content-Type", "application/json")])


@dataclass
class Hang(Play):
    """Waits to be released, or until the gateway hangs up; then plays on."""

    then: Play = field(default_factory=Answer)
    #: Set once a request waits here; once one was hung up on.
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Lets all go on that wait here, and all that come."""
        self._released.set()

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        self.reached.set()
        hung_up = asyncio.ensure_future(line.hung_up())
        released = asyncio.ensure_future(self._released.wait())
        try:
            await asyncio.wait({hung_up, released}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hung_up.cancel()
            released.cancel()
            await asyncio.gather(hung_up, released, return_exceptions=True)
        if self._released.is_set():
            await self.then(line, seen)
        else:
            self.abandoned.set()
            line.writer.close()


def sized(size: int) -> Answer:
    """Answers so many bytes."""
    return Answer(b"x" * size, headers=[("Content-Type", "application/octet-stream")])


def redirect(to: str, status: int = 302) -> Answer:
    """Sends the caller elsewhere."""
    return Answer(b"", status, [("Location", to)])


def gzipped(plain: bytes) -> Answer:
    """Answers compressed, asked or not."""
    return Answer(
        gzip.compress(plain), headers=[("Content-Encoding", "gzip"), ("Content-Type", "text/plain")]
    )


@dataclass
class Reset(Play):
    """Promises `size` bytes, sends the first `at` of the whole answer, head and all, and resets the connection."""

    at: int
    size: int = 1000

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        whole = head(200, self.size) + b"x" * self.size
        if self.at:
            await line.say(whole[: self.at])
        line.reset()


class Drop(Play):
    """Reads the request and hangs up without a word."""

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        line.writer.close()


class DropIdle(Play):
    """Answers the first request of a connection and keeps it open, then drops whatever comes on it next.

    What a client sees that sends on a kept-alive connection in the moment when its server gives it up.
    """

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        if seen.number == 1:
            await line.answer(200, b"{}")
        else:
            line.writer.close()


class CloseIdle(Play):
    """Answers, and closes the connection at once although it never said so."""

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        await line.answer(200, b"{}")
        line.writer.close()


class Upstream:
    """The service. `seen` holds every whole request in the order in which they came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: list[Seen] = []
        self.connections = 0
        self.play: Play = Echo()
        self._plays: dict[str, Play] = {}
        self._moved = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def dispatch_ids(self) -> list[str]:
        """Of everything that it saw."""
        return [each.dispatch_id or "" for each in self.seen]

    def on(self, path: str, play: P) -> P:
        """Plays this for a path, whatever its query; returns it."""
        self._plays[path] = play
        return play

    async def saw(self, count: int) -> None:
        """Waits until it has seen so many requests."""
        async with self._moved:
            await self._moved.wait_for(lambda: len(self.seen) >= count)

    async def serve(self, line: Line) -> None:
        """Plays its part on one connection."""
        self.connections += 1
        while not line.writer.is_closing():
            seen = await line.request()
            self.seen.append(seen)
            async with self._moved:
                self._moved.notify_all()
            await self._plays.get(seen.path.partition("?")[0], self.play)(line, seen)


@asynccontextmanager
async def upstream(port: int = 0) -> AsyncIterator[Upstream]:
    """A service for the length of a block. It answers everything with what it saw, unless told otherwise."""
    open_lines: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        open_lines.add(this)
        try:
            await service.serve(Line(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the gateway hung up, or the test is over
        finally:
            writer.close()
            open_lines.discard(this)

    server = await asyncio.start_server(accept, "127.0.0.1", port, limit=2**24, backlog=1000)
    service = Upstream(server.sockets[0].getsockname()[1])
    try:
        yield service
    finally:
        server.close()
        for task in list(open_lines):
            task.cancel()
        await asyncio.gather(*open_lines, return_exceptions=True)
        await server.wait_closed()


async def _serve(port: int) -> None:
    async with upstream(port) as service:
        print(service.url, flush=True)  # noqa: T201  # run by itself, it has to say where it is
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
