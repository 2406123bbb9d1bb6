"""Offer, preview, accept, decline."""

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import func, or_, select

from app.delegations.bindings import Issued, bind, issue
from app.delegations.facts import to_both, to_one
from app.delegations.read import status_at
from app.identity.callers import Caller
from app.identity.tenants import PLANS
from app.inventory.agents import find_agent
from app.ledger.append import append
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import AgentId, DelegationId, Instant, TenantId
from app.rules.instants import rfc3339
from app.rules.lifecycle import Move, Party, Status, step
from app.rules.permissions import Permission
from app.rules.scopes import lendable, normal
from app.rules.terms import (
    LARGEST_METADATA,
    OFFER_LIVES,
    Constraints,
    refuse,
    refuse_offer_expiry,
    stored,
    terms_hash,
)
from app.rules.texts import LONGEST_TEXT, refuse_text
from app.store.engine import Tx
from app.store.keys import Minted, new_id
from app.store.tables import Agent, Delegation, Tenant, TermsVersion

MOST_ADDRESSED = 20  # open offers of one tenant that another did not ask for (promise 6)

#: The one way in which acceptance fails (promise 5).
NOT_ACCEPTABLE = Refusal(
    Code.OFFER_NOT_ACCEPTABLE,
    "there is no such offer that your tenant can accept or decline: ask whoever sent it for a new one",
)
_NOBODY = DelegationId("dlg_00000000-0000-0000-0000-000000000000")


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


@dataclass(frozen=True, slots=True)
class OfferRef:
    """An offer, named by its token's hash or, where it is ADDRESSED, by its id."""

    offer_hash: str | None
    delegation_id: DelegationId | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted offer. `issued` is None on a repeat, which cannot show the token again."""

    delegation: Delegation
    issued: Issued | None


def offer(tx: Tx, caller: Caller, draft: OfferDraft, minted: Minted | None) -> Delegation | Refusal:
    """Offers one agent to one tenant. `minted` is the offer token's, None where the offer is ADDRESSED."""
    caller.require(Permission.OFFER)
    tenant = tx.scalars(
        select(Tenant).where(Tenant.id == caller.tenant_id).with_for_update(key_share=True)
    ).one()
    now = tx.now()
    offer_expires_at = draft.offer_expires_at
    if offer_expires_at is None:
        offer_expires_at = Instant(min(now + OFFER_LIVES, draft.constraints.expires_at))
    if refusal := _refuse_draft(draft, offer_expires_at, now) or _refuse_parties(tx, caller, draft):
        return refusal
    if refusal := _refuse_count(tx, tenant, draft, now):
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
    terms = _first_terms(delegation, draft, now)
    tx.add(terms)
    append(tx, [to_both(Event.OFFERED, delegation, caller, now, _offered(delegation, terms))])
    return delegation


def _first_terms(delegation: Delegation, draft: OfferDraft, now: Instant) -> TermsVersion:
    scopes = normal(draft.scopes)
    return TermsVersion(
        delegation_id=delegation.id,
        version=1,
        scopes=scopes,
        constraints=stored(draft.constraints),
        metadata_=draft.metadata,
        hash=terms_hash(1, scopes, draft.constraints, draft.metadata),
        created_at=now,
    )


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
    if draft.environment != "LIVE":
        message = f"environment {draft.environment} is not supported yet: offer LIVE"
        return Refusal(Code.NOT_SUPPORTED, message, ("environment",))
    if refusal := refuse(draft.constraints, now) or refuse_offer_expiry(offer_expires_at, now):
        return refusal
    if len(orjson.dumps(draft.metadata)) > LARGEST_METADATA:
        return Refusal(Code.INVALID, f"metadata is over {LARGEST_METADATA} bytes as JSON", ("metadata",))
    return None


def _refuse_parties(tx: Tx, caller: Caller, draft: OfferDraft) -> Refusal | None:
    if draft.delegate_id == caller.tenant_id:
        message = "toTenantId is your own tenant: an agent is lent to another one"
        return Refusal(Code.SELF_DELEGATION, message, ("toTenantId",))
    if tx.get(Tenant, draft.delegate_id) is None:
        return Refusal(Code.NOT_FOUND, "toTenantId names no tenant", ("toTenantId",))
    agent = find_agent(tx, caller, draft.agent_id)
    if agent is None:
        return Refusal(Code.NOT_FOUND, "fromAgentId names no agent of your tenant", ("fromAgentId",))
    return lendable(draft.scopes, agent.scopes)


def _refuse_count(tx: Tx, tenant: Tenant, draft: OfferDraft, now: Instant) -> Refusal | None:
    most = PLANS[tenant.plan]
    if outgoing(tx, tenant.id, now) >= most:
        message = (
            f"your plan {tenant.plan} allows {most} outgoing delegations: end one, or wait for one to end"
        )
        return Refusal(Code.PLAN_LIMIT, message)
    if (
        draft.acceptance == "ADDRESSED"
        and _addressed(tx, tenant.id, draft.delegate_id, now) >= MOST_ADDRESSED
    ):
        message = f"{MOST_ADDRESSED} ADDRESSED offers to this tenant are open: wait for an answer, or offer by TOKEN"
        return Refusal(Code.LIMIT_REACHED, message, ("acceptance",))
    return None


def outgoing(tx: Tx, tenant_id: TenantId, now: Instant) -> int:
    """Delegations of this delegator that have not ended by the clock: what its plan counts."""
    living = Delegation.ended_at.is_(None) & (Delegation.expires_at > now)
    open_or_taken = or_(Delegation.status != Status.PENDING, Delegation.offer_expires_at > now)
    rows = select(func.count()).select_from(Delegation).where(Delegation.delegator_id == tenant_id)
    return tx.scalar(rows.where(living, open_or_taken)) or 0


def _addressed(tx: Tx, delegator_id: TenantId, delegate_id: TenantId, now: Instant) -> int:
    rows = (
        select(func.count())
        .select_from(Delegation)
        .where(
            Delegation.delegator_id == delegator_id,
            Delegation.ended_at.is_(None),
            Delegation.delegate_id == delegate_id,
            Delegation.acceptance == "ADDRESSED",
            Delegation.status == Status.PENDING,
            Delegation.offer_expires_at > now,
        )
    )
    return tx.scalar(rows) or 0


def preview(tx: Tx, caller: Caller, offer_hash: str) -> Delegation | None:
    """What an offer token would grant to the caller's tenant; None for every kind of wrong token."""
    caller.require(Permission.ACCEPT)
    delegation = tx.scalars(select(Delegation).where(Delegation.offer_hash == offer_hash)).one_or_none()
    now = tx.now()
    return delegation if delegation and _open_to(delegation, caller, now) else None


def accept(
    tx: Tx,
    caller: Caller,
    ref: OfferRef,
    agent_id: AgentId,
    minted: Minted,
    *,
    acknowledged: bool,
    expected_hash: str | None,
    accept_key: str | None,
) -> Accepted | Refusal:
    """Takes an offer once: an ACTIVE delegation, a binding for the accepting agent, and its scoped token."""
    caller.require(Permission.ACCEPT)
    if not acknowledged:
        message = "acknowledgeConstraints must be true: accepting means agreeing to the constraints"
        return Refusal(Code.ACKNOWLEDGEMENT_REQUIRED, message, ("acknowledgeConstraints",))
    agent = tx.scalars(
        select(Agent).where(Agent.id == agent_id, Agent.tenant_id == caller.tenant_id)
    ).one_or_none()
    if agent is None:
        return Refusal(
            Code.NOT_FOUND, "acceptingAgentId names no agent of your tenant", ("acceptingAgentId",)
        )
    delegation, now = _locked_offer(tx, ref), tx.now()
    if (
        delegation
        and accept_key
        and delegation.accept_key == accept_key
        and delegation.delegate_id == caller.tenant_id
    ):
        return Accepted(delegation, None)
    if delegation is None or not _open_to(delegation, caller, now):
        return NOT_ACCEPTABLE
    terms = tx.get_one(TermsVersion, (delegation.id, delegation.terms_version))
    if expected_hash is not None and expected_hash != terms.hash:
        message = "termsHash is not the hash of the offered terms: read them again before you accept"
        return Refusal(Code.TERMS_CHANGED, message, ("termsHash",))
    return _accept(tx, caller, delegation, terms, agent, minted, accept_key, now)


def _accept(
    tx: Tx,
    caller: Caller,
    delegation: Delegation,
    terms: TermsVersion,
    agent: Agent,
    minted: Minted,
    accept_key: str | None,
    now: Instant,
) -> Accepted:
    delegation.status = _stepped(delegation, Move.ACCEPT)
    delegation.accepted_at, delegation.accept_key = now, accept_key
    binding = bind(tx, delegation, agent.id, now)
    issued = issue(tx, delegation, binding, minted, now)
    append(
        tx,
        [
            to_both(Event.ACCEPTED, delegation, caller, now, {"termsHash": terms.hash}, agent.id),
            to_both(Event.BINDING_CREATED, delegation, caller, now, {"bindingId": binding.id}, agent.id),
            to_one(Event.TOKEN_ISSUED, delegation, caller, now, issued.details(), agent.id),
        ],
    )
    return Accepted(delegation, issued)


def decline(tx: Tx, caller: Caller, ref: OfferRef, reason: str | None) -> Delegation | Refusal:
    """Turns an offer down for good; wrong offers fail as in `accept`."""
    caller.require(Permission.ACCEPT)
    if reason is not None and (refusal := refuse_text("reason", reason, longest=LONGEST_TEXT, empty=True)):
        return refusal
    delegation, now = _locked_offer(tx, ref), tx.now()
    if delegation is None or not _open_to(delegation, caller, now):
        return NOT_ACCEPTABLE
    delegation.status = _stepped(delegation, Move.DECLINE)
    delegation.ended_at, delegation.ended_by, delegation.end_reason = now, Party.DELEGATE, reason
    append(tx, [to_both(Event.DECLINED, delegation, caller, now, {"reason": reason})])
    return delegation


def _locked_offer(tx: Tx, ref: OfferRef) -> Delegation | None:
    # The same statements whatever the offer is, or is not: nobody learns more from the time it takes (promise 5).
    named = Delegation.offer_hash == ref.offer_hash if ref.offer_hash else Delegation.id == ref.delegation_id
    found = tx.scalars(select(Delegation.id).where(named)).one_or_none()
    tx.lock([found or _NOBODY])
    delegation = tx.scalars(select(Delegation).where(Delegation.id == (found or _NOBODY))).one_or_none()
    if delegation is not None and ref.offer_hash is None and delegation.acceptance != "ADDRESSED":
        return None
    return delegation


def _open_to(delegation: Delegation, caller: Caller, now: Instant) -> bool:
    return delegation.delegate_id == caller.tenant_id and status_at(delegation, now) is Status.PENDING


def _stepped(delegation: Delegation, move: Move) -> Status:
    after = step(delegation.status, move, Party.DELEGATE)
    assert after is not None, "only an open offer gets here"
    return after
