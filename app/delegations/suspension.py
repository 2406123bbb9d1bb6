"""Suspending a delegation and resuming it, by the delegator alone: a right that rests, and is not lost."""

from sqlalchemy import select

from app.delegations.facts import to_both
from app.delegations.read import find_locked_as, status_at
from app.identity.callers import Caller
from app.ledger.append import append
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import DelegationId, Instant
from app.rules.lifecycle import Move, Party, step
from app.rules.permissions import Permission
from app.rules.texts import LONGEST_TEXT, refuse_text
from app.store.engine import Tx
from app.store.tables import Delegation, Suspension


def suspend(tx: Tx, caller: Caller, id: DelegationId, reason: str) -> Delegation | Refusal:
    """Halts a delegation at the commit of this transaction: nothing is admitted or released until it is resumed."""
    caller.require(Permission.GOVERN)
    if refusal := refuse_text("reason", reason, longest=LONGEST_TEXT):
        return refusal
    moved = _move(tx, caller, id, Move.SUSPEND)
    if isinstance(moved, Refusal):
        return moved
    now = tx.now()
    tx.add(Suspension(delegation_id=moved.id, suspended_at=now))
    tx.facts.ended.add(moved.id)
    append(tx, [to_both(Event.SUSPENDED, moved, caller, now, {"reason": reason})])
    return moved


def resume(tx: Tx, caller: Caller, id: DelegationId) -> Delegation | Refusal:
    """Puts a suspended delegation into force again, with its bindings and tokens as they are."""
    caller.require(Permission.GOVERN)
    moved = _move(tx, caller, id, Move.RESUME)
    if isinstance(moved, Refusal):
        return moved
    now = tx.now()
    _open(tx, moved).resumed_at = now
    append(tx, [to_both(Event.RESUMED, moved, caller, now, {})])
    return moved


def _move(tx: Tx, caller: Caller, id: DelegationId, move: Move) -> Delegation | Refusal:
    does = f"{move.lower()}s a delegation"
    delegation = find_locked_as(tx, caller.tenant_id, id, Party.DELEGATOR, does)
    if isinstance(delegation, Refusal):
        return delegation
    status = status_at(delegation, tx.now())
    after = step(status, move, Party.DELEGATOR)
    if after is None:
        can, only = ("suspended", "ACTIVE") if move is Move.SUSPEND else ("resumed", "SUSPENDED")
        message = f"delegationId: the delegation is {status}: only one that is {only} can be {can}"
        return Refusal(Code.WRONG_STATE, message, ("delegationId",))
    delegation.status = after
    return delegation


def _open(tx: Tx, delegation: Delegation) -> Suspension:
    open_one = Suspension.delegation_id == delegation.id, Suspension.resumed_at.is_(None)
    return tx.scalars(select(Suspension).where(*open_one)).one()


def was_suspended(tx: Tx, id: DelegationId, at: Instant) -> bool:
    """Whether a delegation was suspended at an instant that is past."""
    rows = select(Suspension).where(Suspension.delegation_id == id, Suspension.suspended_at <= at)
    return any(row.resumed_at is None or row.resumed_at > at for row in tx.scalars(rows))
