"""What a flow says to the ledgers about a delegation."""

from collections.abc import Mapping

from app.identity.callers import Caller
from app.ledger.append import Draft, new_pair, pair
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
) -> tuple[Draft, ...]:
    """The entries of a fact in both ledgers, or in the delegator's alone while the delegate knows of nothing."""
    draft = to_one(event, delegation, caller, now, details, acting_agent_id)
    if draft.tenant_id == delegation.delegator_id and not known_to_delegate(delegation):
        return (draft,)
    return pair(draft, counterparty(delegation, draft.tenant_id))


def to_one(
    event: Event,
    delegation: Delegation,
    caller: Caller | None,
    now: Instant,
    details: Mapping[str, object],
    acting_agent_id: AgentId | None = None,
) -> Draft:
    """The entry in the caller's own ledger; the clock's goes to the delegator's."""
    return Draft(
        event=event,
        occurred_at=now,
        tenant_id=caller.tenant_id if caller else delegation.delegator_id,
        acting_tenant_id=delegation.delegate_id,
        target_tenant_id=delegation.delegator_id,
        pair_id=new_pair(),
        actor=caller.subject if caller else None,
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
