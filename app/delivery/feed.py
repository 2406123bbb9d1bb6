"""The live feed: a tenant's ledger as it grows, from a cursor on, without a gap.

Each read is one snapshot that first asks whether the caller still is one: nothing is delivered that was committed after
their key had ended.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from app.identity.callers import Caller, recheck
from app.ledger.read import Wanted, head, page
from app.ledger.wake import Wake
from app.rules.ids import Instant
from app.rules.permissions import Permission
from app.store.engine import Tx
from app.store.tables import LedgerEntry

P = ParamSpec("P")
T = TypeVar("T")

_PAGE = 100
_QUIET = 30.0  # seconds until a quiet feed asks by itself: a key that expires moves no ledger


class Reads(Protocol):
    """What can be read from: a store, or a tenant's share of one."""

    async def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `query` in a snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class _Tail:
    entries: list[LedgerEntry]
    reached: int
    now: Instant


async def follow(
    store: Reads, wake: Wake, caller: Caller, after: int | None, wanted: Wanted
) -> AsyncGenerator[LedgerEntry, None]:
    """The entries after `after`, or from now on where it is None, until the process stops.

    Raises Unauthenticated when the key has ended.
    """
    with wake.watch(caller.tenant_id):
        reached = await store.read(_from_now, caller) if after is None else after
        while not wake.closed:
            bell = wake.bell(caller.tenant_id)  # before reading: what is committed meanwhile rings it
            tail = await store.read(_tail, caller, reached, wanted)
            for entry in tail.entries:
                yield entry
            if tail.reached == reached:
                await _quiet(bell, caller, tail.now)
            reached = tail.reached


def _from_now(tx: Tx, caller: Caller) -> int:
    recheck(tx, caller).require(Permission.AUDIT)
    return head(tx, caller.tenant_id)


def _tail(tx: Tx, caller: Caller, after: int, wanted: Wanted) -> _Tail:
    recheck(tx, caller).require(Permission.AUDIT)
    last = head(tx, caller.tenant_id)
    found = page(tx, caller.tenant_id, wanted, limit=_PAGE, after=after, before=None, backward=False)
    reached = found.reached if found.more and found.reached else max(after, last)
    return _Tail(found.entries, reached, tx.now())


async def _quiet(bell: asyncio.Event, caller: Caller, now: Instant) -> None:
    seconds = _QUIET
    if caller.expires_at is not None:
        seconds = min(seconds, max(0.0, (caller.expires_at - now) / 1_000_000))
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return
