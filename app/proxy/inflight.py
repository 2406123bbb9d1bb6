"""Actions under way: cancelled as soon as this process hears that their right has ended.

This makes a revocation quick, not safe: an answer is released only by its completion's commit, which sees the
revocation whether or not anybody was told (promise 1).
"""

import asyncio
from collections.abc import Awaitable, Iterable

from sqlalchemy import select

from app.edge.wait import Wait
from app.egress.outcomes import Outcome as Sent
from app.ledger.wake import POLL
from app.proxy.attempts import Aborted, Go
from app.rules.ids import BindingId, DelegationId
from app.rules.lifecycle import Status
from app.store.engine import Store, Tx
from app.store.tables import Binding, Delegation
from app.telemetry import get_logger

log = get_logger()


_Flights = dict[BindingId, set[Wait]]


class Inflight:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._flights: dict[DelegationId, _Flights] = {}
        self._asking: set[asyncio.Future[None]] = set()  # the loop alone would let them be collected

    def __len__(self) -> int:
        """How many are under way."""
        return sum(len(flights) for bindings in self._flights.values() for flights in bindings.values())

    async def carry(self, go: Go, sending: Awaitable[Sent]) -> Sent | Aborted:
        """Waits for the upstream's answer, or for the right to it to end."""
        flight = Wait()
        flights = self._flights.setdefault(go.row.delegation_id, {}).setdefault(go.row.binding_id, set())
        flights.add(flight)
        try:
            sent = await sending
        except asyncio.CancelledError:
            if flight.was_called_off():
                return Aborted()
            raise
        finally:
            self._forget(go, flight)
        return sent

    def _forget(self, go: Go, flight: Wait) -> None:
        by_binding = self._flights[go.row.delegation_id]
        by_binding[go.row.binding_id].discard(flight)
        if not by_binding[go.row.binding_id]:
            del by_binding[go.row.binding_id]
        if not by_binding:
            del self._flights[go.row.delegation_id]

    def suspect(self, ids: Iterable[DelegationId]) -> None:
        """A right under these delegations has ended: what is under way there is found out at once."""
        suspects = [id for id in ids if id in self._flights]
        if suspects:
            task = asyncio.ensure_future(self._find_out(suspects))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def poll(self) -> None:
        """Finds out, for ever, about rights that ended elsewhere: on another node, or by the command line."""
        while True:
            await asyncio.sleep(POLL)
            if self._flights:
                await self._find_out(list(self._flights))

    async def _find_out(self, ids: list[DelegationId]) -> None:
        try:
            living = await self._store.read(_living, ids)
        except Exception:
            log.exception("inflight.poll_failed")  # the next poll asks again, and completions ask anyway
            return
        for id in ids:
            for binding_id, flights in self._flights.get(id, {}).items():
                if binding_id not in living:
                    for flight in flights:
                        flight.call_off()


def _living(tx: Tx, ids: list[DelegationId]) -> set[BindingId]:
    now = tx.now()
    rows = (
        select(Binding.id)
        .join(Delegation)
        .where(
            Delegation.id.in_(ids),
            Delegation.status == Status.ACTIVE,
            Delegation.expires_at > now,
            Binding.revoked_at.is_(None),
        )
    )
    return set(tx.scalars(rows))
