"""The lifecycle of a delegation."""

import time
from functools import partial
from typing import Annotated

import orjson

from app.api.context import Context, Info
from app.api.creating import already_issued, create
from app.api.described import argument, field, object_type
from app.api.inputs.delegations import (
    AcceptDelegationInput,
    AcknowledgeTermsInput,
    AmendDelegationInput,
    DeclineDelegationInput,
    OfferDelegationInput,
    ResumeDelegationInput,
    RevokeDelegationInput,
    SuspendDelegationInput,
)
from app.api.inputs.names import as_id
from app.api.inputs.once import refuse_key
from app.api.types.bindings import Binding
from app.api.types.delegations import Delegation
from app.api.types.enums import AcceptanceMode
from app.api.types.payloads import (
    AcceptDelegationPayload,
    DelegationPayload,
    OfferDelegationPayload,
    RevocationReceipt,
    RevokeDelegationPayload,
)
from app.delegations.acceptance import Accepted, OfferRef, accept, decline
from app.delegations.amending import Amendment, acknowledge, amend_delegation
from app.delegations.endings import revoke
from app.delegations.offers import OfferDraft, offer
from app.delegations.parts import bindings_of
from app.delegations.suspension import resume, suspend
from app.identity.once import Repeat
from app.rules.amendments import refuse_new_guards
from app.rules.errors import Code, Refusal
from app.rules.guards import refuse_guards
from app.rules.ids import AgentId, DelegationId, TenantId
from app.rules.permissions import Permission
from app.rules.tokens import TokenKind
from app.store import tables
from app.telemetry import AGENT_SHARE_REVOCATION_TIME_SECONDS

_ALREADY_ISSUED = Refusal(
    Code.TOKEN_ALREADY_ISSUED,
    "this offer was accepted with this idempotencyKey before; its token is not shown again: call rotateToken "
    "for a new one",
)

_OFFERED_ALREADY = already_issued("revoke this offer and make another, if its token is lost")


@object_type
class DelegationMutations:
    """Offer, accept, decline, suspend, resume, amend, acknowledge, revoke."""

    @field
    async def offer_delegation(
        self, info: Info, input: Annotated[OfferDelegationInput, argument("What is offered, and to whom.")]
    ) -> OfferDelegationPayload:
        """Offer scopes of one of your agents to another tenant."""
        context = info.context
        context.caller.require(Permission.OFFER)
        limits = input.constraints.constraints()
        if refusal := await context.aside(partial(refuse_guards, limits.deny_patterns, limits.condition)):
            return OfferDelegationPayload.refused(refusal)
        minted = None
        if input.acceptance is AcceptanceMode.TOKEN:
            minted = context.gateway.keys.mint(TokenKind.OFFER)
        draft, plans = _draft(input), context.gateway.plans
        made = await create(
            context,
            Permission.OFFER,
            input,
            lambda tx: offer(tx, context.caller, draft, minted, plans),
            tables.Delegation,
        )
        match made:
            case Refusal():
                return OfferDelegationPayload.refused(made)
            case Repeat(row):
                payload = OfferDelegationPayload.refused(*([_OFFERED_ALREADY] if minted else []))
                payload.delegation = Delegation(row=row)
                return payload
        return OfferDelegationPayload(
            delegation=Delegation(row=made), offer_token=minted.text if minted else None
        )

    @field
    async def accept_delegation(
        self, info: Info, input: Annotated[AcceptDelegationInput, argument("Which offer, and who will act.")]
    ) -> AcceptDelegationPayload:
        """Accept an offer to your tenant, once: your agent is bound, and gets a scoped token."""
        context = info.context
        context.caller.require(Permission.ACCEPT)
        ref = _ref(context, input)
        if refusal := _only_one(input) or refuse_key(input.idempotency_key):
            return AcceptDelegationPayload.refused(refusal)
        accepted = await context.write(
            accept,
            context.caller,
            ref,
            as_id(AgentId, input.accepting_agent_id),
            context.gateway.keys,
            acknowledged=input.acknowledge_constraints,
            expected_hash=input.terms_hash,
            accept_key=_accept_key(context, ref, input.idempotency_key),
        )
        if isinstance(accepted, Refusal):
            return AcceptDelegationPayload.refused(accepted)
        return await _accepted(context, accepted)

    @field
    async def decline_delegation(
        self, info: Info, input: Annotated[DeclineDelegationInput, argument("Which offer.")]
    ) -> DelegationPayload:
        """Turn an offer to your tenant down, for good."""
        context = info.context
        context.caller.require(Permission.ACCEPT)
        if refusal := _only_one(input):
            return DelegationPayload.refused(refusal)
        return _moved(await context.write(decline, context.caller, _ref(context, input), input.reason))

    @field
    async def revoke_delegation(
        self, info: Info, input: Annotated[RevokeDelegationInput, argument("Which delegation, and why.")]
    ) -> RevokeDelegationPayload:
        """End a delegation at once, as either party. A repeat answers like the first."""
        began = time.perf_counter()
        context = info.context
        revoked = await context.write(
            revoke, context.caller, as_id(DelegationId, input.delegation_id), input.reason
        )
        if isinstance(revoked, Refusal):
            return RevokeDelegationPayload.refused(revoked)
        AGENT_SHARE_REVOCATION_TIME_SECONDS.observe(time.perf_counter() - began)
        return RevokeDelegationPayload(
            delegation=Delegation(row=revoked.delegation), receipt=RevocationReceipt(row=revoked.receipt)
        )

    @field
    async def suspend_delegation(
        self, info: Info, input: Annotated[SuspendDelegationInput, argument("Which delegation, and why.")]
    ) -> DelegationPayload:
        """Halt a delegation at once, as its delegator, until you resume it."""
        id = as_id(DelegationId, input.delegation_id)
        return _moved(await info.context.write(suspend, info.context.caller, id, input.reason))

    @field
    async def resume_delegation(
        self, info: Info, input: Annotated[ResumeDelegationInput, argument("Which delegation.")]
    ) -> DelegationPayload:
        """Let a suspended delegation go on, as its delegator: with its bindings and tokens as they are."""
        id = as_id(DelegationId, input.delegation_id)
        return _moved(await info.context.write(resume, info.context.caller, id))

    @field
    async def amend_delegation(
        self, info: Info, input: Annotated[AmendDelegationInput, argument("What changes.")]
    ) -> DelegationPayload:
        """Amend a delegation, as its delegator: the next version of its terms, in force for the next dispatch.

        Scopes that are added wait in `proposedTerms` until the delegate has acknowledged them.
        """
        info.context.caller.require(Permission.GOVERN)
        id, changes = as_id(DelegationId, input.delegation_id), input.changes()
        if refusal := await info.context.aside(partial(refuse_new_guards, changes)):
            return DelegationPayload.refused(refusal)
        asked = Amendment(id, input.expected_version, changes, input.reason)
        return _moved(await info.context.write(amend_delegation, info.context.caller, asked))

    @field
    async def acknowledge_terms(
        self, info: Info, input: Annotated[AcknowledgeTermsInput, argument("Which terms.")]
    ) -> DelegationPayload:
        """Agree to proposed terms, as the delegate: they are in force from then on."""
        id = as_id(DelegationId, input.delegation_id)
        return _moved(await info.context.write(acknowledge, info.context.caller, id, input.terms_hash))


def _moved(row: tables.Delegation | Refusal) -> DelegationPayload:
    if isinstance(row, Refusal):
        return DelegationPayload.refused(row)
    return DelegationPayload(delegation=Delegation(row=row))


def _draft(input: OfferDelegationInput) -> OfferDraft:
    return OfferDraft(
        agent_id=as_id(AgentId, input.from_agent_id),
        delegate_id=as_id(TenantId, input.to_tenant_id),
        scopes=list(input.scopes),
        constraints=input.constraints.constraints(),
        acceptance=input.acceptance,
        environment=input.environment,
        offer_expires_at=input.offer_expires_at,
        metadata={} if input.metadata is None else input.metadata,
    )


def _only_one(input: AcceptDelegationInput | DeclineDelegationInput) -> Refusal | None:
    if (input.offer_token is None) is not (input.delegation_id is None):
        return None
    message = "offerToken: give exactly one of offerToken and delegationId"
    return Refusal(Code.INVALID, message, ("offerToken",))


def _ref(context: Context, input: AcceptDelegationInput | DeclineDelegationInput) -> OfferRef:
    # Also a token that could be none is hashed and looked for: the same work for everyone (promise 5).
    if input.offer_token is not None:
        return OfferRef(context.gateway.keys.hash(input.offer_token), None)
    return OfferRef(None, as_id(DelegationId, input.delegation_id or ""))


def _accept_key(context: Context, ref: OfferRef, key: str | None) -> str | None:
    if key is None:
        return None
    whole = [context.tenant_id, ref.offer_hash, ref.delegation_id, key]
    return context.gateway.keys.hash(orjson.dumps(whole).decode())


async def _accepted(context: Context, accepted: Accepted) -> AcceptDelegationPayload:
    delegation = Delegation(row=accepted.delegation)
    if accepted.issued is None:
        first = await context.load(bindings_of, accepted.delegation.id, 1, None)
        payload = AcceptDelegationPayload.refused(_ALREADY_ISSUED)
        payload.delegation, payload.binding = delegation, Binding(row=first[0])
        return payload
    return AcceptDelegationPayload(
        delegation=delegation,
        binding=Binding(row=accepted.issued.binding),
        scoped_token=accepted.issued.minted.text,
        token_expires_at=accepted.issued.token.expires_at,
    )
