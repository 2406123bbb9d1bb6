"""Actions under way: cancelled as soon as this process hears that their right has ended.

This makes a revocation quick, not safe: an answer is released only by its completion's commit, which sees the
revocation whether or not anybody was told (promise 1).
"""

import asyncio
from collections.abc import Awaitable, Iterable

from sqlalchemy import select

from app.egress.outcomes import Outcome as Sent
from app.ledger.wake import POLL
from app.proxy.attempts import Aborted, Go
from app.rules.ids import BindingId, DelegationId
from app.rules.lifecycle import Status
from app.store.engine import Store, Tx
from app.store.tables import Binding, Delegation
from app.telemetry import IN_FLIGHT, get_logger

log = get_logger()


class Flight:
    """One action under way, and how to call it off. What `asyncio.timeout` does, at a quarter of its price."""

    __slots__ = ("_called_off", "_task")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._called_off = False

    def call_off(self) -> None:
        """Cancels the wait for the upstream, once."""
        if not self._called_off and self._task is not None:
            self._called_off = True
            self._task.cancel()

    def landed(self) -> bool:
        """Whether a cancellation was ours alone; takes ours back."""
        assert self._task is not None
        return self._called_off and self._task.uncancel() == 0


_Flights = dict[BindingId, set[Flight]]


class Inflight:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._flights: dict[DelegationId, _Flights] = {}
        self._asking: set[asyncio.Future[None]] = set()  # the loop alone would let them be collected

    async def carry(self, go: Go, sending: Awaitable[Sent]) -> Sent | Aborted:
        """Waits for the upstream's answer, or for the right to it to end."""
        flight = Flight()
        flights = self._flights.setdefault(go.delegation_id, {}).setdefault(go.binding_id, set())
        flights.add(flight)
        IN_FLIGHT.inc()
        try:
            sent = await sending
        except asyncio.CancelledError:
            if flight.landed():
                return Aborted()
            raise
        finally:
            IN_FLIGHT.dec()
            self._forget(go, flight)
        return sent

    def _forget(self, go: Go, flight: Flight) -> None:
        by_binding = self._flights[go.delegation_id]
        by_binding[go.binding_id].discard(flight)
        if not by_binding[go.binding_id]:
            del by_binding[go.binding_id]
        if not by_binding:
            del self._flights[go.delegation_id]

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
