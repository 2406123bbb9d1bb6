"""The states of a delegation: the table is complete, and the clock moves whether or not anybody records it."""

from itertools import product

import pytest

from app.rules.errors import Code
from app.rules.ids import Instant
from app.rules.lifecycle import ENDED, MOVES, REFUSES, Move, Party, Status, standing, step

#: Every move that there is. Each other (status, move, party) is refused.
TABLE = """
    PENDING    ACCEPT   DELEGATE   ACTIVE
    PENDING    DECLINE  DELEGATE   DECLINED
    PENDING    REVOKE   DELEGATOR  REVOKED
    PENDING    LAPSE    SYSTEM     LAPSED
    ACTIVE     SUSPEND  DELEGATOR  SUSPENDED
    ACTIVE     REVOKE   DELEGATOR  REVOKED
    ACTIVE     REVOKE   DELEGATE   REVOKED
    ACTIVE     EXPIRE   SYSTEM     EXPIRED
    SUSPENDED  RESUME   DELEGATOR  ACTIVE
    SUSPENDED  REVOKE   DELEGATOR  REVOKED
    SUSPENDED  REVOKE   DELEGATE   REVOKED
    SUSPENDED  EXPIRE   SYSTEM     EXPIRED
"""
ALLOWED = {
    (before, move, party): after for before, move, party, after in map(str.split, TABLE.split("\n")[1:-1])
}

BEFORE, AT, AFTER = Instant(99), Instant(100), Instant(101)
NEVER = Instant(1_000)


@pytest.mark.parametrize(("status", "move", "party"), list(product(Status, Move, Party)))
def test_every_move_by_every_party_in_every_state_is_in_the_table_or_refused(
    status: Status, move: Move, party: Party
) -> None:
    assert step(status, move, party) == ALLOWED.get((status, move, party))


@pytest.mark.parametrize("status", sorted(ENDED))
def test_nothing_leaves_a_state_that_has_ended(status: Status) -> None:
    assert not [move for (before, move, _) in MOVES if before is status]


def test_each_move_ends_somewhere_else_and_each_state_but_the_first_and_the_coming_ones_is_reached() -> None:
    assert all(before is not after for (before, _, _), after in MOVES.items())
    coming = {Status.VALIDATING, Status.VALIDATION_FAILED}
    assert {*MOVES.values()} == {*Status} - coming - {Status.PENDING}


def test_only_the_delegate_takes_an_offer_and_only_the_clock_lets_it_lapse() -> None:
    by = {move: {party for (_, each, party) in MOVES if each is move} for move in Move}
    assert by[Move.ACCEPT] == by[Move.DECLINE] == {Party.DELEGATE}
    assert by[Move.LAPSE] == by[Move.EXPIRE] == {Party.SYSTEM}


def test_only_the_delegator_suspends_and_resumes() -> None:
    moves = {move: (party, before, after) for (before, move, party), after in MOVES.items()}
    assert moves[Move.SUSPEND] == (Party.DELEGATOR, Status.ACTIVE, Status.SUSPENDED)
    assert moves[Move.RESUME] == (Party.DELEGATOR, Status.SUSPENDED, Status.ACTIVE)


@pytest.mark.parametrize("status", Status)
def test_every_state_but_active_refuses_a_dispatch_with_a_code(status: Status) -> None:
    assert (REFUSES.get(status) is None) == (status is Status.ACTIVE)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.PENDING, Code.DELEGATION_PENDING),
        (Status.SUSPENDED, Code.DELEGATION_SUSPENDED),
        (Status.DECLINED, Code.DELEGATION_REVOKED),
        (Status.REVOKED, Code.DELEGATION_REVOKED),
        (Status.LAPSED, Code.DELEGATION_EXPIRED),
        (Status.EXPIRED, Code.DELEGATION_EXPIRED),
    ],
)
def test_a_caller_learns_how_the_delegation_ended(status: Status, code: Code) -> None:
    assert REFUSES[status] is code


@pytest.mark.parametrize(
    ("status", "offer_expires_at", "expires_at", "now", "stands"),
    [
        # an offer lapses at its own end, or at the end of what it offers, whichever is first
        (Status.PENDING, AT, NEVER, BEFORE, Status.PENDING),
        (Status.PENDING, AT, NEVER, AT, Status.LAPSED),
        (Status.PENDING, NEVER, AT, BEFORE, Status.PENDING),
        (Status.PENDING, NEVER, AT, AT, Status.LAPSED),
        # what was taken up no longer cares for the offer's end
        (Status.ACTIVE, AT, NEVER, AFTER, Status.ACTIVE),
        (Status.ACTIVE, AT, AT, BEFORE, Status.ACTIVE),
        (Status.ACTIVE, AT, AT, AT, Status.EXPIRED),
        (Status.SUSPENDED, AT, AT, AFTER, Status.EXPIRED),
        (Status.VALIDATING, AT, AT, AFTER, Status.EXPIRED),
    ],
)
def test_the_clock_moves_a_delegation_at_the_instant_that_its_terms_name(
    status: Status, offer_expires_at: Instant, expires_at: Instant, now: Instant, stands: Status
) -> None:
    assert standing(status, offer_expires_at, expires_at, now) is stands


@pytest.mark.parametrize("status", sorted(ENDED))
def test_what_has_ended_stays_as_it_ended(status: Status) -> None:
    assert standing(status, AT, AT, AFTER) is status
