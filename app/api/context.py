"""What resolvers work with: the process's parts, who calls, and loaders that live for one operation."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import strawberry

from app.api.at_once import FairShare
from app.api.loaders import Loaders, Query
from app.delivery.webhooks.parts import Sender
from app.egress.origins import Reach
from app.identity.callers import Caller, recheck, recheck_at_end
from app.identity.plans import Plans
from app.ledger.read import Wanted
from app.ledger.wake import Wake
from app.proxy.judging import Judges
from app.proxy.perform import Performer
from app.rules.errors import TooComplex
from app.rules.ids import ApiKeyId, Instant, TenantId
from app.rules.permissions import Permission
from app.rules.terms import IPAddress
from app.settings import Settings
from app.store.engine import Store, Tx
from app.store.keys import Keys
from app.store.tables import LedgerEntry

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Bytes that the upstreams' answers may take in the answer to one document: the largest one fits.
MOST_ANSWERED = 16 * 1024 * 1024
#: Webhook endpoints, deliveries and attempts in the answer to one document: a page of deliveries with all that they had.
MOST_SHOWN = 6_000

#: Writes under way: a client that leaves takes its answer back, never a transaction (the loop alone would let go).
_WRITING: set["asyncio.Future[Any]"] = set()


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of the process, put together in `main.py`. `public_url` ends without a slash."""

    settings: Settings
    store: Store
    keys: Keys
    wake: Wake
    performer: Performer
    judges: Judges
    public_url: str
    plans: Plans
    #: When each key was last used, until it is recorded: a write per request would be too dear.
    used_keys: dict[ApiKeyId, Instant]
    #: Each tenant's that has called: few, since tenants are made by hand.
    _shares: dict[TenantId, FairShare] = field(default_factory=dict, init=False)

    @property
    def sender(self) -> Sender:
        """What webhooks are sent by."""
        return Sender(self.keys, self.public_url, self.settings.webhook_schedule)

    @property
    def reach(self) -> Reach:
        """Where tenants may have us push to."""
        return Reach(self.settings.egress_allow, self.settings.require_https)

    def share(self, tenant_id: TenantId) -> FairShare:
        """What a tenant reads and writes through, so that it leaves room for the others (promise 10)."""
        share = self._shares.get(tenant_id)
        if share is None:  # once: every operation asks
            share = self._shares[tenant_id] = FairShare(self.store)
        return share


class Source(Protocol):
    """Where the events of a subscription come from."""

    def entries(
        self, after: str | None, wanted: Wanted, variable: str | None
    ) -> AsyncGenerator[LedgerEntry, None]:
        """Entries after a cursor, or from now on. `variable` is the name of that which holds the cursor, if one does.

        Raises BadInput where the log has no such place, Unauthenticated or Forbidden where the key has ended or may less.
        """
        ...


class Context:
    """Of one operation. `address` is the client's, where it has one."""

    #: Where the events of a subscription come from; whoever runs one sets it.
    source: Source

    def __init__(
        self, gateway: Gateway, caller: Caller, address: IPAddress | None, resume: str | None = None
    ) -> None:
        self.gateway = gateway
        self.caller = caller
        self.address = address
        #: The cursor of the last event that an event stream has seen, by `Last-Event-ID`.
        self.resume = resume
        self.store = gateway.share(caller.tenant_id)
        # One connection at a time: a document with many fields does not take the pool from the others.
        self._turn = asyncio.Lock()
        self._room = MOST_ANSWERED
        self._unshown = MOST_SHOWN
        self.forget()

    @property
    def tenant_id(self) -> TenantId:
        """The caller's tenant: whatever is read is read as it sees it (promise 7)."""
        return self.caller.tenant_id

    def reading(self) -> Caller:
        """The caller, who must have the permission to read."""
        self.caller.require(Permission.READ)
        return self.caller

    async def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A query in a snapshot of its own.

        Raises Unauthenticated where the caller's key has ended in it: a document may run for minutes.
        """
        async with self._turn:
            return await self.store.read(self._by_caller(query, *args, **kwargs))

    async def find(self, query: Query[K, P, V], key: K, *args: P.args, **kwargs: P.kwargs) -> V | None:
        """One of many, read together with what else the operation asks of `query` now; None where there is none."""
        return await self._loaders.load(query, key, *args, **kwargs)

    async def load(self, query: Query[K, P, V], key: K, *args: P.args, **kwargs: P.kwargs) -> V:
        """The same for what is always there."""
        found = await self.find(query, key, *args, **kwargs)
        assert found is not None, f"{key} is there wherever something points to it"
        return found

    async def now(self) -> Instant:
        """The store's clock, the same for the whole of a query."""
        return await self.load(_clock, "now")

    async def aside(self, work: Callable[[], T]) -> T:
        """Does what may take long, one at a time of this tenant's, on a thread that is there for it."""
        return await self.gateway.judges.aside((self.tenant_id, "asks"), work)

    def know(self, query: Query[K, P, V], found: Mapping[K, V]) -> None:
        """What a query would answer, where another one has answered it on its way."""
        self._loaders.prime(query, found)

    def know_now(self, now: Instant) -> None:
        """The clock that something was read by: the same for the whole of a query."""
        self.know(_clock, {"now": now})

    async def write(self, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a flow in a transaction, which is finished even if the caller does not wait for it.

        Raises Unauthenticated where the caller's key has ended since the operation began.
        """

        def rechecked(tx: Tx) -> T:
            result = self._by_caller(flow, *args, **kwargs)(tx)
            recheck_at_end(tx, self.caller)
            return result

        writing = asyncio.ensure_future(self.store.write(rechecked))
        _WRITING.add(writing)
        writing.add_done_callback(_WRITING.discard)
        result = await asyncio.shield(writing)
        self.forget()
        return result

    def take(self, size: int) -> bool:
        """Whether so many bytes of upstreams' answers fit beside those that this document has already."""
        if size > self._room:
            return False
        self._room -= size
        return True

    def show(self, count: int) -> None:
        """Counts what a document shows of lists whose lengths nobody knows beforehand.

        Raises TooComplex where it shows more than one page of one list has at most.
        """
        self._unshown -= count
        if self._unshown < 0:
            raise TooComplex(
                f"it shows more than {MOST_SHOWN:,} endpoints, deliveries and attempts: ask for less at a time"
            )

    def _by_caller(
        self, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Callable[[Tx], T]:
        def rechecked(tx: Tx) -> T:
            recheck(tx, self.caller)
            return flow(tx, *args, **kwargs)

        return rechecked

    def forget(self) -> None:
        """Reads everything anew from here on."""
        self._loaders = Loaders(self.read, self.caller.tenant_id)


def _clock(tx: Tx, tenant_id: TenantId, keys: Sequence[str]) -> dict[str, Instant]:  # noqa: ARG001  # a query's form
    now = tx.now()
    return dict.fromkeys(keys, now)


Info = strawberry.Info[Context, None]
