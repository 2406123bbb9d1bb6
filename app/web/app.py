"""The one ASGI application: names each request, finds its endpoint, and answers what nobody else did."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7
from uvicorn.protocols.utils import ClientDisconnected

from app.edge.headers import ALWAYS, OWN, Header, completed
from app.edge.problem import not_found, send_problem, to_handshake
from app.rules.errors import Code
from app.telemetry import access, bind_request_id, get_logger

#: Asked every few seconds by machines: an access line for each would hide the others.
_SILENT = frozenset({"/healthz", "/readyz", "/metrics"})
_PROXY = "/proxy/"
#: Where a WebSocket is spoken. Elsewhere there is nothing for one, whatever answers HTTP there.
_SOCKETS = frozenset({"/graphql"})
_STOPPED = (
    "This gateway was told to stop at once. What you asked for may have been done: look into your log before you try "
    "again."
)
_LONGEST_PATH = 512  # characters of a path that the access line shows

log = get_logger()


def assemble(routes: Mapping[str, ASGIApp], *, lifespan: ASGIApp) -> ASGIApp:
    """The application. A key that ends in `/` takes every path below it (except `/` itself), another is exact.

    Exact paths win, then the longest prefix. Matching is on the decoded path: an endpoint that authorises by path
    must look at `raw_path` itself.
    """
    exact = dict(routes)
    prefixes = sorted((key for key in routes if key.endswith("/") and key != "/"), key=len, reverse=True)

    def endpoint(path: str) -> ASGIApp:
        found = exact.get(path)
        if found is not None:
            return found
        return next((routes[prefix] for prefix in prefixes if path.startswith(prefix)), _nothing)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await _http(endpoint(scope["path"]), scope, receive, send)
            case "websocket":
                path = scope["path"]
                await _websocket(endpoint(path) if path in _SOCKETS else _nothing, scope, receive, send)
            case _:
                await lifespan(scope, receive, send)

    return application


async def _http(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    began = perf_counter()
    path: str = scope["path"]
    answer = _Answer(send, _named(), ALWAYS if path.startswith(_PROXY) else OWN)
    try:
        await app(scope, receive, answer.send)
    except Exception:
        log.exception("unhandled", method=scope["method"], path=path[:_LONGEST_PATH])
        await answer.fail()
    except asyncio.CancelledError:
        # Nobody else cancels a request: the process ends and waits no longer, as after a second Ctrl-C.
        await answer.give_up()
    if path not in _SILENT:
        _access(scope["method"], path, answer.status, began)


async def _websocket(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    began = perf_counter()
    path: str = scope["path"]
    request_id = _named()
    try:
        await app(scope, receive, send)
    except ClientDisconnected:
        pass  # it hung up while we were sending
    except Exception:
        log.exception("unhandled", method="WEBSOCKET", path=path[:_LONGEST_PATH])
        await _fail_websocket(send, request_id)
    _access("WEBSOCKET", path, None, began)


async def _fail_websocket(send: Send, request_id: str) -> None:
    try:
        await _send_internal(to_handshake(send), request_id)
    except RuntimeError:  # accepted already: then it is closed, unless that is done too
        with suppress(RuntimeError, ClientDisconnected):
            await send({"type": "websocket.close", "code": 1011})


class _Answer:
    """One HTTP answer on its way out: completes its headers and remembers its status."""

    __slots__ = ("_defaults", "_request_id", "_send", "status")

    def __init__(self, send: Send, request_id: str, defaults: tuple[Header, ...]) -> None:
        self._send = send
        self._request_id = request_id
        self._defaults = defaults
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = completed(message.get("headers", ()), self._defaults)
            headers.append((b"x-request-id", self._request_id.encode()))
            message["headers"] = headers
        await self._send(message)

    async def fail(self) -> None:
        """500 with the request's id and nothing else. A half-sent answer stays so: the server cuts it off."""
        if self.status is None:
            await _send_internal(self.send, self._request_id)

    async def give_up(self) -> None:
        """503, with the request's id: what became of it the log of the next start has."""
        if self.status is None:
            await send_problem(
                self.send,
                HTTPStatus.SERVICE_UNAVAILABLE,
                Code.UNAVAILABLE,
                _STOPPED,
                requestId=self._request_id,
            )


async def _send_internal(send: Send, request_id: str) -> None:
    await send_problem(send, HTTPStatus.INTERNAL_SERVER_ERROR, Code.INTERNAL, requestId=request_id)


async def _nothing(scope: Scope, _receive: Receive, send: Send) -> None:
    await not_found(scope, send)


def _access(method: str, path: str, status: int | None, began: float) -> None:
    # A status of null: the client was gone before there was one.
    ms = round((perf_counter() - began) * 1000, 2)
    access(method, path[:_LONGEST_PATH], status, ms)


def _named() -> str:
    # Always a name of our own: a caller's could be chosen to collide with another's in the log.
    request_id = f"req_{uuid7().hex}"
    bind_request_id(request_id)
    return request_id
