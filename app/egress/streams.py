"""An answer that goes on, such as server-sent events: read as it comes, for as long as it lasts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from app.egress.client import CONNECT
from app.egress.failures import not_sent, unknown
from app.egress.outcomes import Outbound


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer of any status. Reading `pieces` raises Cut."""

    status: int
    content_type: str
    pieces: AsyncIterator[bytes]


class Cut(Exception):
    """The stream could not begin, or broke. Its text says why, for people."""


@asynccontextmanager
async def streamed(out: Outbound, *, silence: float) -> AsyncIterator[Streamed]:
    """One request, once, and its answer as it comes. `silence` is how many seconds may pass without a byte of it.

    For an address that whoever runs the process has given: unlike `Egress`, it calls any. Raises Cut.
    """
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=silence)
    headers = [*out.headers, ("Accept-Encoding", "identity"), ("User-Agent", "Crossgrant")]
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(
                out.method, out.url, data=out.body, headers=headers, allow_redirects=False
            ) as answer,
        ):
            yield Streamed(answer.status, answer.content_type, answer.content.iter_any())
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        began = not isinstance(error, aiohttp.ClientConnectorError)
        raise Cut((unknown(error) if began else not_sent(error)).reason) from None
