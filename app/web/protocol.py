"""HTTP/1.1 with limits: uvicorn's httptools protocol waits for a request head for ever, whatever its size.

What a peer owes us, and how long we wait for it (promise 10):

    a whole head         head_seconds from connecting, or from the first byte after an answer; then 408
    in head_bytes        for the head, and for all that is not body in between and after its pieces; else 431
    the rest of a body   that was answered before it was read: head_seconds; then the connection closes
    to read our answer   write_seconds with a full buffer; then the connection is cut
    one at a time        up to `pipelined` requests wait for the one before them; then the connection closes
    room                 `at_most` connections; the next are told so by a 503, `refused_at_most` of them at a time

llhttp already refuses Content-Length beside Transfer-Encoding, a second Content-Length, folded lines, bare line
feeds. What it lets through and a gateway must not is in `_fault`.
"""

import asyncio
from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar

import httptools
from typing_extensions import override
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.edge.problem import MEDIA_TYPE, problem_bytes
from app.rules.errors import Code
from app.web.stall import CutsStalled
from app.web.together import Together

_Refusal = tuple[int, Code, str]

_MALFORMED: _Refusal = (400, Code.BAD_USER_INPUT, "This is not a well-formed HTTP/1.1 request.")
_LATE: _Refusal = (408, Code.REQUEST_TIMEOUT, "The request head took too long to arrive.")
_REPEATED: _Refusal = (400, Code.BAD_USER_INPUT, "A header that may come once came more than once.")
_FULL: _Refusal = (503, Code.UNAVAILABLE, "This gateway has no room for another connection: try again later.")
_TOO_LARGE: _Refusal = (431, Code.REQUEST_TOO_LARGE, "The request head is too large.")

#: Of two, a proxy before us may have judged the first, and we would believe the last.
_ONCE = (b"authorization", b"x-api-key", b"idempotency-key", b"content-encoding")


class BoundedHttpProtocol(CutsStalled, HttpToolsProtocol):
    """For `uvicorn.Config(http=BoundedHttpProtocol)`. A test shortens the limits in a subclass."""

    head_seconds = 10.0
    head_bytes = 32 * 1024
    pipelined = 16
    #: Below what the system lets us open, else accepting fails again and again and nobody is told.
    at_most = 512
    refused_at_most = 64
    #: How long a refused peer may go on sending before we cut it: cut at once, it would not see our answer.
    linger_seconds = 2.0

    _no_room_for: ClassVar[set[asyncio.Protocol]] = set()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._deadline: asyncio.TimerHandle | None = None
        self._room = self.head_bytes  # bytes that may still come without being body
        self._in_head = False
        self._in_body = False
        self._deaf = False  # refused or upgraded: what still comes is not ours to read
        self._refusal = _MALFORMED
        self._running: RequestResponseCycle | None = None

    # From the transport

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if len(self.connections) > self.at_most:
            self._turn_away()
        else:
            self._arm(self.head_seconds, self._late)

    def _turn_away(self) -> None:
        self.connections.discard(self)
        self._no_room_for.add(self)
        if len(self._no_room_for) > self.refused_at_most:
            self.transport.abort()
        else:
            self._refuse(_FULL)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._no_room_for.discard(self)
        # uvicorn tells the newest request alone, but with pipelining an older one may be the one that runs.
        if self._running is not None and not self._running.response_complete:
            _disconnect(self._running)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._room -= len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgraded()
        except httptools.HttpParserError:
            self._refuse(self._refusal)
        else:
            self._after_feeding()

    def _after_feeding(self) -> None:
        if self._room < 0:
            self._refuse(_TOO_LARGE)
        elif self._deadline is None and (self._in_head or not self._answering()):
            self._arm(self.head_seconds, self._late)

    def _upgraded(self) -> None:
        self._deaf = True
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        else:
            # The parser has skipped to "another protocol", so no further request can be told from it.
            self.cycle.keep_alive = False

    # From the parser. An exception stops it, and data_received answers with self._refusal.

    @override
    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        refusal = self._fault()
        if refusal is not None:
            self._refusal = refusal
            raise ValueError(refusal)
        super().on_headers_complete()  # raises for a target that is no path
        self._disarm()
        self._in_head, self._in_body = False, True
        if not (self.parser.should_upgrade() and self._should_upgrade()):
            self._after_head()

    def _after_head(self) -> None:
        # Trailers go on a list of their own: on this one they would join the head that was judged.
        self.headers = []
        if self.expect_100_continue:
            # Refused before it sends, such a client may or may not send: the next bytes would be ambiguous.
            self.cycle.keep_alive = False

    @override
    def on_body(self, body: bytes) -> None:
        # 8: a chunk of one byte takes six on the wire.
        self._room = min(self.head_bytes, self._room + 8 * len(body))
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._in_body = False
        self._room = self.head_bytes
        self._disarm()
        super().on_message_complete()

    def _fault(self) -> _Refusal | None:
        """Why this complete head is not served."""
        if len(self.pipeline) >= self.pipelined:
            return _MALFORMED  # only closes: the answers before it come first
        if (
            len(self.url) + 4 * len(self.headers) + sum(map(len, chain.from_iterable(self.headers)))
            > self.head_bytes
        ):
            return _TOO_LARGE
        names = [name for name, _ in self.headers]
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):  # llhttp also takes 0.9 and 2.0
            return _MALFORMED
        if b"#" in self.url:  # RFC 9112, 3.2: no target has a fragment; the parser would drop it in silence
            return _MALFORMED
        if names.count(b"host") != 1 and (version == "1.1" or b"host" in names):  # RFC 9112, 3.2
            return _MALFORMED
        if len(set(names)) < len(names) and any(names.count(name) > 1 for name in _ONCE):
            return _REPEATED
        if b"transfer-encoding" in names and not self._is_chunked(version):
            return _MALFORMED
        if self.parser.should_upgrade() and self._bad_upgrade(names):
            return _MALFORMED
        return None

    def _is_chunked(self, version: str) -> bool:
        # RFC 9112, 6.1: we decode no other coding, and HTTP/1.0 knows none.
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        return version == "1.1" and codings == [b"chunked"]

    def _bad_upgrade(self, names: list[bytes]) -> bool:
        # The parser drops the body of whatever asks for an upgrade, and would read it as the next request.
        # A WebSocket takes over the transport, on which an earlier answer may still be under way.
        has_body = b"content-length" in names or b"transfer-encoding" in names
        return has_body or (self._should_upgrade() and self._answering())

    # From the application

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if cycle.scope["method"] != "HEAD":  # there nothing comes after the head
            cycle.transport = Together(self.transport, self.loop)
        super()._start_asgi_task(cycle, app)

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.cut_if_stalled()

    @override
    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.cut_if_stalled()

    # Refusing

    def _answering(self) -> bool:
        # Answers leave in order and the next one starts at once: when this one is complete, all are.
        return self._running is not None and not self._running.response_complete

    def _late(self) -> None:
        self._deadline = None
        if self._in_head:
            self._refuse(_LATE)
        else:
            self.transport.close()
            self.cut_if_stalled()

    def _refuse(self, refusal: _Refusal) -> None:
        self._deaf = True
        self._disarm()
        if self._in_body:
            self._refuse_body(refusal)
        elif self._answering():
            self.cycle.keep_alive = False  # the answers before it come first, then the connection closes
        else:
            self._say(refusal)

    def _refuse_body(self, refusal: _Refusal) -> None:
        if self.pipeline or self.cycle.response_started:
            self.transport.close()  # an answer is under way: nothing more can be said
            self.cut_if_stalled()
        else:
            _disconnect(self.cycle)
            self._say(refusal)

    def _say(self, refusal: _Refusal) -> None:
        body = problem_bytes(*refusal)
        lines = [STATUS_LINE[refusal[0]]]
        lines += [name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers]
        lines.append(b"content-type: %b\r\ncontent-length: %d\r\n" % (MEDIA_TYPE, len(body)))
        lines.append(b"cache-control: no-store\r\nconnection: close\r\n\r\n")
        self.transport.write(b"".join(lines) + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._arm(self.linger_seconds, self.transport.abort)
        else:
            self.transport.close()

    # One deadline at a time: either a head is awaited, or the rest of a body, or the end.

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _disconnect(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()
