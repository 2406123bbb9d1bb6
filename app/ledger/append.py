"""Writing entries, in the caller's transaction: the only write that an event ever needs.

A flow calls `append`; the committer numbers a whole batch with `numbered` between its own statements. Either way the
heads are locked in the order of their tenants' ids and numbered in the same transaction, so `seq` is gap-free and in
commit order (promise 6).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import insert, select, update

from app.rules.entries import Event, Outcome, canonical, leaf_hash
from app.rules.ids import AgentId, DelegationId, DispatchId, Instant, PairId, TenantId
from app.rules.instants import rfc3339
from app.store.engine import Tx
from app.store.keys import new_id
from app.store.tables import LedgerEntry, LedgerHead


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry before it has a number.

    In what concerns a delegation the target tenant is the delegator and the acting tenant the delegate, whoever of
    them moved; `actor` is the subject who did, and stands in the log of their own tenant alone.
    """

    event: Event
    occurred_at: Instant
    tenant_id: TenantId
    acting_tenant_id: TenantId
    target_tenant_id: TenantId
    pair_id: PairId
    actor: str | None = None
    delegation_id: DelegationId | None = None
    dispatch_id: DispatchId | None = None
    acting_agent_id: AgentId | None = None
    action: str | None = None
    outcome: Outcome | None = None
    code: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


def own(event: Event, tenant_id: TenantId, actor: str, now: Instant, **details: object) -> Draft:
    """A fact that concerns one tenant alone."""
    return Draft(event, now, tenant_id, tenant_id, tenant_id, new_pair(), actor=actor, details=details)


def pair(draft: Draft, other: TenantId) -> tuple[Draft, Draft]:
    """A cross-tenant fact for both logs: as drafted for one, and without the user who acted for the other."""
    return draft, replace(draft, tenant_id=other, actor=None)


def new_pair() -> PairId:
    """An id for one fact, in however many ledgers it stands."""
    return PairId(new_id("par"))


def append(tx: Tx, drafts: Iterable[Draft]) -> None:
    """Appends entries to their tenants' ledgers. Call it last: it takes the last locks of the lock order."""
    drafts = list(drafts)
    tenants = sorted({draft.tenant_id for draft in drafts})
    heads = select(LedgerHead.tenant_id, LedgerHead.seq).where(LedgerHead.tenant_id.in_(tenants))
    locked = tx.execute(heads.order_by(LedgerHead.tenant_id).with_for_update()).all()
    rows, reached = numbered(drafts, dict(locked))
    tx.execute(insert(LedgerEntry), rows)
    for tenant_id, seq in reached.items():
        tx.execute(update(LedgerHead).where(LedgerHead.tenant_id == tenant_id).values(seq=seq))
    tx.facts.appended.update(tenants)


def numbered(
    drafts: Iterable[Draft], heads: Mapping[TenantId, int]
) -> tuple[list[dict[str, Any]], dict[TenantId, int]]:
    """The rows of these entries after the given heads, and the heads that follow them."""
    reached = dict(heads)
    rows = []
    for draft in drafts:
        reached[draft.tenant_id] += 1
        rows.append(_row(draft, reached[draft.tenant_id]))
    return rows, reached


def _row(draft: Draft, seq: int) -> dict[str, Any]:
    id = new_id("aud")
    body = canonical(
        {
            "id": id,
            "seq": seq,
            "pairId": draft.pair_id,
            "event": draft.event,
            "occurredAt": rfc3339(draft.occurred_at),
            "tenantId": draft.tenant_id,
            "delegationId": draft.delegation_id,
            "dispatchId": draft.dispatch_id,
            "actingTenantId": draft.acting_tenant_id,
            "targetTenantId": draft.target_tenant_id,
            "actingAgentId": draft.acting_agent_id,
            "actor": draft.actor,
            "action": draft.action,
            "outcome": draft.outcome,
            "code": draft.code,
            "details": draft.details,
        }
    )
    return {
        "tenant_id": draft.tenant_id,
        "seq": seq,
        "id": id,
        "pair_id": draft.pair_id,
        "event": draft.event.value,
        "occurred_at": draft.occurred_at,
        "delegation_id": draft.delegation_id,
        "dispatch_id": draft.dispatch_id,
        "body": body.decode(),
        "leaf_hash": leaf_hash(body),
    }
