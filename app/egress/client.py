"""The client. `send` never follows, never repeats, never decodes, never keeps a cookie, never asks the environment.

What a call promises is told apart in `outcomes`. A call that fails, is cancelled or is refused closes its connection;
only a whole answer's connection goes back to the pool.
"""

import asyncio
import io
import math
import re
from collections.abc import Sequence
from functools import lru_cache, partial
from ssl import SSLContext
from typing import Final

from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.abc import AbstractResolver
from yarl import URL

from app.edge.budget import Budget, NoRoom
from app.egress.addresses import guard
from app.egress.failures import Unsendable, broken, not_sent, unknown
from app.egress.flight import FLIGHT, Flight, Request
from app.egress.line import Line
from app.egress.names import Names
from app.egress.outcomes import Answer, NotSent, Outbound, Outcome, Rejected, Unknown
from app.rules.errors import Code
from app.settings import Network

__all__ = ["OURS", "Answer", "Egress", "NotSent", "Outbound", "Outcome", "Rejected", "Unknown"]

#: Request headers that we write ourselves or not at all, whatever the caller gives: framing, this connection's
#: business (RFC 9110 section 7.6.1), and encodings, since nothing here decodes.
OURS: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "te", "trailer", "expect", "upgrade"),
        *("connection", "proxy-connection", "keep-alive", "accept-encoding"),
    }
)

#: 5 s to have a connection: the wait for a free one, the look-up, TCP and TLS together.
CONNECT: Final = 5.0
#: 4 s: many servers hang up after 5 s of silence, and a request that crosses with that is lost without a trace.
_KEEP_ALIVE: Final = 4.0
#: Bodies above 1 MiB are written in pieces, so that one call does not hold up the event loop.
_IN_ONE_PIECE: Final = 2**20

#: Bytes that answers may take while they come: all of them, and those of one host.
_BUDGET: Final = 512 * 2**20
_SHARE: Final = _BUDGET // 4

_SCHEMES: Final = ("http", "https")
_PLAIN: Final = (
    "its URL is not https://, which this gateway requires (CROSSGRANT_REQUIRE_HTTPS): change the URL, or have whoever "
    "runs the gateway take the setting back"
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MAY_HAVE_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_NO_TYPE: Final = ("Content-Type",)


class Egress:
    """One per process and event loop. Constructing does no I/O; the first `send` opens the session.

    `allow` names networks that may be called although they are not public. At most `connections` calls run at a time,
    and `to_one` of them to one origin, unless told otherwise a quarter; more wait for their turn, within the `connect`
    seconds that a connection may take.
    With `require_https` nothing is sent to an http:// address, whoever has let it be registered.
    """

    def __init__(
        self,
        allow: Sequence[Network],
        connections: int = 1000,
        *,
        connect: float = CONNECT,
        to_one: int | None = None,
        require_https: bool = False,
        resolver: AbstractResolver | None = None,
        tls: SSLContext | None = None,
    ) -> None:
        self._guard = guard(tuple(allow))
        self._schemes = _SCHEMES[-1:] if require_https else _SCHEMES
        self._connections = connections
        self._to_one = to_one or max(1, connections // 4)
        self._connect = connect
        self._resolver = resolver or Names()
        self._tls = tls
        self._opened: ClientSession | None = None
        self._closed = False
        self._budget = Budget(_BUDGET, _SHARE)

    async def send(self, out: Outbound, *, total: float, idle: float, limit: int) -> Outcome:
        """One request, once. `total` seconds for all of it, `idle` for silence, `limit` bytes of answer's body.

        Raises CancelledError when the task is cancelled, and nothing else for what network and peer do.
        """
        flight = Flight()
        FLIGHT.set(flight)
        response: ClientResponse | None = None
        try:
            response = await (self._opened or self._session()).request(
                _method(out.method),
                self._permitted(_url(out.url)),
                headers=_headers(out),
                skip_auto_headers=_NO_TYPE if _is_untyped(out) else None,
                data=_data(out.body),
                allow_redirects=False,
                timeout=_timeout(total, idle, self._connect),
            )
            outcome = await _received(response, flight, limit, self._budget)
            # An answer that came before its request was through would leave the rest of it waiting for a reader.
            if not isinstance(outcome, Answer) or response.connection is not None:
                _abandon(flight, response)
            return outcome
        except BaseException as error:
            _abandon(flight, response)
            if not isinstance(error, Exception) and not _without_cancel(error):
                raise
            return unknown(error) if flight.left else not_sent(error)

    async def close(self) -> None:
        """Ends what is under way; every `send` from now on is NotSent."""
        self._closed = True
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()
        await self._resolver.close()

    def _permitted(self, url: URL) -> URL:
        if url.scheme not in self._schemes:
            raise Unsendable(_PLAIN)
        return url

    def _session(self) -> ClientSession:
        if self._closed:
            raise RuntimeError("closed")
        self._opened = self._open()
        return self._opened

    def _open(self) -> ClientSession:
        session = ClientSession(
            connector=self._connector(),
            request_class=Request,
            headers={"Accept-Encoding": "identity", "User-Agent": "Crossgrant"},
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            max_line_size=8190,
            max_field_size=16384,
            max_headers=128,
        )
        # aiohttp repeats GET, PUT, DELETE and others by itself when a kept connection drops: two requests for one
        # admission (section 4, rule 9). There is no public switch.
        session._retry_connection = False
        return session

    def _connector(self) -> TCPConnector:
        connector = TCPConnector(
            socket_factory=self._guard,
            resolver=self._resolver,
            ssl=self._tls or True,
            limit=self._connections,
            limit_per_host=self._to_one,
            keepalive_timeout=_KEEP_ALIVE,
        )
        # There is no public way to give it connections of our own.
        connector._factory = partial(Line, loop=asyncio.get_running_loop())  # type: ignore[assignment]  # a subclass
        return connector


@lru_cache(1024)
def _url(text: str) -> URL:
    """Raises Unsendable if the wire would not carry the same path, or not within one line."""
    url = URL(text, encoded=True)
    plain = text.isascii() and text.isprintable() and " " not in text and "#" not in text
    # aiohttp would take ws: and tcp: too
    if not plain or url.scheme not in _SCHEMES or ("@" in text and "@" in url.raw_authority):
        raise Unsendable("its URL is not percent-encoded http or https without user name and fragment")
    return url


@lru_cache(256)
def _method(text: str) -> str:
    # aiohttp would send it in capitals; CONNECT would make a tunnel of the connection
    if not _TOKEN.fullmatch(text) or text != text.upper() or text == "CONNECT":
        raise Unsendable("its method is not one that can be forwarded")
    return text


def _headers(out: Outbound) -> list[tuple[str, str]]:
    """The caller's headers without OURS. Raises Unsendable; control characters in values are aiohttp's to refuse."""
    return [
        header
        for header in out.headers
        if not _is_ours(header[0]) and (header[1].isascii() or _is_text(header[1]))
    ]


def _is_untyped(out: Outbound) -> bool:
    """Whether aiohttp would declare as an octet-stream what the caller did not declare, and sent perhaps empty."""
    if not out.body and out.method not in _MAY_HAVE_BODY:
        return False
    return "content-type" not in {name.lower() for name, _ in out.headers}


@lru_cache(4096)
def _is_ours(name: str) -> bool:
    if not _TOKEN.fullmatch(name):
        raise Unsendable("a header of the request has a malformed name")
    return name.lower() in OURS


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unsendable("a header of the request is not text") from None
    return True


@lru_cache(256)
def _timeout(total: float, idle: float, connect: float) -> ClientTimeout:
    # To aiohttp 0 is no deadline at all, and one of 5 s and more is to be rounded up unless told otherwise.
    total, connect, idle = (max(seconds, 0.001) for seconds in (total, connect, idle))
    return ClientTimeout(total=total, connect=connect, sock_read=idle, ceil_threshold=math.inf)


def _data(body: bytes) -> bytes | io.BytesIO | None:
    if not body:
        return None
    return body if len(body) <= _IN_ONE_PIECE else io.BytesIO(body)


async def _received(response: ClientResponse, flight: Flight, limit: int, budget: Budget) -> Outcome:
    """The answer, read to its end. Whatever else it returns leaves the connection to be closed."""
    if not 200 <= response.status <= 599:
        flight.abort()  # 101 makes of the connection something else
        return broken(f"it answered with status {response.status}, which ends no request of ours")
    content, length = response.content, response.content_length
    if length is not None and length > limit and not content.at_eof():
        return _too_large(response, limit)
    # Not a list of pieces: a peer that sends single bytes would make each cost forty.
    body = bytearray()
    with budget.room(response.url.raw_host) as room:
        while piece := await content.readany():
            body += piece
            if len(body) > limit:
                return _too_large(response, limit)
            try:
                room.take(len(piece))
            except NoRoom:
                return _refused(response, "there is no room for its answer beside others now")
    if length is None and body and flight.was_reset() and not _is_chunked(response):
        # RFC 9112 section 6.3, rule 8: it ends with its connection. aiohttp takes a reset for the end, too.
        return broken("the connection broke")
    return Answer(response.status, response.headers, bytes(body))


def _is_chunked(response: ClientResponse) -> bool:
    return "chunked" in response.headers.get("Transfer-Encoding", "").lower()


def _too_large(response: ClientResponse, limit: int) -> Rejected:
    return _refused(response, f"its answer is larger than the {limit} bytes that are relayed")


def _refused(response: ClientResponse, reason: str) -> Rejected:
    return Rejected(Code.UPSTREAM_RESPONSE_TOO_LARGE, reason, response.status)


def _abandon(flight: Flight, response: ClientResponse | None) -> None:
    """Closes the connection for good, unless it has gone back to the pool."""
    if response is not None:
        response.close()
    flight.drop()


def _without_cancel(error: BaseException) -> bool:
    """Whether this is what a closing session does to its waiters, and nobody cancelled this task."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
