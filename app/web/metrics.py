"""`/metrics`: the registry as Prometheus text, for this machine or for who holds the token."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from app.edge.address import client_ip
from app.edge.methods import only
from app.edge.problem import send_problem
from app.rules.errors import Code
from app.telemetry import REGISTRY, get_logger

#: Brings the gauges that are read from the store up to date.
Refresh = Callable[[], Awaitable[None]]

_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})

log = get_logger()


def metrics(token: SecretStr | None, refresh: Refresh, *, seconds: float = 5.0) -> ASGIApp:
    """With a token: its bearer alone, also from loopback. Without: direct peers on loopback alone.

    `refresh` has `seconds`; when it fails the counters of this process are shown all the same.
    """

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        if token is not None and not _bears(scope, token):
            headers = [(b"www-authenticate", b"Bearer")]
            await send_problem(send, HTTPStatus.UNAUTHORIZED, Code.UNAUTHENTICATED, headers=headers)
        elif token is None and not _is_local(scope):
            await send_problem(
                send, HTTPStatus.FORBIDDEN, Code.FORBIDDEN, "Ask from loopback, or set a token."
            )
        else:
            await _refreshed(refresh, seconds)
            await _expose(send)

    return only(answer, "GET")


def _bears(scope: Scope, token: SecretStr) -> bool:
    given = [value.partition(b" ") for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1 or given[0][0].lower() != b"bearer":
        return False
    return hmac.compare_digest(given[0][2].strip(), token.get_secret_value().encode())


def _is_local(scope: Scope) -> bool:
    # A proxy on this machine is a loopback peer too; whom it forwards is not.
    peer = client_ip(scope, ())
    return (
        peer is not None and peer.is_loopback and all(name not in _FORWARDED for name, _ in scope["headers"])
    )


async def _refreshed(refresh: Refresh, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await refresh()
    except Exception:
        log.exception("metrics refresh failed")


async def _expose(send: Send) -> None:
    body = generate_latest(REGISTRY)
    headers = [
        (b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode()),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
    await send({"type": "http.response.body", "body": body})
