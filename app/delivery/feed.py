"""The live feed: a tenant's ledger as it grows, from a cursor on, without a gap.

    catch_up    a subscriber's own pages, from its cursor until it has come to the end
    Tail        what comes from then on, read once for all subscribers of a tenant

Each read is one snapshot that also says whose key lives, and with which role: nothing is delivered to a key that was
committed after its end. Positions are seqs, since those alone are numbered in the order of commits.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import thread_time
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from app.identity.callers import Caller, recheck, standing
from app.ledger.read import Wanted, head, page, since
from app.ledger.wake import Wake
from app.rules.errors import BadInput
from app.rules.ids import ApiKeyId, Instant, TenantId
from app.rules.permissions import Permission
from app.store.engine import Tx
from app.store.tables import LedgerEntry
from app.telemetry import get_logger

P = ParamSpec("P")
T = TypeVar("T")

_PAGE = 100  # entries of a subscriber's own page
_MOST = 500  # entries read at once for all
_QUIET = 5.0  # seconds until a quiet tail asks by itself: a key may end without a word in the ledger
#: Seconds from one delivery to the next at least: what comes meanwhile goes together. The first goes at once.
_SPACING = 0.05
#: A delivery to very many takes so long that they are spaced out further: by so many times the processor time of the last one.
_SHARE = 2
_AGAIN = 0.5  # seconds after a read that failed

log = get_logger()


class Reads(Protocol):
    """What can be read from: a store, or a tenant's share of one."""

    async def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `query` in a snapshot."""
        ...


@dataclass(slots=True)
class Position:
    """How far a subscriber has read by itself."""

    reached: int = 0


#: Joins the others at the end of the ledger as it was read, and says how far they were told then.
Join = Callable[[int], int]


async def catch_up(
    store: Reads, caller: Caller, after: int | None, wanted: Wanted, join: Join, position: Position
) -> AsyncGenerator[LedgerEntry, None]:
    """The entries after `after`, or none where it is None, up to where the others have been told.

    What they are told after `join` the subscriber is told too, so there is no gap: what they were told before, and it
    has not read yet, it reads here. Raises Unauthenticated or Forbidden when the key has ended or may less, BadInput where
    the log has no such place.
    """
    position.reached = await store.read(begin, caller, after)
    until: int | None = None
    while until is None or position.reached < until:
        own = await store.read(_own, caller, position.reached, wanted, until)
        for entry in own.entries:
            yield entry
        position.reached = own.reached
        if until is None and own.ended:
            until = join(position.reached)


@dataclass(frozen=True, slots=True)
class _Own:
    entries: list[LedgerEntry]
    reached: int
    ended: bool


def begin(tx: Tx, caller: Caller, after: int | None) -> int:
    """Where a subscriber begins: after `after`, or at the end as it is now. Raises as `catch_up` does."""
    recheck(tx, caller).require(Permission.AUDIT)
    last = head(tx, caller.tenant_id)
    if after is not None and after > last:
        raise BadInput(
            "after, or Last-Event-ID: this cursor lies beyond the end of your log; take one from its edges"
        )
    return last if after is None else after


def _own(tx: Tx, caller: Caller, after: int, wanted: Wanted, until: int | None) -> _Own:
    recheck(tx, caller).require(Permission.AUDIT)
    last = head(tx, caller.tenant_id) if until is None else until
    found = page(
        tx, caller.tenant_id, wanted, limit=_PAGE, after=after, before=max(after, last) + 1, backward=False
    )
    reached = found.reached if found.more and found.reached else max(after, last)
    return _Own(found.entries, reached, not found.more)


@dataclass(frozen=True, slots=True)
class News:
    """What came, and what was known of the keys of those who hear it when it was read. `asked` are these keys."""

    entries: Sequence[LedgerEntry]
    reached: int
    asked: frozenset[ApiKeyId]
    standing: Mapping[ApiKeyId, Caller]
    now: Instant

    @property
    def expires_at(self) -> Instant | None:
        """When the next of the keys ends by itself."""
        return min((each.expires_at for each in self.standing.values() if each.expires_at), default=None)


class Audience(Protocol):
    """Those who hear the same of a tail."""

    @property
    def keys(self) -> Collection[ApiKeyId]:
        """By which keys they are there."""
        ...

    async def hear(self, news: News) -> bool:
        """Takes it in. Whether somebody's key was not asked for, and so has to be before they hear of this."""
        ...

    def close(self) -> None:
        """Ends it: the process is about to stop, or it could not be told."""
        ...


class Tail:
    """One tenant's ledger as it grows, from `reached` on."""

    def __init__(
        self, store: Reads, wake: Wake, tenant_id: TenantId, reached: int, over: Callable[[], object]
    ) -> None:
        self.reached = reached
        self._store = store
        self._wake = wake
        self._tenant_id = tenant_id
        self._over = over
        self._audiences: set[Audience] = set()
        self._following: asyncio.Task[None] | None = None

    def add(self, audience: Audience) -> None:
        """Tells it what is read from now on."""
        self._audiences.add(audience)
        if self._following is None:
            self._following = asyncio.ensure_future(self._follow())

    def remove(self, audience: Audience) -> None:
        """Tells it nothing more. Without anybody to tell, the tail ends."""
        self._audiences.discard(audience)
        if not self._audiences and self._following is not None:
            self._following.cancel()
            self._over()

    async def _follow(self) -> None:
        with self._wake.watch(self._tenant_id):
            while not self._wake.closed:
                bell = self._wake.bell(
                    self._tenant_id
                )  # before reading: what is committed meanwhile rings it
                try:
                    news = await self._read()
                except Exception:
                    log.exception("feed.read_failed")
                    await asyncio.sleep(_AGAIN)
                else:
                    await self._tell(news, bell)
        for audience in [*self._audiences]:
            audience.close()

    async def _read(self) -> News:
        keys = frozenset(key for audience in self._audiences for key in audience.keys)
        return await self._store.read(_news, self._tenant_id, self.reached, keys)

    async def _tell(self, news: News, bell: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began, spent = loop.time(), thread_time()
        self.reached = news.reached
        self._wake.was_read(self._tenant_id, news.reached)
        again = await asyncio.gather(*(self._tell_one(audience, news) for audience in [*self._audiences]))
        await asyncio.sleep(0)  # whom that woke goes first
        if len(news.entries) == _MOST or any(again):
            return
        spacing = max(_SPACING, _SHARE * (thread_time() - spent)) if news.entries else 0
        await _quiet(bell, news)
        await asyncio.sleep(began + spacing - loop.time())

    async def _tell_one(self, audience: Audience, news: News) -> bool:
        try:
            return await audience.hear(news)
        except Exception:
            log.exception("feed.tell_failed")
            audience.close()  # going on it would have missed this
            return False


def _news(tx: Tx, tenant_id: TenantId, after: int, keys: frozenset[ApiKeyId]) -> News:
    found = since(tx, tenant_id, after, _MOST)
    reached = found[-1].seq if found else after
    return News(found, reached, keys, standing(tx, keys), tx.now())


async def _quiet(bell: asyncio.Event, news: News) -> None:
    seconds = _QUIET
    if news.expires_at is not None:
        seconds = min(seconds, max(0.0, (news.expires_at - news.now) / 1_000_000))
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return


class Feed:
    """The tails of a process."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._tails: dict[TenantId, Tail] = {}

    def tail(self, store: Reads, tenant_id: TenantId, reached: int) -> Tail:
        """The tenant's tail; where it has none, one that begins after `reached`."""
        tail = self._tails.get(tenant_id)
        if tail is None:
            over = lambda: self._tails.pop(tenant_id, None)  # noqa: E731
            tail = self._tails[tenant_id] = Tail(store, self._wake, tenant_id, reached, over)
        return tail
