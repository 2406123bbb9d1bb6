"""A tenant's events from a cursor on, over cuts: each once, in the order of the log, and none left out."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.api.pages import log_of
from app.egress.client import Egress
from app.egress.streams import Cut, Streamed, streamed
from app.listen.asking import LARGEST, Gateway, Stopped, ask, code_in, printable, refused, result_in
from app.listen.entries import NODE, Entry, entry_of
from app.listen.sse import Events, TooLong
from app.rules.errors import Code
from app.rules.ids import TenantId

_WHO = "{ viewer { subject role tenant { id slug } } auditLog(last: 1) { edges { cursor } } }"
_EVENTS = (
    "subscription ($after: String, $events: [String!]) "
    f"{{ delegationEvents(after: $after, events: $events) {{ cursor node {{ {NODE} }} }} }}"
)

#: Seconds without a byte: a quiet stream says every 12 that it lives.
_SILENCE = 40.0
#: Seconds until it is tried again, doubled each time, and by chance between half of that and all of it.
_FIRST, _LONGEST = 0.5, 20.0
#: What trying again does not change.
_FINAL = frozenset({Code.UNAUTHENTICATED, Code.FORBIDDEN, Code.BAD_USER_INPUT})


class _Said(Exception):
    """The gateway has ended the stream with a reason that passes, such as a restart of its own. Its text is that."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Whose log is listened to, by whom, and where it ended when that was asked."""

    tenant_id: TenantId
    slug: str
    subject: str
    role: str
    end: str


async def introduce(egress: Egress, gateway: Gateway) -> Listener:
    """Who the key speaks for. Raises Stopped where the gateway does not know it, or is none."""
    found = await ask(egress, gateway, _WHO)
    try:
        return _listener(found)
    except (LookupError, TypeError, AttributeError):
        raise Stopped(
            f"{gateway.url} is no Crossgrant gateway: it does not say whose key this is; "
            "give the gateway's address with --url"
        ) from None


def _listener(found: dict[str, Any]) -> Listener:
    viewer, edges = found["viewer"], found["auditLog"]["edges"]
    tenant = viewer["tenant"]
    # A log that is empty has an end too: without it, what comes during a first cut would be missed.
    end = edges[0]["cursor"] if edges else log_of(TenantId(tenant["id"])).cursor(0)
    tenant_id, *shown = map(printable, (tenant["id"], tenant["slug"], viewer["subject"], viewer["role"], end))
    return Listener(TenantId(tenant_id), *shown)


async def follow(
    gateway: Gateway,
    listener: Listener,
    after: str,
    events: Sequence[str],
    say: Callable[[str], object],
) -> AsyncGenerator[Entry, None]:
    """What comes after a cursor, for ever. An entry counts as taken when the next one is asked for. Raises Stopped."""
    wait, last = _FIRST, None
    opened: Callable[[], object] = _unsaid
    while True:
        try:
            async with aclosing(_stream(gateway, after, events, last, opened)) as edges:
                async for edge in edges:
                    entry = entry_of(edge, listener.tenant_id)
                    yield entry
                    last, wait = entry.cursor, _FIRST
            reason = "the gateway ended the stream (it may be restarting)"
        except _Said as said:
            reason = str(said).removesuffix(".")
        except Cut as cut:
            reason = f"the stream was cut: {cut}"
        pause = wait * random.uniform(0.5, 1)  # noqa: S311  # so that not all who were cut come back together
        say(f"{reason}. Connecting again in {pause:.1f} s; nothing is lost")
        opened = partial(say, "Connected again.")
        await asyncio.sleep(pause)
        wait = min(wait * 2, _LONGEST)


def _unsaid() -> None:
    """The first time that it is connected needs no word."""


async def _stream(
    gateway: Gateway, after: str, events: Sequence[str], last: str | None, opened: Callable[[], object]
) -> AsyncGenerator[dict[str, Any], None]:
    variables = {"after": after, "events": [*events] or None}
    resume = {} if last is None else {"Last-Event-ID": last}
    out = gateway.request(_EVENTS, variables, Accept="text/event-stream", **resume)
    async with streamed(out, silence=_SILENCE) as answer:
        if answer.content_type != "text/event-stream":
            raise await _unopened(answer)
        opened()
        parser = Events()
        async for piece in answer.pieces:
            try:
                for event in parser.feed(piece):
                    if event.name == "next":
                        yield _edge(event.data)
            except TooLong:
                raise Cut("what it sends is no event stream") from None


async def _unopened(answer: Streamed) -> Exception:
    body = bytearray()
    async for piece in answer.pieces:
        body += piece
        if len(body) > LARGEST:
            return Cut("what it sends is no event stream")
    errors = (result_in(bytes(body)) or {}).get("errors")
    return _over(errors) if errors else Cut(f"it answered with status {answer.status}")


def _edge(data: str) -> dict[str, Any]:
    result = result_in(data)
    if result is None:
        raise Cut("what it sends is no result")
    if errors := result.get("errors"):
        raise _over(errors)
    edge = result["data"].get("delegationEvents")
    if not isinstance(edge, dict):
        raise Cut("what it sends is no event")
    return edge


def _over(errors: list[dict[str, Any]]) -> Exception:
    return Stopped(refused(errors)) if code_in(errors) in _FINAL else _Said(refused(errors))
