"""A real uvicorn in this process and raw bytes over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import uvicorn
from starlette.types import ASGIApp

from app.web.protocol import BoundedHttpProtocol
from app.web.websocket import BoundedWebSocketProtocol

PATIENCE = 30.0  # seconds; no test waits that long unless it fails

Http = type[asyncio.Protocol]


@asynccontextmanager
async def serving(app: ASGIApp, http: Http = BoundedHttpProtocol, **options: Any) -> AsyncIterator[int]:
    """Serves `app` on a loopback port, which it yields."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=http,
        ws=options.pop("ws", BoundedWebSocketProtocol),
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        **options,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await _end(server)


async def _end(server: uvicorn.Server) -> None:
    # Server.shutdown() sleeps 100 ms, which is most of what these tests would take.
    for listener in server.servers:
        listener.close()
    for connection in server.server_state.connections:
        connection.transport.abort()
    async with asyncio.timeout(PATIENCE):
        while server.server_state.connections or server.server_state.tasks:  # noqa: ASYNC110  # announced by nobody
            await asyncio.sleep(0)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = orjson.loads(self.body)
        assert document["status"] == self.status
        return document


class Peer:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """The next answer; for one with a Content-Length."""
        async with asyncio.timeout(PATIENCE):
            status, headers = _head(await self.reader.readuntil(b"\r\n\r\n"))
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(status, headers, body)

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass  # the server cut it first


async def ask(port: int, data: bytes) -> Answer:
    """One answer to `data` on a connection of its own."""
    async with connected(port) as peer:
        await peer.send(data)
        return await peer.answer()


async def get(port: int, path: str, *headers: str, method: str = "GET") -> Answer:
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway.test", *headers, "", ""]
    return await ask(port, "\r\n".join(lines).encode())


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        assert name.lower() not in headers, f"{name} twice"
        headers[name.lower()] = value.strip()
    return int(first.split()[1]), headers
