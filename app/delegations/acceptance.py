"""An offer is previewed, accepted or declined: once, by the tenant it was made to, and failing in one way."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, or_, select

from app.delegations.bindings import Issued, bind, issue, lock_own_agent, refuse_bound
from app.delegations.facts import to_both, to_one
from app.delegations.read import status_at
from app.identity.callers import Caller
from app.ledger.append import append
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import AgentId, DelegationId, Instant
from app.rules.lifecycle import Move, Party, Status, step
from app.rules.permissions import Permission
from app.rules.texts import LONGEST_TEXT, refuse_text
from app.store.engine import Tx
from app.store.keys import Keys
from app.store.tables import Delegation, TermsVersion

#: The one way in which acceptance fails (promise 5).
NOT_ACCEPTABLE = Refusal(
    Code.OFFER_NOT_ACCEPTABLE,
    "there is no such offer that your tenant can accept or decline: ask whoever sent it for a new one",
)
_NOBODY = DelegationId("dlg_00000000-0000-0000-0000-000000000000")


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
    keys: Keys,
    *,
    acknowledged: bool,
    expected_hash: str | None,
    accept_key: str | None,
) -> Accepted | Refusal:
    """Takes an offer once: an ACTIVE delegation, a binding for the accepting agent, and its scoped token."""
    caller.require(Permission.ACCEPT)
    if refusal := _refuse_acceptance(tx, caller, agent_id, acknowledged):
        return refusal
    delegation, now = _locked_offer(tx, caller, ref, accept_key), tx.now()
    if delegation and _accepted_with(delegation, caller, accept_key):
        return Accepted(delegation, None)
    if delegation is None or not _open_to(delegation, caller, now):
        return NOT_ACCEPTABLE
    terms = tx.get_one(TermsVersion, (delegation.id, delegation.terms_version))
    if expected_hash is not None and expected_hash != terms.hash:
        message = "termsHash is not the hash of the offered terms: read them again before you accept"
        return Refusal(Code.TERMS_CHANGED, message, ("termsHash",))
    delegation.accept_key = accept_key
    return _accept(tx, caller, delegation, terms, agent_id, keys, now)


def _refuse_acceptance(tx: Tx, caller: Caller, agent_id: AgentId, acknowledged: bool) -> Refusal | None:
    if not acknowledged:
        message = "acknowledgeConstraints must be true: accepting means agreeing to the constraints"
        return Refusal(Code.ACKNOWLEDGEMENT_REQUIRED, message, ("acknowledgeConstraints",))
    if not lock_own_agent(tx, caller, agent_id):
        message = "acceptingAgentId names no agent of your tenant"
        return Refusal(Code.NOT_FOUND, message, ("acceptingAgentId",))
    return refuse_bound(tx, agent_id)


def _accept(
    tx: Tx,
    caller: Caller,
    delegation: Delegation,
    terms: TermsVersion,
    agent_id: AgentId,
    keys: Keys,
    now: Instant,
) -> Accepted:
    delegation.status, delegation.accepted_at = _stepped(delegation, Move.ACCEPT), now
    binding = bind(tx, delegation, agent_id, now)
    issued = issue(tx, delegation, binding, keys, now)
    append(
        tx,
        [
            to_both(Event.ACCEPTED, delegation, caller, now, {"termsHash": terms.hash}, agent_id),
            to_both(Event.BINDING_CREATED, delegation, caller, now, {"bindingId": binding.id}, agent_id),
            to_one(Event.TOKEN_ISSUED, delegation, caller, now, issued.details(), agent_id),
        ],
    )
    return Accepted(delegation, issued)


def decline(tx: Tx, caller: Caller, ref: OfferRef, reason: str | None) -> Delegation | Refusal:
    """Turns an offer down for good; wrong offers fail as in `accept`."""
    caller.require(Permission.ACCEPT)
    if reason is not None and (refusal := refuse_text("reason", reason, longest=LONGEST_TEXT, empty=True)):
        return refusal
    delegation, now = _locked_offer(tx, caller, ref), tx.now()
    if delegation is None or not _open_to(delegation, caller, now):
        return NOT_ACCEPTABLE
    delegation.status = _stepped(delegation, Move.DECLINE)
    delegation.ended_at, delegation.ended_by, delegation.end_reason = now, Party.DELEGATE, reason
    append(tx, [to_both(Event.DECLINED, delegation, caller, now, {"reason": reason})])
    return delegation


def _locked_offer(tx: Tx, caller: Caller, ref: OfferRef, accept_key: str | None = None) -> Delegation | None:
    # The same statements whatever the offer is, or is not: nobody learns more from the time it takes (promise 5).
    # A lock on a row is a write, and an unknown offer has none: so whoever may not have the offer locks nothing.
    wanted = select(Delegation.id).where(_named(ref), _for_whom(caller, tx.now(), accept_key))
    found = tx.scalars(wanted).one_or_none() or _NOBODY
    tx.lock([found])
    # What it was before the lock has chosen the row and decides nothing: callers look at what it is now.
    return tx.scalars(select(Delegation).where(Delegation.id == found)).one_or_none()


def _named(ref: OfferRef) -> ColumnElement[bool]:
    if ref.offer_hash is not None:
        return Delegation.offer_hash == ref.offer_hash
    return and_(Delegation.id == ref.delegation_id, Delegation.acceptance == "ADDRESSED")


def _for_whom(caller: Caller, now: Instant, accept_key: str | None) -> ColumnElement[bool]:
    """`_open_to` or `_accepted_with`, in SQL."""
    lapses = or_(Delegation.offer_expires_at <= now, Delegation.expires_at <= now)
    opened = and_(Delegation.status == Status.PENDING, ~lapses)
    wanted = or_(opened, Delegation.accept_key == accept_key) if accept_key else opened
    return and_(Delegation.delegate_id == caller.tenant_id, wanted)


def _accepted_with(delegation: Delegation, caller: Caller, accept_key: str | None) -> bool:
    mine = delegation.delegate_id == caller.tenant_id
    return mine and accept_key is not None and delegation.accept_key == accept_key


def _open_to(delegation: Delegation, caller: Caller, now: Instant) -> bool:
    return delegation.delegate_id == caller.tenant_id and status_at(delegation, now) is Status.PENDING


def _stepped(delegation: Delegation, move: Move) -> Status:
    after = step(delegation.status, move, Party.DELEGATE)
    assert after is not None, "only an open offer gets here"
    return after
