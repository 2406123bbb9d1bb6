"""Which delegations a tenant can see, and in what state they are by the clock."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    Text,
    and_,
    exists,
    func,
    or_,
    select,
    type_coerce,
)

from app.delegations.facts import party
from app.rules.errors import Code, Refusal
from app.rules.ids import BindingId, DelegationId, Instant, TenantId
from app.rules.lifecycle import Party, Status, standing
from app.store.engine import Tx
from app.store.tables import Binding, Delegation, TermsVersion


def visible_to(tenant_id: TenantId) -> ColumnElement[bool]:
    """The delegator sees all of its own; the delegate sees a TOKEN offer only once it has used the token."""
    return or_(sees_as(Party.DELEGATOR, tenant_id), sees_as(Party.DELEGATE, tenant_id))


def sees_as(side: Party, tenant_id: TenantId) -> ColumnElement[bool]:
    """The same of one side."""
    if side is Party.DELEGATOR:
        return Delegation.delegator_id == tenant_id
    known = or_(
        Delegation.acceptance == "ADDRESSED",
        Delegation.accepted_at.is_not(None),
        Delegation.ended_by == Party.DELEGATE,
    )
    return and_(Delegation.delegate_id == tenant_id, known)


def party_to(tenant_id: TenantId) -> ColumnElement[bool]:
    """Either side, also of an offer that the delegate has only seen by its token: for what belongs to a delegation
    that was found already.
    """
    return or_(Delegation.delegator_id == tenant_id, Delegation.delegate_id == tenant_id)


def holds(scopes: SQLColumnExpression[Any], scope: SQLColumnExpression[str]) -> ColumnElement[bool]:
    """Whether a stored list of scopes has this one: they are JSON text, and a scope has nothing to escape."""
    text = type_coerce(scopes, Text)
    return func.replace(text, '"' + scope + '"', "") != text


def terms_hold(scope: SQLColumnExpression[str]) -> ColumnElement[bool]:
    """Whether the terms in force of a delegation have this scope."""
    return exists().where(in_force(), holds(TermsVersion.scopes, scope)).correlate_except(TermsVersion)


def in_force() -> ColumnElement[bool]:
    """Which version of a delegation's terms."""
    return and_(TermsVersion.delegation_id == Delegation.id, TermsVersion.version == Delegation.terms_version)


def agreed() -> ColumnElement[bool]:
    """Which versions of a delegation's terms are, or were, in force."""
    return and_(TermsVersion.delegation_id == Delegation.id, TermsVersion.version <= Delegation.terms_version)


def in_force_since(terms: TermsVersion) -> Instant:
    """From when terms that were agreed on were in force; a release before proposals said no more than when they were
    made.
    """
    return terms.in_force_at or terms.created_at


def delegations(tx: Tx, asking: TenantId, ids: Sequence[DelegationId]) -> dict[DelegationId, Delegation]:
    """Delegations that the asking tenant can see."""
    rows = select(Delegation).where(Delegation.id.in_(ids), visible_to(asking))
    return {row.id: row for row in tx.scalars(rows)}


def find(tx: Tx, tenant_id: TenantId, id: DelegationId) -> Delegation | None:
    """A delegation that the tenant can see."""
    return tx.scalars(select(Delegation).where(Delegation.id == id, visible_to(tenant_id))).one_or_none()


def find_locked(tx: Tx, tenant_id: TenantId, id: DelegationId) -> Delegation | Refusal:
    """The same, locked first and read afterwards; or that there is none."""
    if _lock_seen(tx, select(Delegation.id).where(Delegation.id == id, visible_to(tenant_id))):
        delegation = find(tx, tenant_id, id)
        if delegation is not None:
            return delegation
    return Refusal(Code.NOT_FOUND, "delegationId names no delegation that you can see", ("delegationId",))


def find_locked_as(
    tx: Tx, tenant_id: TenantId, id: DelegationId, side: Party, does: str
) -> Delegation | Refusal:
    """The same for one side alone. `does` says what of, as in "amends a delegation"."""
    delegation = find_locked(tx, tenant_id, id)
    if isinstance(delegation, Refusal):
        return delegation
    if party(delegation, tenant_id) is not side:
        return Refusal(Code.WRONG_STATE, f"delegationId: only the {side.lower()} {does}", ("delegationId",))
    return delegation


def find_binding_locked(
    tx: Tx, id: BindingId, whose: ColumnElement[bool]
) -> tuple[Binding, Delegation] | None:
    """A binding, with its delegation locked, where that is one of these: see `visible_to`."""
    seen = select(Binding.delegation_id).join(Delegation).where(Binding.id == id, whose)
    if not _lock_seen(tx, seen):
        return None
    both = select(Binding, Delegation).join(Delegation).where(Binding.id == id, whose)
    binding, delegation = tx.execute(both).one()
    return binding, delegation


def _lock_seen(tx: Tx, seen: Select[DelegationId]) -> bool:
    # A lock on a row is a write, and takes longer than none: another tenant's row has to cost what no row costs, and
    # waits for nobody (promise 7). What is seen before the lock chooses the row and decides nothing.
    found = tx.scalars(seen).one_or_none()
    tx.lock([found] if found else [])
    return found is not None


def status_at(delegation: Delegation, now: Instant) -> Status:
    """The state by the clock."""
    return standing(delegation.status, delegation.offer_expires_at, delegation.expires_at, now)
