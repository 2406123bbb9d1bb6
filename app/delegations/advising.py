"""Advice on delegations, from their terms and from what has been used under them."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from app.delegations.read import in_force, in_force_since, party_to, status_at
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
    rows = select(Delegation, TermsVersion).join(TermsVersion, in_force())
    found = tx.execute(rows.where(Delegation.id.in_(ids), party_to(asking))).all()
    uses: dict[DelegationId, dict[str, Instant]] = {}
    for use in tx.scalars(select(ScopeUse).where(ScopeUse.delegation_id.in_(ids))):
        uses.setdefault(use.delegation_id, {})[use.scope] = use.last_used_at
    now = tx.now()
    return {
        row.id: list(advise(_practice(row, terms, uses.get(row.id, {})), now))
        if status_at(row, now) not in ENDED
        else []
        for row, terms in found
    }


def _practice(delegation: Delegation, terms: TermsVersion, used_at: Mapping[str, Instant]) -> Practice:
    since = delegation.accepted_at or delegation.offered_at
    return Practice(
        from_stored(terms.constraints),
        delegation.environment == "LIVE",
        since,
        delegation.accepted_at is not None,
        max(since, in_force_since(terms)),
        dict.fromkeys(terms.scopes, since),
        used_at,
    )


def note_uses(tx: Tx, uses: Uses) -> None:
    """Records when scopes were last used, or lent: late by some seconds where a write per dispatch would be too dear."""
    for (delegation_id, scope), at in sorted(uses.items()):
        made = tx.inserting(ScopeUse).values(delegation_id=delegation_id, scope=scope, last_used_at=at)
        tx.execute(
            made.on_conflict_do_update(
                index_elements=[ScopeUse.delegation_id, ScopeUse.scope], set_={"last_used_at": at}
            )
        )
