"""Named broken variants of the lifecycle, each a way in which somebody could get it wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from app.delegations import amending, bindings, read, terms, trust
from app.proxy import admitting, evidence
from app.proxy.writes import Writes
from app.rules import admission, amendments, lifecycle
from app.rules.amendments import Amended
from app.rules.errors import Refusal
from app.rules.lifecycle import MOVES, REFUSES, Move, Party, Status
from app.rules.terms import Terms
from app.store.tables import ScopedToken

Patch = pytest.MonkeyPatch


def resume_forgets(patch: Patch) -> None:
    """It answers as if it had resumed, and leaves the delegation suspended."""
    patch.setitem(MOVES, (Status.SUSPENDED, Move.RESUME, Party.DELEGATOR), Status.SUSPENDED)


def suspended_admits(patch: Patch) -> None:
    """A suspension is recorded, and refuses nothing."""
    patch.delitem(REFUSES, Status.SUSPENDED)


def a_suspended_delegation_never_expires(patch: Patch) -> None:
    """The sweeper's rule forgets it."""
    real = lifecycle.standing

    def broken(status: Status, *instants: Any) -> Status:
        return status if status is Status.SUSPENDED else real(status, *instants)

    patch.setattr("app.delegations.read.standing", broken)


def expiry_is_ignored(patch: Patch) -> None:
    """What counts is what somebody has recorded."""
    patch.setattr(admission, "standing", lambda status, *_: status)


def a_lowered_cap_is_ignored(patch: Patch) -> None:
    """A window has room for as many as it ever had."""
    real, highest = admission._caps, dict[Any, int]()

    def broken(terms: Terms, route: Any, used: Any) -> Any:
        highest.update({kind: max(cap, highest.get(kind, 0)) for kind, cap in terms.caps})
        caps = tuple((kind, highest[kind]) for kind, _ in terms.caps)
        return real(replace(terms, caps=caps), route, used)

    patch.setattr(admission, "_caps", broken)


def trust_at_the_floor_is_enough(patch: Patch) -> None:
    """At least as high, where it has to be higher."""

    def broken(terms: Terms, score: int | None) -> bool:
        floor = terms.constraints.require_trust_score_above
        return floor is None or (score is not None and score >= floor)

    patch.setattr(Terms, "trusts", broken)


def unknown_trust_is_enough(patch: Patch) -> None:
    """Of whom nothing is known, nothing bad is known."""
    real = Terms.trusts
    patch.setattr(Terms, "trusts", lambda terms, score: score is None or real(terms, score))


def scopes_grow_without_consent(patch: Patch) -> None:
    """What is proposed is in force at once."""

    def broken(*given: Any) -> Any:
        amended = amendments.amend(*given)
        if isinstance(amended, Amended) and amended.proposed:
            return amended._replace(in_force=amended.proposed, proposed=None)
        return amended

    patch.setattr(amending, "amend", broken)


def any_hash_acknowledges(patch: Patch) -> None:
    """The delegate agrees to what is proposed now, whatever it has read: also to what was discarded meanwhile."""
    real = amending.acknowledge

    def broken(tx: Any, caller: Any, id: Any, expected_hash: str) -> Any:
        delegation = read.find_locked(tx, caller.tenant_id, id)
        proposed = None if isinstance(delegation, Refusal) else terms.proposal(tx, delegation)
        return real(tx, caller, id, proposed.hash if proposed else expected_hash)

    patch.setattr(amending, "acknowledge", broken)


def a_quota_is_told_twice(patch: Patch) -> None:
    """Nobody remembers that both ledgers were told."""
    real = evidence._seen

    def broken(*given: Any) -> Any:
        sight = real(*given)
        sight.exhausted.clear()
        return sight

    patch.setattr(evidence, "_seen", broken)


def a_full_window_is_told_only_when_it_refuses(patch: Patch) -> None:
    """The last admission that it had room for says nothing."""
    patch.setattr(admitting, "_tell_exhausted", lambda *_: None)


def nothing_is_given_back(patch: Patch) -> None:
    """A reservation is kept although no byte was sent."""
    patch.setattr(Writes, "give_back", lambda *_: None)


def a_cost_counts_as_one(patch: Patch) -> None:
    """The cap on costs counts actions."""
    patch.setattr(admission, "counts", lambda *_: 1)


def an_extended_expiry_forgets_the_tokens(patch: Patch) -> None:
    """They end when the terms did under which they were issued."""
    real = amending._enforce

    def broken(tx: Any, delegation: Any, terms: Any, now: Any) -> None:
        lives = {row: row.expires_at for row in tx.scalars(select(ScopedToken))}
        real(tx, delegation, terms, now)
        for row, expires_at in lives.items():
            row.expires_at = expires_at

    patch.setattr(amending, "_enforce", broken)


def a_rotation_leaves_the_old_token(patch: Patch) -> None:
    """Nothing is open that it could end."""
    patch.setattr(bindings, "open_at", lambda _: ScopedToken.id.is_(None))


def regained_trust_is_not_told(patch: Patch) -> None:
    """Only bad news travels."""
    real = trust._moved

    def broken(bound: Any, before: int | None, after: int, now: Any) -> Any:
        return real(bound, before, after, now) if not bound.evidence.terms.trusts(after) else None

    patch.setattr(trust, "_moved", broken)


#: Those first that are found soonest.
FAULTS: list[Callable[[Patch], None]] = [
    a_full_window_is_told_only_when_it_refuses,
    a_quota_is_told_twice,
    suspended_admits,
    resume_forgets,
    unknown_trust_is_enough,
    nothing_is_given_back,
    a_lowered_cap_is_ignored,
    expiry_is_ignored,
    scopes_grow_without_consent,
    any_hash_acknowledges,
    an_extended_expiry_forgets_the_tokens,
    a_rotation_leaves_the_old_token,
    trust_at_the_floor_is_enough,
    a_suspended_delegation_never_expires,
    a_cost_counts_as_one,
    regained_trust_is_not_told,
]
