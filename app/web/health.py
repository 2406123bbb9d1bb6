"""Two questions of whoever runs us: does the process turn, and should it get traffic?"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from app.edge.methods import only
from app.edge.problem import send_problem
from app.rules.errors import Code

#: Says why this process should get no traffic now; None when it should.
Ready = Callable[[], Awaitable[str | None]]

_OK = b'{"status":"ok"}'
_OK_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_OK))]


def healthz() -> ASGIApp:
    """200 as long as the event loop turns. It asks nothing else: a restart heals no database."""

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_ok(send)

    return only(answer, "GET")


def readyz(ready: Ready, *, seconds: float = 2.0) -> ASGIApp:
    """200, or 503 with the reason. `ready` has `seconds`: an orchestrator's probe gives up soon after."""

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        reason = await _within(seconds, ready)
        if reason is None:
            await _send_ok(send)
        else:
            await send_problem(send, HTTPStatus.SERVICE_UNAVAILABLE, Code.UNAVAILABLE, reason)

    return only(answer, "GET")


async def _within(seconds: float, ready: Ready) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            return await ready()
    except TimeoutError:
        return f"No answer to the readiness check within {seconds:g} s."


async def _send_ok(send: Send) -> None:
    await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": _OK_HEADERS})
    await send({"type": "http.response.body", "body": _OK})
