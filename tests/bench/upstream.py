"""The upstream of a benchmark: as little work as a server can do, so that what is measured is ours.

`python -m tests.bench.upstream PORT` serves; `/size/N` answers N bytes.
"""

import sys

import uvicorn
from starlette.types import Receive, Scope, Send

_BODY = b'{"ok":true}'


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the request and answers."""
    while (await receive()).get("more_body"):
        pass
    path: str = scope["path"]
    body = b"x" * int(path.rsplit("/", 1)[1]) if path.startswith("/size/") else _BODY
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error", lifespan="off", timeout_keep_alive=60)
