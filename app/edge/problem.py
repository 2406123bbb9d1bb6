"""Refusals on plain HTTP: problem+json of RFC 9457, as raw ASGI messages."""

from collections.abc import Iterable
from http import HTTPStatus

import orjson
from starlette.types import Message, Scope, Send

from app.rules.errors import Code

MEDIA_TYPE = b"application/problem+json"


def problem_bytes(status: int, code: Code, detail: str | None = None, **extensions: object) -> bytes:
    """The document. `title` follows from the code and never varies, `detail` is about this one request.

    `extensions` are further members (dispatchId, requestId); one that is None is left out.
    """
    members = {
        "type": f"urn:crossgrant:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": int(status),
        "detail": detail,
        "code": code,
        **extensions,
    }
    return orjson.dumps({name: value for name, value in members.items() if value is not None})


async def send_problem(
    send: Send,
    status: int,
    code: Code,
    detail: str | None = None,
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    **extensions: object,
) -> None:
    """Answer with a problem. Never stored by a cache: the same request may be fine in a second."""
    body = problem_bytes(status, code, detail, **extensions)
    own = [
        (b"content-type", MEDIA_TYPE),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": own})
    await send({"type": "http.response.body", "body": body})


async def not_found(scope: Scope, send: Send) -> None:
    """Nothing lives at this path, for HTTP and for a WebSocket's handshake."""
    if scope["type"] == "websocket":
        send = to_handshake(send)
    await send_problem(send, HTTPStatus.NOT_FOUND, Code.NOT_FOUND, "Nothing lives at this path.")


def to_handshake(send: Send) -> Send:
    """`send` for refusing a WebSocket before it is accepted, as plain HTTP (ASGI's websocket.http.response)."""

    async def sent(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return sent
