"""One real server on a real socket for all tests here; the endpoint with its own limits, and one that is impatient."""

import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import orjson
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from app.api.view import View
from app.telemetry import bind_request_id
from tests.api.product import webhook_schedule as webhook_schedule  # a fixture
from tests.api.product import world as world  # a fixture
from tests.api.toy import SCHEMA, WORLD, Context
from tests.serving import TLS
from tests.stores import postgres_with_tables as postgres_with_tables  # a fixture
from tests.stores import settings as settings  # a fixture
from tests.stores import sqlite_with_tables as sqlite_with_tables  # a fixture

KEY = {"X-API-Key": "cgk_alice"}


class Impatient(View[str, Context]):
    """Waits for nothing, so that a test does not have to."""

    largest_body = 2_000
    body_seconds = 0.1
    init_seconds = 0.1
    quiet_seconds = 0.02


class Crowded(View[str, Context]):
    """Has room for few."""

    most_streams = 3
    most_connections = 2


def _with_request_ids(app: ASGIApp) -> ASGIApp:
    async def bound(scope: Scope, receive: Receive, send: Send) -> None:
        bind_request_id("req_1")
        await app(scope, receive, send)

    return bound


def _app() -> ASGIApp:
    view = View(SCHEMA, authenticate=WORLD.authenticate, context_for=WORLD.context_for, whose=str)
    hasty = Impatient(SCHEMA, authenticate=WORLD.authenticate, context_for=WORLD.context_for, whose=str)
    crowded = Crowded(SCHEMA, authenticate=WORLD.authenticate, context_for=WORLD.context_for, whose=str)
    routes = [
        Route("/graphql", view),
        WebSocketRoute("/graphql", view),
        Route("/hasty", hasty),
        WebSocketRoute("/hasty", hasty),
        Route("/crowded", crowded),
        WebSocketRoute("/crowded", crowded),
    ]
    return _with_request_ids(Starlette(routes=routes))


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """`host:port` of the running server."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(_app(), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client does, nothing reaches the server's last resort, and Strawberry keeps its own log silent."""
    yield
    for phase in ("setup", "call"):
        errors = [r for r in caplog.get_records(phase) if r.levelno >= logging.ERROR]
        assert not errors, errors


@pytest.fixture
def http(address: str) -> Iterator[httpx2.Client]:
    """Speaks to the server; no key, no Accept, no Content-Type of its own."""
    with httpx2.Client(base_url=f"http://{address}", timeout=30, verify=TLS) as client:
        client.headers.clear()
        yield client


class Socket:
    """A WebSocket that speaks in messages."""

    def __init__(self, raw: ClientConnection) -> None:
        self.raw = raw

    async def send(self, *messages: object) -> None:
        for message in messages:
            await self.raw.send(orjson.dumps(message).decode())

    async def receive(self) -> dict[str, object]:
        """The next message. A binary frame is a failure."""
        text = await self.raw.recv()
        assert isinstance(text, str)
        message: dict[str, object] = orjson.loads(text)
        return message

    async def closed(self) -> int:
        """The code that the server closes with."""
        await self.raw.wait_closed()
        assert self.raw.close_code is not None
        return self.raw.close_code


Connecting = Callable[..., AbstractAsyncContextManager[Socket]]


@pytest.fixture
def ws(address: str) -> Connecting:
    """Opens WebSockets: `ws()` is acknowledged, `ws(init=None)` has sent nothing yet."""

    @asynccontextmanager
    async def opened(
        init: dict[str, object] | None = {"apiKey": "cgk_alice"},  # noqa: B006  # never changed
        path: str = "/graphql",
        protocol: str = "graphql-transport-ws",
    ) -> AsyncIterator[Socket]:
        async with connect(f"ws://{address}{path}", subprotocols=[Subprotocol(protocol)]) as raw:
            it = Socket(raw)
            if init is not None:
                await it.send({"type": "connection_init", "payload": init})
                assert await it.receive() == {"type": "connection_ack"}
            yield it

    return opened
