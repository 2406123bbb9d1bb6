"""Streams over HTTP: server-sent events (graphql-sse, distinct connections) and multipart subscriptions (Apollo's)."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from app.api.batches import Batch
from app.api.requests import Media

_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}


@dataclass(frozen=True)
class Form:
    """How a stream begins, what it says of a batch, while it is quiet, and at its end."""

    content_type: str
    begin: bytes
    of: Callable[[Batch], bytes]
    beat: bytes
    end: bytes


FORMS: Mapping[Media, Form] = {
    Media.EVENTS: Form(
        "text/event-stream; charset=utf-8",
        begin=b"",
        of=lambda batch: batch.server_sent,
        beat=b":\n\n",
        end=b"event: complete\ndata:\n\n",
    ),
    Media.MULTIPART: Form(
        'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"',
        begin=b"--graphql",
        of=lambda batch: batch.parts,
        beat=b"\r\ncontent-type: application/json\r\n\r\n{}\r\n--graphql",
        end=b"--\r\n",
    ),
}


class Stream(Response):
    """An answer that goes on. Ends its batches when the client leaves."""

    def __init__(self, batches: AsyncGenerator[Batch, None], form: Form, quiet: float) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = form.content_type
        self.init_headers(_HEADERS)
        self._batches = batches
        self._form = form
        self._quiet = quiet

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streaming = asyncio.current_task()
        assert streaming is not None
        leaving = asyncio.ensure_future(_leaves(receive))
        cancel: Callable[[object], object] = lambda _: streaming.cancel()  # noqa: E731
        leaving.add_done_callback(cancel)
        try:
            await self._stream(send)
        except asyncio.CancelledError:
            if not leaving.done() or streaming.uncancel():
                raise  # not because the client has left
        finally:
            leaving.remove_done_callback(cancel)
            leaving.cancel()

    async def _stream(self, send: Send) -> None:
        async with aclosing(self._batches):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            with _Beat(self._form.beat, self._quiet, send) as beat:
                await _more(send, self._form.begin)
                async for batch in self._batches:
                    await _more(send, self._form.of(batch))
                    beat.put_off()
        await send({"type": "http.response.body", "body": self._form.end})


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _more(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


class _Beat:
    """Says that a stream lives, `quiet` seconds after it last said something: both sides, and what is between them,
    notice by it that a connection has died. One timer, since most streams say nothing most of the time.
    """

    def __init__(self, beat: bytes, quiet: float, send: Send) -> None:
        self._beat = beat
        self._quiet = quiet
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._saying: asyncio.Future[None] | None = None

    def __enter__(self) -> "_Beat":
        self.put_off()
        self._timer = self._loop.call_later(self._quiet, self._due)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._saying is not None:
            self._saying.cancel()

    def put_off(self) -> None:
        """Something was said just now."""
        self._said = self._loop.time()

    def _due(self) -> None:
        if self._loop.time() >= self._said + self._quiet:
            if self._saying is None or self._saying.done():  # else the peer does not read
                self._saying = asyncio.ensure_future(_more(self._send, self._beat))
            self.put_off()
        self._timer = self._loop.call_at(self._said + self._quiet, self._due)
