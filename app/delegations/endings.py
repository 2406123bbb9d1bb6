"""How a delegation ends: revoked by a party, or lapsed or expired by the clock."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select, update

from app.delegations.bindings import open_at
from app.delegations.facts import party, to_both
from app.delegations.read import find_locked, status_at
from app.identity.callers import Caller
from app.ledger.append import Fact, append
from app.rules.entries import Event, Outcome
from app.rules.errors import Code, Refusal
from app.rules.ids import DelegationId, Instant
from app.rules.lifecycle import Move, Party, Status, step
from app.rules.permissions import Permission
from app.rules.texts import LONGEST_TEXT, refuse_text
from app.store.engine import Tx
from app.store.tables import Binding, Delegation, Dispatch, ScopedToken

_SWEEP = 100  # delegations in one transaction of the sweeper


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a revocation ended. `in_flight_aborted` were PENDING at its commit; `drained`: none was."""

    revoked_at: Instant
    bindings_ended: int
    tokens_ended: int
    in_flight_aborted: int
    drained: bool


@dataclass(frozen=True, slots=True)
class Revoked:
    """A revoked delegation and the receipt of its first revocation."""

    delegation: Delegation
    receipt: Receipt


def revoke(tx: Tx, caller: Caller, id: DelegationId, reason: str) -> Revoked | Refusal:
    """Ends a delegation at the commit of this transaction (promise 1); a repeat returns the first receipt."""
    caller.require(Permission.END)
    if refusal := refuse_text("reason", reason, longest=LONGEST_TEXT):
        return refusal
    delegation = find_locked(tx, caller.tenant_id, id)
    if isinstance(delegation, Refusal):
        return delegation
    if delegation.status is Status.REVOKED:
        return Revoked(delegation, Receipt(**delegation.receipt or {}))
    now = tx.now()
    side = party(delegation, caller.tenant_id)
    status = step(status_at(delegation, now), Move.REVOKE, side)
    if status is None:
        return Refusal(Code.WRONG_STATE, _why_not(status_at(delegation, now)), ("delegationId",))
    receipt = _end(tx, delegation, status, side, now)
    delegation.end_reason, delegation.receipt = reason, _stored(receipt)
    details = {"by": side.value, "reason": reason, "inFlightAborted": receipt.in_flight_aborted}
    append(tx, [to_both(Event.REVOKED, delegation, caller, now, details)])
    return Revoked(delegation, receipt)


def _why_not(status: Status) -> str:
    if status is Status.PENDING:
        return "delegationId: the offer is still open: decline it instead"
    return f"delegationId: the delegation has already ended: it is {status}"


def _end(tx: Tx, delegation: Delegation, status: Status, by: Party, now: Instant) -> Receipt:
    living = Binding.delegation_id == delegation.id, Binding.revoked_at.is_(None)
    tokens = select(func.count()).select_from(ScopedToken).join(Binding).where(*living, open_at(now))
    tokens_ended = tx.scalar(tokens) or 0
    bindings_ended = tx.scalar(select(func.count()).select_from(Binding).where(*living)) or 0
    tx.execute(update(Binding).where(*living).values(revoked_at=now))
    pending = Dispatch.delegation_id == delegation.id, Dispatch.outcome == Outcome.PENDING
    in_flight = tx.scalar(select(func.count()).select_from(Dispatch).where(*pending)) or 0
    delegation.status, delegation.ended_at, delegation.ended_by = status, now, by
    tx.facts.ended.add(delegation.id)
    return Receipt(now, bindings_ended, tokens_ended, in_flight, in_flight == 0)


def _stored(receipt: Receipt) -> dict[str, Any]:
    return {
        "revoked_at": receipt.revoked_at,
        "bindings_ended": receipt.bindings_ended,
        "tokens_ended": receipt.tokens_ended,
        "in_flight_aborted": receipt.in_flight_aborted,
        "drained": receipt.drained,
    }


def sweep(tx: Tx) -> int:
    """Records what the clock has already done to offers and delegations; returns how many it recorded."""
    now = tx.now()
    due = select(Delegation.id).where(
        or_(
            (Delegation.status == Status.PENDING) & (Delegation.offer_expires_at <= now),
            (Delegation.status == Status.PENDING) & (Delegation.expires_at <= now),
            Delegation.status.in_((Status.ACTIVE, Status.SUSPENDED)) & (Delegation.expires_at <= now),
        )
    )
    ids = list(tx.scalars(due.limit(_SWEEP)))
    tx.lock(ids)
    now = tx.now()
    rows = tx.scalars(select(Delegation).where(Delegation.id.in_(ids)).order_by(Delegation.id)).all()
    due_now = [each for each in rows if status_at(each, now) is not each.status]
    if due_now:
        append(tx, [_record(tx, delegation, now) for delegation in due_now])
    return len(due_now)


def _record(tx: Tx, delegation: Delegation, now: Instant) -> Fact:
    offered = delegation.status is Status.PENDING
    move, event = (Move.LAPSE, Event.LAPSED) if offered else (Move.EXPIRE, Event.EXPIRED)
    status = step(delegation.status, move, Party.SYSTEM)
    assert status is not None, "the clock moves only what the table lets it move"
    receipt = _end(tx, delegation, status, Party.SYSTEM, now)
    return to_both(event, delegation, None, now, {"bindingsEnded": receipt.bindings_ended})
