"""A caller on bare sockets: what it sends is what stands on the wire, and each answer says when it was there."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

PATIENCE = 60.0  # seconds; nothing takes that long unless the test fails

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. `began` and `ended` are of one monotonic clock, which all callers of a test share."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    began: float
    ended: float

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a refusal."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json
        assert problem["status"] == self.status
        code: str = problem["code"]
        return code

    @property
    def dispatch_id(self) -> str | None:
        return self.headers.get("crossgrant-dispatch-id")

    @property
    def lasting_headers(self) -> dict[str, str]:
        """Those that do not differ between two answers to one request."""
        return {name: value for name, value in self.headers.items() if name not in ("date", "x-request-id")}


class Gone(Exception):
    """The gateway hung up before its answer was whole: whatever was asked for is of unknown outcome."""


class Connection:
    """One connection, kept open between requests."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port, self.host = port, host

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=2**24)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> Answer:
        """One request and its answer. Raises Gone."""
        return await self.exchange(request(method, target, headers, body), bodiless=method == "HEAD")

    async def exchange(self, data: bytes, *, bodiless: bool = False) -> Answer:
        """These bytes, and the answer to them. Raises Gone."""
        began = time.monotonic()
        try:
            await self.send(data)
            return await self.answer(began, bodiless=bodiless)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise Gone from error

    async def answer(self, began: float = 0.0, *, bodiless: bool = False) -> Answer:
        """The next answer. `bodiless`: to a HEAD."""
        async with asyncio.timeout(PATIENCE):
            status, headers = _head(await self.reader.readuntil(b"\r\n\r\n"))
            bodiless = bodiless or status in (204, 304)
            body = b"" if bodiless else await self.reader.readexactly(int(headers["content-length"]))
        return Answer(status, headers, body, began, time.monotonic())

    async def rest(self) -> bytes:
        """All that comes until the gateway hangs up."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()


def request(method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> bytes:
    """A request as bytes; nothing in `target` is changed."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway.test", *(f"{n}: {v}" for n, v in headers)]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def ask(
    port: int,
    method: str,
    target: str,
    headers: Headers = (),
    body: bytes = b"",
    *,
    host: str = "127.0.0.1",
) -> Answer:
    """One request on a connection of its own."""
    async with Connection(port, host) as connection:
        return await connection.ask(method, target, headers, body)


def operation(key: str, query: str, **variables: object) -> bytes:
    """A GraphQL operation as a request."""
    body = orjson.dumps({"query": query, "variables": variables})
    return request("POST", "/graphql", [("X-API-Key", key), ("Content-Type", "application/json")], body)


async def graphql(port: int, key: str, query: str, **variables: object) -> Answer:
    """One operation over HTTP, its answer as it came."""
    async with Connection(port) as connection:
        return await connection.exchange(operation(key, query, **variables))


async def data(port: int, key: str, query: str, **variables: object) -> Any:
    """The only field of an operation without errors."""
    whole = (await graphql(port, key, query, **variables)).json
    assert "errors" not in whole, whole["errors"]
    return next(iter(whole["data"].values()))


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        assert name.lower() not in headers, f"{name} came twice"
        headers[name.lower()] = value.strip()
    return int(first.split()[1]), headers
