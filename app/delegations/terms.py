"""The versions of a delegation's terms."""

from sqlalchemy import select

from app.rules.amendments import Agreed
from app.rules.ids import DelegationId, Instant
from app.rules.terms import stored, terms_hash
from app.store.engine import Tx
from app.store.tables import Delegation, TermsVersion


def terms_row(id: DelegationId, version: int, agreed: Agreed, now: Instant) -> TermsVersion:
    """A version of a delegation's terms, proposed until it is said to be in force."""
    return TermsVersion(
        delegation_id=id,
        version=version,
        scopes=agreed.scopes,
        constraints=stored(agreed.constraints),
        metadata_=agreed.metadata,
        hash=terms_hash(version, agreed.scopes, agreed.constraints, agreed.metadata),
        created_at=now,
    )


def proposal(tx: Tx, delegation: Delegation) -> TermsVersion | None:
    """The terms that wait for the delegate."""
    above = TermsVersion.version > delegation.terms_version
    return tx.scalars(
        select(TermsVersion).where(TermsVersion.delegation_id == delegation.id, above)
    ).one_or_none()
