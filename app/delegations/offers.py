"""Offering: one agent to one tenant, within the plan and within what a stranger may send."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select

from app.delegations.facts import to_both
from app.delegations.terms import terms_row
from app.identity.callers import Caller
from app.identity.plans import Plans
from app.identity.tenants import lock_tenant
from app.inventory.agents import find_agent
from app.ledger.append import append
from app.rules.amendments import Agreed
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.guards import refuse_guards
from app.rules.ids import DAY, AgentId, DelegationId, Instant, TenantId
from app.rules.instants import rfc3339
from app.rules.lifecycle import Status
from app.rules.limits import OFFER_LIVES, refuse, refuse_metadata, refuse_offer_expiry
from app.rules.permissions import Permission
from app.rules.scopes import lendable, normal
from app.rules.terms import Constraints
from app.store.engine import Tx
from app.store.keys import Minted, new_id
from app.store.tables import Delegation, Tenant, TermsVersion

MOST_ADDRESSED = 20  # open offers of one tenant that another did not ask for (promise 6)
MOST_ADDRESSED_A_DAY = 100  # ended ones too: each leaves entries in a ledger whose owner did not ask for it


@dataclass(frozen=True, slots=True)
class OfferDraft:
    """What is offered, and to whom."""

    agent_id: AgentId
    delegate_id: TenantId
    scopes: list[str]
    constraints: Constraints
    acceptance: str
    environment: str
    offer_expires_at: Instant | None
    metadata: Any


def offer(
    tx: Tx, caller: Caller, draft: OfferDraft, minted: Minted | None, plans: Plans
) -> Delegation | Refusal:
    """Offers one agent to one tenant. `minted` is the offer token's, None where the offer is ADDRESSED."""
    caller.require(Permission.OFFER)
    tenant = lock_tenant(tx, caller.tenant_id)
    now = tx.now()
    offer_expires_at = draft.offer_expires_at
    if offer_expires_at is None:
        offer_expires_at = Instant(min(now + OFFER_LIVES, draft.constraints.expires_at))
    if refusal := _refuse_draft(draft, offer_expires_at, now) or _refuse_parties(tx, caller, draft):
        return refusal
    if refusal := _refuse_count(tx, tenant, draft, plans, now):
        return refusal
    delegation = Delegation(
        id=DelegationId(new_id("dlg")),
        delegator_id=caller.tenant_id,
        delegate_id=draft.delegate_id,
        agent_id=draft.agent_id,
        status=Status.PENDING,
        acceptance=draft.acceptance,
        environment=draft.environment,
        offer_hash=minted.hash if minted else None,
        terms_version=1,
        expires_at=draft.constraints.expires_at,
        offered_at=now,
        offer_expires_at=offer_expires_at,
    )
    tx.add(delegation)
    tx.flush()
    agreed = Agreed(normal(draft.scopes), draft.constraints, draft.metadata)
    terms = terms_row(delegation.id, 1, agreed, now)
    terms.in_force_at = now
    tx.add(terms)
    append(tx, [to_both(Event.OFFERED, delegation, caller, now, _offered(delegation, terms))])
    return delegation


def _offered(delegation: Delegation, terms: TermsVersion) -> dict[str, object]:
    return {
        "agentId": delegation.agent_id,
        "acceptance": delegation.acceptance,
        "offerExpiresAt": rfc3339(delegation.offer_expires_at),
        "scopes": terms.scopes,
        "termsVersion": terms.version,
        "termsHash": terms.hash,
    }


def _refuse_draft(draft: OfferDraft, offer_expires_at: Instant, now: Instant) -> Refusal | None:
    return (
        refuse(draft.constraints, now)
        or refuse_guards(draft.constraints.deny_patterns, draft.constraints.condition)
        or refuse_offer_expiry(offer_expires_at, now)
        or refuse_metadata(draft.metadata)
    )


def _refuse_parties(tx: Tx, caller: Caller, draft: OfferDraft) -> Refusal | None:
    if draft.delegate_id == caller.tenant_id:
        message = "toTenantId is your own tenant: an agent is lent to another one"
        return Refusal(Code.SELF_DELEGATION, message, ("toTenantId",))
    if tx.get(Tenant, draft.delegate_id) is None:
        # The same for every id that there is none of: nothing is told of others.
        message = "toTenantId names no tenant: give its id, which begins with ten_, and not its slug"
        return Refusal(Code.NOT_FOUND, message, ("toTenantId",))
    agent = find_agent(tx, caller, draft.agent_id)
    if agent is None:
        return Refusal(Code.NOT_FOUND, "fromAgentId names no agent of your tenant", ("fromAgentId",))
    return lendable(draft.scopes, agent.scopes)


def _refuse_count(tx: Tx, tenant: Tenant, draft: OfferDraft, plans: Plans, now: Instant) -> Refusal | None:
    most = plans.get(tenant.plan, 0)
    if outgoing(tx, tenant.id, now) >= most:
        message = (
            f"your plan {tenant.plan} allows {most} outgoing delegations: end one, or wait for one to end"
        )
        return Refusal(Code.PLAN_LIMIT, message)
    return (
        _refuse_addressed(tx, tenant.id, draft.delegate_id, now) if draft.acceptance == "ADDRESSED" else None
    )


def _refuse_addressed(tx: Tx, tenant_id: TenantId, delegate_id: TenantId, now: Instant) -> Refusal | None:
    pair = Delegation.delegator_id == tenant_id, Delegation.delegate_id == delegate_id
    addressed = select(func.count()).where(*pair, Delegation.acceptance == "ADDRESSED")
    pending = Delegation.ended_at.is_(None) & (Delegation.status == Status.PENDING)
    opened = addressed.where(pending, Delegation.offer_expires_at > now)
    if (tx.scalar(opened) or 0) >= MOST_ADDRESSED:
        message = f"{MOST_ADDRESSED} ADDRESSED offers to this tenant are open: wait for an answer, or offer by TOKEN"
        return Refusal(Code.LIMIT_REACHED, message, ("acceptance",))
    if (tx.scalar(addressed.where(Delegation.offered_at > now - DAY)) or 0) >= MOST_ADDRESSED_A_DAY:
        sent = f"{MOST_ADDRESSED_A_DAY} ADDRESSED offers went to this tenant within 24 hours, ended ones too"
        return Refusal(Code.LIMIT_REACHED, f"{sent}: wait, or offer by TOKEN", ("acceptance",))
    return None


def outgoing(tx: Tx, tenant_id: TenantId, now: Instant) -> int:
    """Delegations of this delegator that have not ended by the clock: what its plan counts."""
    rows = select(func.count()).select_from(Delegation).where(Delegation.delegator_id == tenant_id)
    return tx.scalar(rows.where(*_not_ended(now))) or 0


def outgoing_of_all(tx: Tx, now: Instant) -> dict[TenantId, int]:
    """The same of every delegator that has any."""
    rows = select(Delegation.delegator_id, func.count()).where(*_not_ended(now))
    return dict(tx.execute(rows.group_by(Delegation.delegator_id)).all())


def _not_ended(now: Instant) -> tuple[ColumnElement[bool], ...]:
    open_or_taken = or_(Delegation.status != Status.PENDING, Delegation.offer_expires_at > now)
    return Delegation.ended_at.is_(None), Delegation.expires_at > now, open_or_taken
