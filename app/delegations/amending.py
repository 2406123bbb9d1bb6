"""Amending a delegation while it lives: immutable terms, one version after the other, in force at their commit.

The terms above the version in force are a proposal: they wait for the delegate, and the next amendment takes them away.
"""

from dataclasses import dataclass

from sqlalchemy import func, select, update

from app.delegations.advising import note_uses
from app.delegations.bindings import TOKEN_LIVES, open_at
from app.delegations.facts import to_both
from app.delegations.read import find_locked_as, status_at
from app.delegations.terms import proposal, terms_row
from app.identity.callers import Caller
from app.ledger.append import append
from app.rules.amendments import Agreed, Amended, Changes, amend
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import DelegationId, Instant
from app.rules.lifecycle import Party, Status
from app.rules.permissions import Permission
from app.rules.terms import from_stored
from app.rules.texts import LONGEST_TEXT, refuse_text
from app.store.engine import Tx
from app.store.tables import Agent, Binding, Delegation, ScopedToken, TermsVersion

#: What has not ended can be amended; an offer is a paper that is not signed yet.
_AMENDABLE = (Status.ACTIVE, Status.SUSPENDED)
#: Versions of one delegation: each is kept, and may have 40 KB.
MOST_VERSIONS = 1_000


@dataclass(frozen=True, slots=True)
class Amendment:
    """What is to be amended. `expected_version` is that of the terms in force, as their reader saw them."""

    delegation_id: DelegationId
    expected_version: int
    changes: Changes
    reason: str | None = None


def amend_delegation(tx: Tx, caller: Caller, asked: Amendment) -> Delegation | Refusal:
    """New terms, in force at the commit of this transaction, and perhaps a proposal beside them."""
    caller.require(Permission.GOVERN)
    if asked.reason is not None and (refusal := refuse_text("reason", asked.reason, longest=LONGEST_TEXT)):
        return refusal
    delegation = _find(tx, caller, asked.delegation_id, Party.DELEGATOR, "amends a delegation")
    if isinstance(delegation, Refusal):
        return delegation
    if refusal := _refuse_version(delegation, asked.expected_version):
        return refusal
    now = tx.now()
    current = tx.get_one(TermsVersion, (delegation.id, delegation.terms_version))
    held = tx.get_one(Agent, delegation.agent_id, populate_existing=True).scopes
    amended = amend(_agreed(current), held, asked.changes, now)
    if isinstance(amended, Refusal):
        return amended
    discarded = proposal(tx, delegation)
    if amended.in_force is None and amended.proposed is None and discarded is None:
        return Refusal(Code.INVALID, "the amendment changes nothing: give a field that is to change")
    if discarded is not None:
        tx.delete(discarded)
        tx.flush()  # before another version takes its number
    made = _versions(tx, delegation, current, amended, now)
    tx.facts.ended.add(delegation.id)
    details = {
        "changed": amended.changed,
        "reason": asked.reason,
        "discardedHash": discarded.hash if discarded else None,
        **made,
    }
    append(tx, [to_both(Event.AMENDED, delegation, caller, now, details)])
    return delegation


def acknowledge(tx: Tx, caller: Caller, id: DelegationId, expected_hash: str) -> Delegation | Refusal:
    """The delegate's consent to proposed terms, which are in force from its commit on. A repeat changes nothing."""
    caller.require(Permission.ACCEPT)
    delegation = _find(tx, caller, id, Party.DELEGATE, "acknowledges terms")
    if isinstance(delegation, Refusal):
        return delegation
    current = tx.get_one(TermsVersion, (delegation.id, delegation.terms_version))
    proposed = proposal(tx, delegation)
    if proposed is None and current.hash == expected_hash:
        return delegation
    if proposed is None or proposed.hash != expected_hash:
        message = (
            "termsHash is not the hash of proposed terms: read proposedTerms again before you acknowledge"
        )
        return Refusal(Code.TERMS_CHANGED, message, ("termsHash",))
    now = tx.now()
    _enforce(tx, delegation, proposed, now)
    # Whoever asks whether a scope is used waits for it from here on.
    note_uses(tx, {(delegation.id, scope): now for scope in set(proposed.scopes) - set(current.scopes)})
    details = {"termsVersion": proposed.version, "termsHash": proposed.hash, "scopes": proposed.scopes}
    append(tx, [to_both(Event.TERMS_ACKNOWLEDGED, delegation, caller, now, details)])
    return delegation


def _find(tx: Tx, caller: Caller, id: DelegationId, side: Party, does: str) -> Delegation | Refusal:
    delegation = find_locked_as(tx, caller.tenant_id, id, side, does)
    if isinstance(delegation, Refusal) or (status := status_at(delegation, tx.now())) in _AMENDABLE:
        return delegation
    message = (
        f"delegationId: the delegation is {status}: only one that is ACTIVE or SUSPENDED has terms to amend"
    )
    return Refusal(Code.WRONG_STATE, message, ("delegationId",))


def _refuse_version(delegation: Delegation, expected: int) -> Refusal | None:
    current = delegation.terms_version
    if expected != current:
        message = (
            f"expectedVersion is {expected}, but the terms in force have version {current}: "
            "read them again, and amend those"
        )
        return Refusal(Code.VERSION_CONFLICT, message, ("expectedVersion",))
    if current >= MOST_VERSIONS:
        message = f"the delegation's terms have been amended {MOST_VERSIONS} times: make a new offer"
        return Refusal(Code.LIMIT_REACHED, message)
    return None


def _agreed(row: TermsVersion) -> Agreed:
    return Agreed(row.scopes, from_stored(row.constraints), row.metadata_)


def _versions(
    tx: Tx, delegation: Delegation, current: TermsVersion, amended: Amended, now: Instant
) -> dict[str, object]:
    """Writes the new versions; what is said of them in the ledgers."""
    in_force, proposed = current, None
    if amended.in_force is not None:
        in_force = terms_row(delegation.id, current.version + 1, amended.in_force, now)
        tx.add(in_force)
        _enforce(tx, delegation, in_force, now)
    if amended.proposed is not None:
        proposed = terms_row(delegation.id, in_force.version + 1, amended.proposed, now)
        tx.add(proposed)
    return {
        "termsVersion": in_force.version,
        "termsHash": in_force.hash,
        "scopes": in_force.scopes,
        "proposedVersion": proposed.version if proposed else None,
        "proposedHash": proposed.hash if proposed else None,
        "proposedScopes": proposed.scopes if proposed else None,
    }


def _enforce(tx: Tx, delegation: Delegation, terms: TermsVersion, now: Instant) -> None:
    terms.in_force_at = now
    delegation.terms_version = terms.version
    delegation.expires_at = from_stored(terms.constraints).expires_at
    # A token lives as long as it may, and never past its delegation: when that moves, its tokens need not be rotated.
    bindings = select(Binding.id).where(Binding.delegation_id == delegation.id, Binding.revoked_at.is_(None))
    ends = func.min if tx.on_sqlite else func.least
    replaced = func.coalesce(ScopedToken.rotated_at, delegation.expires_at)
    lives = ends(ScopedToken.created_at + TOKEN_LIVES, delegation.expires_at, replaced)
    living = update(ScopedToken).where(ScopedToken.binding_id.in_(bindings), open_at(now))
    tx.execute(living.values(expires_at=lives))
