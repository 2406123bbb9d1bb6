"""Writing entries, in the caller's transaction: the only write that an event ever needs.

A flow calls `append`; the committer numbers a whole batch with `numbered` between its own statements. Either way the
heads are locked in the order of their tenants' ids and numbered in the same transaction, so `seq` is gap-free and in
commit order (promise 6).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import insert, select, update

from app.rules.entries import Event, Outcome, canonical, leaf_hash
from app.rules.ids import AgentId, DelegationId, DispatchId, EntryId, Instant, PairId, TenantId
from app.rules.instants import rfc3339
from app.store.engine import Tx
from app.store.hot_writes import NewEntry
from app.store.keys import new_id
from app.store.tables import LedgerEntry, LedgerHead


class Side(NamedTuple):
    """A ledger in which a fact stands. `actor` is the subject who acted, and is named to their own tenant alone;
    `own` are details that are no business of the other side's.
    """

    tenant_id: TenantId
    actor: str | None = None
    own: Mapping[str, object] | None = None


@dataclass(slots=True)  # not frozen: every dispatch makes one, and freezing triples what that costs
class Fact:
    """What happened, once; with its sides it becomes one entry in each of their ledgers, under one pair id.

    In what concerns a delegation the target tenant is the delegator and the acting tenant the delegate, whoever of
    them moved.
    """

    event: Event
    occurred_at: Instant
    acting_tenant_id: TenantId
    target_tenant_id: TenantId
    sides: Sequence[Side]
    delegation_id: DelegationId | None = None
    dispatch_id: DispatchId | None = None
    acting_agent_id: AgentId | None = None
    action: str | None = None
    outcome: Outcome | None = None
    code: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


def own(event: Event, tenant_id: TenantId, actor: str, now: Instant, **details: object) -> Fact:
    """A fact that concerns one tenant alone."""
    return Fact(event, now, tenant_id, tenant_id, [Side(tenant_id, actor)], details=details)


def append(tx: Tx, facts: Iterable[Fact]) -> None:
    """Appends facts to their ledgers. Call it last: it takes the last locks of the lock order."""
    facts = list(facts)
    tenants = ledgers(facts)
    heads = select(LedgerHead.tenant_id, LedgerHead.seq).where(LedgerHead.tenant_id.in_(tenants))
    locked = tx.execute(heads.order_by(LedgerHead.tenant_id).with_for_update()).all()
    rows, reached = numbered(facts, dict(locked))
    tx.execute(insert(LedgerEntry), [row._asdict() for row in rows])
    for tenant_id, seq in reached.items():
        tx.execute(update(LedgerHead).where(LedgerHead.tenant_id == tenant_id).values(seq=seq))
    tx.facts.appended.update(tenants)


def ledgers(facts: Iterable[Fact]) -> list[TenantId]:
    """Whose ledgers these facts stand in, in the order in which their heads are locked."""
    return sorted({side.tenant_id for fact in facts for side in fact.sides})


def numbered(
    facts: Iterable[Fact], heads: Mapping[TenantId, int]
) -> tuple[list[NewEntry], dict[TenantId, int]]:
    """The rows of these facts after the given heads, and the heads that follow them."""
    reached: dict[TenantId, int] = {}
    rows = []
    for fact in facts:
        pair_id = PairId(new_id("par"))
        entry = _shared(fact, pair_id)
        for side in fact.sides:
            seq = reached[side.tenant_id] = reached.get(side.tenant_id, heads[side.tenant_id]) + 1
            rows.append(_row(fact, entry, side, seq))
    return rows, reached


def _shared(fact: Fact, pair_id: PairId) -> dict[str, Any]:
    return {
        "pairId": pair_id,
        "event": fact.event.value,
        "occurredAt": rfc3339(fact.occurred_at),
        "delegationId": fact.delegation_id,
        "dispatchId": fact.dispatch_id,
        "actingTenantId": fact.acting_tenant_id,
        "targetTenantId": fact.target_tenant_id,
        "actingAgentId": fact.acting_agent_id,
        "action": fact.action,
        "outcome": fact.outcome,
        "code": fact.code,
        "details": fact.details,
    }


def _row(fact: Fact, entry: dict[str, Any], side: Side, seq: int) -> NewEntry:
    # `entry` is what the sides share; each puts its own in place.
    id = entry["id"] = EntryId(new_id("aud"))
    entry["seq"], entry["tenantId"], entry["actor"] = seq, side.tenant_id, side.actor
    entry["details"] = {**fact.details, **side.own} if side.own else fact.details
    body = canonical(entry)
    return NewEntry(
        side.tenant_id,
        seq,
        id,
        entry["pairId"],
        entry["event"],
        fact.occurred_at,
        fact.delegation_id,
        fact.dispatch_id,
        body.decode(),
        leaf_hash(body),
    )
