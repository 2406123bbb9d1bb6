"""Who waits for what was committed: readers of a ledger, and actions under way whose right may have ended.

In one process a commit wakes them at once. The other nodes on a PostgreSQL are told after it, in a transaction of its
own: a NOTIFY inside the writing one would have all commits of the server wait for each other. What follows within
`_DEBOUNCE` is told together. Whoever is not told, and what the command line writes, finds out by asking the store four
times a second, which alone is enough: a wake that never comes costs a quarter of a second, never an entry.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy import select

from app.rules.ids import DelegationId, TenantId
from app.store.engine import Facts, Store, Tx
from app.store.tables import LedgerHead

POLL = 0.25  # seconds
_DEBOUNCE = 0.02  # seconds
_AGAIN = 1.0  # seconds after the store failed

_DELEGATION = "dlg_"

log = structlog.get_logger()


class Wake:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watched: Counter[TenantId] = Counter()
        self._seen: dict[TenantId, int] = {}
        self._events: dict[TenantId, asyncio.Event] = {}
        self._untold: set[str] = set()
        self._tell = asyncio.Event()
        #: Once true, followers end: the process is about to stop.
        self.closed = False
        #: Told which delegations' rights have ended.
        self.on_ended: Callable[[set[DelegationId]], None] = lambda ids: None

        #: Told whose ledgers have grown by a transaction of this process.
        self.on_appended: Callable[[set[TenantId]], None] = lambda tenants: None

    def committed(self, facts: Facts) -> None:
        """A transaction of this process has committed."""
        if facts.ended:
            self.on_ended(facts.ended)
        for tenant_id in facts.appended & self._watched.keys():
            self._ring(tenant_id)
        if facts.appended:
            self.on_appended(facts.appended)
        if facts.ended or facts.appended:
            self._untold |= facts.appended | facts.ended
            self._tell.set()

    def heard(self, what: str) -> None:
        """Another node says whose ledger moved, or which delegation's rights may have ended."""
        if what.startswith(_DELEGATION):
            self.on_ended({DelegationId(what)})
        else:
            self._ring(TenantId(what))

    @contextmanager
    def watch(self, tenant_id: TenantId) -> Iterator[None]:
        """While this is open, `moved` hears of the tenant's ledger."""
        self._watched[tenant_id] += 1
        try:
            yield
        finally:
            self._watched[tenant_id] -= 1
            if not self._watched[tenant_id]:
                del self._watched[tenant_id]
                self._seen.pop(tenant_id, None)
                self._events.pop(tenant_id, None)

    def bell(self, tenant_id: TenantId) -> asyncio.Event:
        """Set at the next move of this tenant's ledger. Take it before reading: then no move is missed."""
        return self._events.setdefault(tenant_id, asyncio.Event())

    def was_read(self, tenant_id: TenantId, seq: int) -> None:
        """Somebody has read the tenant's ledger up to here, so that this much is no news."""
        if tenant_id in self._watched:
            self._seen[tenant_id] = max(seq, self._seen.get(tenant_id, 0))

    def _ring(self, tenant_id: TenantId) -> None:
        if bell := self._events.pop(tenant_id, None):
            bell.set()

    def close(self) -> None:
        """Ends every follower."""
        self.closed = True
        for tenant_id in list(self._events):
            self._ring(tenant_id)

    async def poll(self) -> None:
        """Asks the store, for ever, whether a watched ledger has moved."""
        while True:
            await asyncio.sleep(POLL)
            if self._watched:
                try:
                    self._compare(await self._store.read(_heads, list(self._watched)))
                except Exception:
                    log.exception("ledger.poll_failed")  # the next poll asks again

    async def tell(self) -> None:
        """Tells the other nodes, for ever, what was committed here."""
        while True:
            await self._tell.wait()
            await asyncio.sleep(_DEBOUNCE)
            self._tell.clear()
            told, self._untold = self._untold, set()
            try:
                await self._store.tell(told)
            except Exception:
                log.exception("ledger.tell_failed")  # they find out by asking

    async def listen(self) -> None:
        """Hears, for ever, what other nodes tell."""
        while True:
            try:
                await self._store.listen(self.heard)
            except Exception:
                log.exception("ledger.listen_failed")
            await asyncio.sleep(_AGAIN)

    def _compare(self, heads: dict[TenantId, int]) -> None:
        for tenant_id, seq in heads.items():
            if self._seen.get(tenant_id) != seq:
                self._seen[tenant_id] = seq
                self._ring(tenant_id)


def _heads(tx: Tx, tenants: list[TenantId]) -> dict[TenantId, int]:
    rows = tx.execute(select(LedgerHead.tenant_id, LedgerHead.seq).where(LedgerHead.tenant_id.in_(tenants)))
    return dict(rows.all())
