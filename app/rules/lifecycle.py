"""Everything about a delegation's state lives in this file: the states, the moves, and who may make them."""

from enum import StrEnum

from app.rules.errors import Code
from app.rules.ids import Instant


class Status(StrEnum):
    """Where a delegation stands. Only ACTIVE admits a dispatch."""

    PENDING = "PENDING"
    VALIDATING = "VALIDATING"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    DECLINED = "DECLINED"
    LAPSED = "LAPSED"
    VALIDATION_FAILED = "VALIDATION_FAILED"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"


class Move(StrEnum):
    """What can be done to a delegation."""

    ACCEPT = "ACCEPT"
    DECLINE = "DECLINE"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    REVOKE = "REVOKE"
    LAPSE = "LAPSE"
    EXPIRE = "EXPIRE"


class Party(StrEnum):
    """Who makes a move. SYSTEM is the clock."""

    DELEGATOR = "DELEGATOR"
    DELEGATE = "DELEGATE"
    PLATFORM = "PLATFORM"
    SYSTEM = "SYSTEM"


MOVES: dict[tuple[Status, Move, Party], Status] = {
    (Status.PENDING, Move.ACCEPT, Party.DELEGATE): Status.ACTIVE,
    (Status.PENDING, Move.DECLINE, Party.DELEGATE): Status.DECLINED,
    (Status.PENDING, Move.REVOKE, Party.DELEGATOR): Status.REVOKED,
    (Status.PENDING, Move.LAPSE, Party.SYSTEM): Status.LAPSED,
    (Status.ACTIVE, Move.SUSPEND, Party.DELEGATOR): Status.SUSPENDED,
    (Status.ACTIVE, Move.REVOKE, Party.DELEGATOR): Status.REVOKED,
    (Status.ACTIVE, Move.REVOKE, Party.DELEGATE): Status.REVOKED,
    (Status.ACTIVE, Move.EXPIRE, Party.SYSTEM): Status.EXPIRED,
    (Status.SUSPENDED, Move.RESUME, Party.DELEGATOR): Status.ACTIVE,
    (Status.SUSPENDED, Move.REVOKE, Party.DELEGATOR): Status.REVOKED,
    (Status.SUSPENDED, Move.REVOKE, Party.DELEGATE): Status.REVOKED,
    (Status.SUSPENDED, Move.EXPIRE, Party.SYSTEM): Status.EXPIRED,
}

#: States that no move leaves. A plan counts every delegation outside them.
ENDED = frozenset({Status.DECLINED, Status.LAPSED, Status.VALIDATION_FAILED, Status.REVOKED, Status.EXPIRED})

#: Why a dispatch under a delegation that is not ACTIVE is refused, or its answer withheld.
REFUSES: dict[Status, Code] = {
    Status.PENDING: Code.DELEGATION_PENDING,
    Status.VALIDATING: Code.DELEGATION_PENDING,
    Status.SUSPENDED: Code.DELEGATION_SUSPENDED,
    Status.DECLINED: Code.DELEGATION_REVOKED,
    Status.LAPSED: Code.DELEGATION_EXPIRED,
    Status.VALIDATION_FAILED: Code.DELEGATION_REVOKED,
    Status.REVOKED: Code.DELEGATION_REVOKED,
    Status.EXPIRED: Code.DELEGATION_EXPIRED,
}


def step(status: Status, move: Move, party: Party) -> Status | None:
    """The state after `move`, or None where the table has no such move."""
    return MOVES.get((status, move, party))


def standing(status: Status, offer_expires_at: Instant, expires_at: Instant, now: Instant) -> Status:
    """The state by the clock: an offer lapses and a delegation expires whether or not anybody recorded it."""
    if status is Status.PENDING and (offer_expires_at <= now or expires_at <= now):
        return Status.LAPSED
    if status in (Status.ACTIVE, Status.SUSPENDED, Status.VALIDATING) and expires_at <= now:
        return Status.EXPIRED
    return status
