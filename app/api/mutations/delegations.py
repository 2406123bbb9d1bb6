"""The lifecycle of a delegation."""

import time
from typing import Annotated

import orjson

from app.api.context import Context, Info
from app.api.described import argument, field, object_type
from app.api.inputs import (
    AcceptDelegationInput,
    DeclineDelegationInput,
    OfferDelegationInput,
    RevokeDelegationInput,
    as_id,
    refuse_key,
)
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
from app.delegations.endings import revoke
from app.delegations.offers import OfferDraft, offer
from app.delegations.parts import bindings_of
from app.rules.errors import Code, Refusal
from app.rules.ids import AgentId, DelegationId, TenantId
from app.rules.permissions import Permission
from app.rules.tokens import TokenKind
from app.telemetry import AGENT_SHARE_REVOCATION_TIME_SECONDS

_ALREADY_ISSUED = Refusal(
    Code.TOKEN_ALREADY_ISSUED,
    "this offer was accepted with this idempotencyKey before; its token is not shown again: call rotateToken "
    "for a new one",
)


@object_type
class DelegationMutations:
    """Offer, accept, decline, revoke."""

    @field
    async def offer_delegation(
        self, info: Info, input: Annotated[OfferDelegationInput, argument("What is offered, and to whom.")]
    ) -> OfferDelegationPayload:
        """Offer scopes of one of your agents to another tenant."""
        context = info.context
        context.caller.require(Permission.OFFER)
        if refusal := input.constraints.refuse():
            return OfferDelegationPayload.refused(refusal)
        minted = None
        if input.acceptance is AcceptanceMode.TOKEN:
            minted = context.gateway.keys.mint(TokenKind.OFFER)
        row = await context.write(offer, context.caller, _draft(input), minted)
        if isinstance(row, Refusal):
            return OfferDelegationPayload.refused(row)
        return OfferDelegationPayload(
            delegation=Delegation(row=row), offer_token=minted.text if minted else None
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
        minted = context.gateway.keys.mint(TokenKind.LIVE)
        accepted = await context.write(
            accept,
            context.caller,
            ref,
            as_id(AgentId, input.accepting_agent_id),
            minted,
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
        row = await context.write(decline, context.caller, _ref(context, input), input.reason)
        if isinstance(row, Refusal):
            return DelegationPayload.refused(row)
        return DelegationPayload(delegation=Delegation(row=row))

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
