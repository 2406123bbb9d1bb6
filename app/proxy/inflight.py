"""Actions under way: cancelled as soon as this process hears that their right has ended.

This makes a revocation quick, not safe: an answer is released only by its completion's commit, which sees the
revocation whether or not anybody was told (promise 1).
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from sqlalchemy import select

from app.delegations.standing import standings
from app.edge.wait import Wait
from app.ledger.wake import POLL
from app.proxy.attempts import Aborted, Go
from app.rules.admission import still_holds
from app.rules.ids import DelegationId, DispatchId
from app.store.engine import Store, Tx
from app.store.tables import Action, Binding
from app.telemetry import get_logger

log = get_logger()


T = TypeVar("T")


class Inflight:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._flights: dict[DelegationId, dict[Wait, Go]] = {}
        self._asking: set[asyncio.Future[None]] = set()  # the loop alone would let them be collected

    def __len__(self) -> int:
        """How many are under way."""
        return sum(map(len, self._flights.values()))

    async def carry(self, go: Go, sending: Awaitable[T]) -> T | Aborted:
        """Waits for an answer, or for the right to it to end."""
        flight = Wait()
        flights = self._flights.setdefault(go.row.delegation_id, {})
        flights[flight] = go
        try:
            return await sending
        except asyncio.CancelledError:
            if flight.was_called_off():
                return Aborted()
            raise
        finally:
            del flights[flight]
            if not flights:
                self._flights.pop(go.row.delegation_id, None)

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
        flying = {flight: go for id in ids for flight, go in self._flights.get(id, {}).items()}
        try:
            ended = await self._store.read(_ended, list(flying.values()))
        except Exception:
            log.exception("inflight.poll_failed")  # the next poll asks again, and completions ask anyway
            return
        for flight, go in flying.items():
            if go.attempt.id in ended and flight in self._flights.get(go.row.delegation_id, ()):
                flight.call_off()


def _ended(tx: Tx, flying: Sequence[Go]) -> set[DispatchId]:
    """Which of them may not go on, by the rule that their completions are going to ask."""
    stand = standings(tx, Binding.id.in_({go.row.binding_id for go in flying}))
    routes = {go.route.action_id: go.route for go in flying}
    known = [routes[id] for id in tx.scalars(select(Action.id).where(Action.id.in_(routes)))]
    now = tx.now()
    return {
        go.attempt.id
        for go in flying
        if still_holds(stand[go.row.binding_id].evidence, go.attempt.ask, go.route, known, now)
    }
