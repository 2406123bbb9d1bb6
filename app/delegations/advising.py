"""Advice on delegations, from their terms and from what has been used under them."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from app.delegations.read import agreed, in_force_since, party_to, status_at
from app.rules.advice import Advice, Practice, advise
from app.rules.ids import DelegationId, Instant, TenantId
from app.rules.lifecycle import ENDED
from app.rules.terms import from_stored
from app.store.engine import Tx
from app.store.tables import Delegation, ScopeUse, TermsVersion

#: When a scope of a delegation was last used.
Uses = Mapping[tuple[DelegationId, str], Instant]


def advice_on(tx: Tx, asking: TenantId, ids: Sequence[DelegationId]) -> dict[DelegationId, list[Advice]]:
    """What is advised on each delegation; nothing once it has ended."""
    rows = (
        select(Delegation, TermsVersion)
        .join(TermsVersion, agreed())
        .where(Delegation.id.in_(ids), party_to(asking))
        .order_by(TermsVersion.version)
    )
    versions: dict[DelegationId, list[TermsVersion]] = {}
    delegations: dict[DelegationId, Delegation] = {}
    for delegation, terms in tx.execute(rows):
        delegations[delegation.id] = delegation
        versions.setdefault(delegation.id, []).append(terms)
    uses: dict[DelegationId, dict[str, Instant]] = {}
    for use in tx.scalars(select(ScopeUse).where(ScopeUse.delegation_id.in_(versions))):
        uses.setdefault(use.delegation_id, {})[use.scope] = use.last_used_at
    now = tx.now()
    return {
        id: list(advise(_practice(delegation, versions[id], uses.get(id, {})), now))
        if status_at(delegation, now) not in ENDED
        else []
        for id, delegation in delegations.items()
    }


def _practice(
    delegation: Delegation, versions: Sequence[TermsVersion], used_at: Mapping[str, Instant]
) -> Practice:
    current = versions[-1]
    since = delegation.accepted_at or delegation.offered_at
    return Practice(
        from_stored(current.constraints),
        delegation.environment == "LIVE",
        since,
        delegation.accepted_at is not None,
        max(since, in_force_since(current)),
        {scope: max(since, _lent_since(versions, scope)) for scope in current.scopes},
        used_at,
    )


def _lent_since(versions: Sequence[TermsVersion], scope: str) -> Instant:
    """From when on every version has had a scope that the last one has."""
    since = in_force_since(versions[-1])
    for version in reversed(versions):
        if scope not in version.scopes:
            break
        since = in_force_since(version)
    return since


def note_uses(tx: Tx, uses: Uses) -> None:
    """Records when scopes were last used. Late by some seconds: a write per dispatch would be too dear."""
    insert = sqlite_insert if tx.get_bind().dialect.name == "sqlite" else postgres_insert
    for (delegation_id, scope), at in sorted(uses.items()):
        made = insert(ScopeUse).values(delegation_id=delegation_id, scope=scope, last_used_at=at)
        tx.execute(
            made.on_conflict_do_update(
                index_elements=[ScopeUse.delegation_id, ScopeUse.scope], set_={"last_used_at": at}
            )
        )
