"""Settling: every dispatch that nobody will finish any more gets its outcome, and its pair of entries (promise 6).

Three can be left PENDING: what a failed batch of this process may have left (a `Doubt`), what a process left that is
gone, and nothing else. A completion updates only what is still PENDING, so settling and completing never both count.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select, update

from app.ledger.append import Fact, append
from app.proxy.records import action_fact
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.rules.ids import AgentId, BootId, DispatchId
from app.rules.windows import counts, windows_at
from app.store.boots import is_gone
from app.store.engine import Store, Tx
from app.store.tables import Binding, Dispatch, IdempotencyKey, UsageWindow
from app.telemetry import get_logger

_CHUNK = 200  # dispatches in one transaction
_AGAIN = 1.0  # seconds until the store is asked again
_LOOK = 5.0  # seconds between looks for what dead processes left

log = get_logger()


@dataclass(frozen=True, slots=True)
class Doubt:
    """Dispatches of this process whose state only the store knows. Of the `unsent`, no byte went out."""

    unsent: list[DispatchId] = field(default_factory=list)
    unfinished: list[DispatchId] = field(default_factory=list)


class Settler:
    """One per process."""

    def __init__(self, store: Store, boot_id: BootId) -> None:
        self._store = store
        self._boot_id = boot_id
        self._doubts: asyncio.Queue[Doubt] = asyncio.Queue()

    def doubt(self, doubt: Doubt) -> None:
        """Settles these as soon as the store answers."""
        self._doubts.put_nowait(doubt)

    async def run_doubts(self) -> None:
        """Settles this process's own, for ever."""
        while True:
            doubt = await self._doubts.get()
            await self._insist(doubt.unsent, Outcome.FAILED, Code.NOT_SENT)
            await self._insist(doubt.unfinished, Outcome.INDETERMINATE, Code.COMPLETION_LOST)

    async def _insist(self, ids: Sequence[DispatchId], outcome: Outcome, code: Code) -> None:
        while ids:
            try:
                # The connection that broke may still be about to commit: what it commits would be settled by nobody.
                await self._store.hold()
                await self._store.write(settle, ids, outcome, code)
                return
            except Exception:
                log.exception("settle.failed", dispatches=len(ids))
                await asyncio.sleep(_AGAIN)

    async def run_abandoned(self) -> None:
        """Settles what dead processes left, for ever."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self.settle_abandoned()
            except Exception:
                log.exception("settle.failed")  # the next look tries again

    async def settle_abandoned(self) -> int:
        """Settles what dead processes left, until there is none; returns how many those were."""
        settled = 0
        while count := await self._store.write(settle_abandoned, self._boot_id):
            settled += count
        if settled:
            log.warning("settle.abandoned", dispatches=settled)
        return settled


def settle_abandoned(tx: Tx, mine: BootId) -> int:
    """Settles some of what processes left that are gone."""
    boots = (
        select(Dispatch.boot_id)
        .where(Dispatch.outcome == Outcome.PENDING, Dispatch.boot_id != mine)
        .distinct()
    )
    gone = [boot for boot in tx.scalars(boots) if is_gone(tx, boot)]
    if not gone:
        return 0
    left = select(Dispatch.id).where(Dispatch.outcome == Outcome.PENDING, Dispatch.boot_id.in_(gone))
    ids = list(tx.scalars(left.limit(_CHUNK)))
    return settle(tx, ids, Outcome.INDETERMINATE, Code.GATEWAY_CRASHED)


def settle(tx: Tx, ids: Iterable[DispatchId], outcome: Outcome, code: Code) -> int:
    """Ends those of the dispatches that are still PENDING. FAILED means that no byte went out, so it also gives
    back their reservations and frees their idempotency keys. Returns how many it ended.
    """
    wanted = list(ids)
    tx.lock(tx.scalars(select(Dispatch.delegation_id).where(Dispatch.id.in_(wanted))))
    pending = select(Dispatch).where(Dispatch.id.in_(wanted), Dispatch.outcome == Outcome.PENDING)
    rows = list(tx.scalars(pending.order_by(Dispatch.id)))
    if not rows:
        return 0
    now = tx.now()
    agents = _agents(tx, rows)
    facts: list[Fact] = []
    for row in rows:
        row.outcome, row.code, row.finished_at = outcome, code, now
        facts.append(action_fact(row, agents[row.binding_id], outcome, code, now, None, None))
        if outcome is Outcome.FAILED:
            _give_back(tx, row)
    tx.flush()
    append(tx, facts)
    return len(rows)


def _agents(tx: Tx, rows: Iterable[Dispatch]) -> dict[str, AgentId]:
    bindings = {row.binding_id for row in rows}
    found = tx.execute(select(Binding.id, Binding.agent_id).where(Binding.id.in_(bindings)))
    return dict(found.all())


def _give_back(tx: Tx, row: Dispatch) -> None:
    for window in windows_at(row.requested_at):
        counted = counts(window.kind, row.cost_units)
        reserved = (
            UsageWindow.delegation_id == row.delegation_id,
            UsageWindow.kind == window.kind,
            UsageWindow.starts_at == window.start,
        )
        tx.execute(update(UsageWindow).where(*reserved).values(used=UsageWindow.used - counted))
    for key in tx.scalars(select(IdempotencyKey).where(IdempotencyKey.dispatch_id == row.id)):
        tx.delete(key)
