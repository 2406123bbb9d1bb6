"""What the proxy is measured against: the same uvicorn and the same client, and nothing in between.

It does what any reverse proxy must: it forwards method, path, query, headers and body, and gives back status, headers
and body; the headers of the connection alone stay behind. `python -m tests.bench.passthrough PORT UPSTREAM_PORT`.
"""

import sys

import aiohttp
import uvicorn
from starlette.types import Receive, Scope, Send
from yarl import URL

#: RFC 9110 section 7.6.1: what concerns one connection. Content-Length is written anew for the body that was read.
_HOP_BY_HOP = frozenset(
    {
        *(
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"te",
            b"trailer",
            b"transfer-encoding",
            b"upgrade",
        ),
        *(b"proxy-authenticate", b"proxy-authorization", b"host", b"content-length"),
    }
)

_session: list[aiohttp.ClientSession] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Passes a request on and its answer back."""
    if not _session:
        connector = aiohttp.TCPConnector(limit=1000)
        _session.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    target = scope["raw_path"].decode("latin-1")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("latin-1")
    async with _session[0].request(
        scope["method"],
        URL(f"http://127.0.0.1:{sys.argv[2]}{target}", encoded=True),
        headers=[
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name not in _HOP_BY_HOP
        ],
        data=body or None,
        allow_redirects=False,
    ) as response:
        answer = await response.read()
    headers = [(name.lower(), value) for name, value in response.raw_headers]
    headers = [header for header in headers if header[0] not in _HOP_BY_HOP]
    headers.append((b"content-length", b"%d" % len(answer)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error", lifespan="off", access_log=False)
