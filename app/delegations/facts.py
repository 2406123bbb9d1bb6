"""What a flow says to the ledgers about a delegation."""

from collections.abc import Mapping

from app.identity.callers import Caller
from app.ledger.append import Fact, Side
from app.rules.entries import Event
from app.rules.ids import AgentId, Instant, TenantId
from app.rules.lifecycle import Party
from app.store.tables import Delegation


def to_both(
    event: Event,
    delegation: Delegation,
    caller: Caller | None,
    now: Instant,
    details: Mapping[str, object],
    acting_agent_id: AgentId | None = None,
) -> Fact:
    """For both ledgers, or the delegator's alone while the delegate knows of nothing."""
    fact = to_one(event, delegation, caller, now, details, acting_agent_id)
    mine = fact.sides[0].tenant_id
    if mine != delegation.delegator_id or known_to_delegate(delegation):
        fact.sides = [*fact.sides, Side(counterparty(delegation, mine))]
    return fact


def to_one(
    event: Event,
    delegation: Delegation,
    caller: Caller | None,
    now: Instant,
    details: Mapping[str, object],
    acting_agent_id: AgentId | None = None,
) -> Fact:
    """For the caller's own ledger alone; what the clock does is told to the delegator first."""
    return Fact(
        event,
        now,
        acting_tenant_id=delegation.delegate_id,
        target_tenant_id=delegation.delegator_id,
        sides=[Side(caller.tenant_id, caller.subject) if caller else Side(delegation.delegator_id)],
        delegation_id=delegation.id,
        acting_agent_id=acting_agent_id,
        details=details,
    )


def known_to_delegate(delegation: Delegation) -> bool:
    """A TOKEN offer exists for the delegate only once they have used its token (promise 6)."""
    return (
        delegation.acceptance == "ADDRESSED"
        or delegation.accepted_at is not None
        or delegation.ended_by is Party.DELEGATE
    )


def counterparty(delegation: Delegation, tenant_id: TenantId) -> TenantId:
    """The other tenant."""
    return delegation.delegate_id if tenant_id == delegation.delegator_id else delegation.delegator_id


def party(delegation: Delegation, tenant_id: TenantId) -> Party:
    """On which side a tenant of this delegation stands."""
    return Party.DELEGATOR if tenant_id == delegation.delegator_id else Party.DELEGATE
