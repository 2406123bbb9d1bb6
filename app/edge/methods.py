"""An endpoint that answers some methods only."""

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from app.edge.problem import not_found, send_problem
from app.rules.errors import Code


def only(app: ASGIApp, *methods: str) -> ASGIApp:
    """`app` for these methods; 405 with `Allow` for others (RFC 9110 15.5.6), and no WebSocket. GET brings HEAD."""
    allowed = (*methods, "HEAD") if "GET" in methods else methods
    allow = ", ".join(allowed)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await not_found(scope, send)
        elif scope["method"] in allowed:
            await app(scope, receive, send)
        else:
            headers = [(b"allow", allow.encode())]
            detail = f"This path answers {allow}."
            await send_problem(
                send, HTTPStatus.METHOD_NOT_ALLOWED, Code.NOT_SUPPORTED, detail, headers=headers
            )

    return guarded
