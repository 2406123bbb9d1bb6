"""What is said to a router, and what it is taken to have answered: a status, within a deadline."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import orjson

from app.egress.client import Egress
from app.egress.outcomes import Answer, NotSent, Outbound, Outcome, Rejected
from app.rules.errors import Code
from app.rules.ids import TenantId
from app.telemetry import get_logger

PROTOCOL: Final = ("subscription-protocol", "callback/1.0")

#: For all of a POST.
SECONDS: Final = 10.0
#: Whatever fails for so long ends the subscription: its router has given it up long before.
PATIENCE: Final = 60.0
_LARGEST: Final = 64 * 1024  # bytes; of the answer nothing but the status counts
#: Some routers ask before they listen, and say 404 until then: the first check is tried for 2 seconds.
_AT_ONCE, _SOON = 2.0, 0.05
_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds before the next try, doubled each time
#: POSTs under way of one tenant, and of those to one origin: a router that hangs takes no turn from others.
#: A POST gives up a name after CONNECT seconds, a thread only when the resolver does: so many that there are threads left.
_OF_TENANT, _OF_ORIGIN = 128, 64
#: Of these, how many begin in one turn of the event loop.
_IN_A_TURN = 8

_HEADERS = (("content-type", "application/json"), PROTOCOL)
#: Of the statuses from 400 to 499 those that may pass: Request Timeout, Too Early, Too Many Requests.
_PASSING = frozenset({408, 425, 429})

log = get_logger()


class Heard(Enum):
    """What a router's answer means: it has it, it may have it if it is asked again, it wants no more."""

    TAKEN = auto()
    AGAIN = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True)
class Router:
    """Whom a subscription is sent to, and how it is named there."""

    tenant_id: TenantId
    url: str
    id: str
    verifier: str = field(repr=False)

    def check(self) -> bytes:
        """Asks whether it still wants it."""
        return self._message("check")

    def next(self, document: bytes) -> bytes:
        """A result, as it was encoded once for all who get it."""
        return self._message("next", payload=orjson.Fragment(document))

    def complete(self, errors: Sequence[object]) -> bytes:
        """The end, and why."""
        return self._message("complete", errors=errors)

    def _message(self, action: str, **more: object) -> bytes:
        named = {"kind": "subscription", "action": action, "id": self.id, "verifier": self.verifier}
        return orjson.dumps({**named, **more})


class Post:
    """One per process. `seconds` are those of a POST, `patience` those for which one is tried again."""

    def __init__(self, egress: Egress, seconds: float = SECONDS, patience: float = PATIENCE) -> None:
        self._egress = egress
        self._seconds = seconds
        self._patience = patience
        self._lanes: WeakValueDictionary[object, asyncio.Semaphore] = WeakValueDictionary()

    async def once(self, router: Router, body: bytes) -> tuple[Heard, str]:
        """Sends it, once. Returns what was heard, in words too."""
        return _heard(await self._send(router, body))

    async def _send(self, router: Router, body: bytes) -> Outcome:
        out = Outbound("POST", router.url, _HEADERS, body)
        tenant = self._lane(router.tenant_id, _OF_TENANT)
        origin = self._lane((router.tenant_id, urlsplit(router.url).netloc), _OF_ORIGIN)
        async with origin, tenant:
            await self._turn(router.tenant_id)
            return await self._egress.send(out, total=self._seconds, idle=self._seconds, limit=_LARGEST)

    async def _turn(self, tenant_id: TenantId) -> None:
        """Lets the loop go round, with few new POSTs of a tenant each time: thousands that are due do not keep it."""
        async with self._lane((tenant_id, None), _IN_A_TURN):
            await asyncio.sleep(0)

    async def agreed(self, router: Router) -> str | None:
        """Asks whether a router wants what it has just asked for. Returns what it said if it does not."""
        began, pause = time.monotonic(), _SOON
        while True:
            outcome = await self._send(router, router.check())
            why = _disagrees(outcome)
            if why is None:
                return None
            if time.monotonic() - began >= _AT_ONCE:
                return why
            await asyncio.sleep(pause)
            pause *= 2

    async def insist(self, router: Router, body: bytes) -> Heard:
        """Sends it until it is taken or nothing more is wanted, which is also what long silence means."""
        failing, pause = None, _PAUSE
        while True:
            heard, why = await self.once(router, body)
            if heard is not Heard.AGAIN:
                return heard
            failing = failing or time.monotonic()
            if time.monotonic() - failing >= self._patience:
                log.info("callbacks.given_up", tenant_id=router.tenant_id, subscription_id=router.id, why=why)
                return Heard.OVER
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads load
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _lane(self, key: object, width: int) -> asyncio.Semaphore:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = asyncio.Semaphore(width)
        return lane


def _disagrees(outcome: Outcome) -> str | None:
    # Many a server that never heard of callbacks says 200 to whatever it is POSTed.
    heard, why = _heard(outcome)
    if heard is not Heard.TAKEN:
        return why
    assert isinstance(outcome, Answer | Rejected)
    says = isinstance(outcome, Answer) and outcome.headers.get(PROTOCOL[0]) == PROTOCOL[1]
    return None if outcome.status == 204 or says else f"it answered with status {outcome.status}"


def _heard(outcome: Outcome) -> tuple[Heard, str]:
    if not isinstance(outcome, Answer | Rejected):
        denied = isinstance(outcome, NotSent) and outcome.code is Code.UPSTREAM_DENIED
        return Heard.OVER if denied else Heard.AGAIN, outcome.reason
    status = outcome.status
    if 200 <= status <= 299:
        return Heard.TAKEN, ""
    over = 400 <= status <= 499 and status not in _PASSING
    return Heard.OVER if over else Heard.AGAIN, f"it answered with status {status}"
