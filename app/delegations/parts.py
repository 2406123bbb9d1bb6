"""What belongs to delegations: terms, bindings, tokens. Each for many at a time, and for a tenant that is a party."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Select, func, select

from app.delegations.read import agreed, in_force, party_to, visible_to
from app.delegations.standing import standings
from app.rules.ids import BindingId, DelegationId, TenantId, TokenId
from app.store.each import of_each
from app.store.engine import Tx
from app.store.tables import Binding, Delegation, ScopedToken, TermsVersion

K = TypeVar("K")
V = TypeVar("V")

TERMS_SHOWN = 40  # versions of one delegation: each may have 40 KB
TOKENS_SHOWN = 20  # of one binding: a rotation every day makes hundreds


def terms_in_force(tx: Tx, asking: TenantId, ids: Sequence[DelegationId]) -> dict[DelegationId, TermsVersion]:
    """The terms of each delegation."""
    rows = select(TermsVersion).join(Delegation, in_force()).where(Delegation.id.in_(ids), party_to(asking))
    return {row.delegation_id: row for row in tx.scalars(rows)}


def terms_proposed(tx: Tx, asking: TenantId, ids: Sequence[DelegationId]) -> dict[DelegationId, TermsVersion]:
    """The terms of each delegation that wait for its delegate."""
    rows = select(TermsVersion).join(Delegation).where(Delegation.id.in_(ids), party_to(asking))
    above = rows.where(TermsVersion.version > Delegation.terms_version)
    return {row.delegation_id: row for row in tx.scalars(above)}


def terms_history(
    tx: Tx, asking: TenantId, ids: Sequence[DelegationId]
) -> dict[DelegationId, list[TermsVersion]]:
    """The newest versions of each delegation's terms that have been in force, oldest first."""
    rows = select(TermsVersion).join(Delegation, agreed()).where(Delegation.id.in_(ids), party_to(asking))
    newest = rows.where(TermsVersion.version > Delegation.terms_version - TERMS_SHOWN)
    every = tx.scalars(newest.order_by(TermsVersion.version))
    return _grouped(ids, ((row.delegation_id, row) for row in every))


def bindings(tx: Tx, asking: TenantId, ids: Sequence[BindingId]) -> dict[BindingId, Binding]:
    """Bindings of delegations that the asking tenant can see."""
    rows = select(Binding).join(Delegation).where(Binding.id.in_(ids), visible_to(asking))
    return {row.id: row for row in tx.scalars(rows)}


def trusted(tx: Tx, asking: TenantId, ids: Sequence[BindingId]) -> dict[BindingId, bool]:
    """Whether the acting agent of each binding has the trust that the terms require."""
    stands = standings(tx, Binding.id.in_(ids), visible_to(asking)).values()
    return {each.binding.id: each.evidence.terms.trusts(each.evidence.trust_score) for each in stands}


def bindings_of(
    tx: Tx, asking: TenantId, ids: Sequence[DelegationId], limit: int, after: BindingId | None
) -> dict[DelegationId, list[Binding]]:
    """At most `limit` bindings of each delegation after one of them, oldest first."""
    seen = select(Delegation.id).where(Delegation.id.in_(ids), visible_to(asking))
    rows = of_each(
        tx, seen, Binding.delegation_id, Binding.id, limit, where=lambda child: [child.id > (after or "")]
    )
    return _grouped(ids, ((row.delegation_id, row) for row in rows))


def bindings_counted(tx: Tx, asking: TenantId, ids: Sequence[DelegationId]) -> dict[DelegationId, int]:
    """How many bindings each delegation has."""
    counts = select(Binding.delegation_id, func.count()).join(Delegation)
    rows = counts.where(Delegation.id.in_(ids), visible_to(asking)).group_by(Binding.delegation_id)
    return {**dict.fromkeys(ids, 0), **dict(tx.execute(rows).all())}


def tokens(tx: Tx, asking: TenantId, ids: Sequence[TokenId]) -> dict[TokenId, tuple[ScopedToken, Binding]]:
    """Tokens of the asking tenant, each with its binding."""
    rows = _with_binding(asking).where(ScopedToken.id.in_(ids))
    return {token.id: (token, binding) for token, binding in tx.execute(rows)}


def tokens_of(tx: Tx, asking: TenantId, ids: Sequence[BindingId]) -> dict[BindingId, list[ScopedToken]]:
    """The newest tokens of each binding, oldest first; none where the asking tenant is not the delegate."""
    mine = select(Binding.id).join(Delegation).where(Binding.id.in_(ids), Delegation.delegate_id == asking)
    newest = of_each(tx, mine, ScopedToken.binding_id, ScopedToken.id, TOKENS_SHOWN, backward=True)
    return _grouped(ids, ((row.binding_id, row) for row in reversed(newest)))


def _with_binding(asking: TenantId) -> Select[ScopedToken, Binding]:
    rows = select(ScopedToken, Binding).join(Binding).join(Delegation)
    return rows.where(Delegation.delegate_id == asking)


def _grouped(keys: Iterable[K], found: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    groups: dict[K, list[V]] = {key: [] for key in keys}
    for key, value in found:
        groups[key].append(value)
    return groups
