"""When a delivery is tried again, and when it is given up.

A schedule is a delay in seconds before each attempt: the first after the event, each other after the attempt before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.rules.ids import SECOND, Instant

#: At once, then for about four days (Standard Webhooks, "Deliverability and reliability").
SCHEDULE = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
MOST_ATTEMPTS = 100
LONGEST_DELAY = 30 * 86400.0  # seconds

#: How much longer a delay may get, so that what failed together does not come back together.
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receiver answered with 2xx."""

    status: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The receiver answered with 410: it wants nothing more."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Anything else: another status, a redirect too, or none. `error` says what, for people."""

    status: int | None
    error: str


Result = Accepted | Gone | Failed


@dataclass(frozen=True, slots=True)
class Delivered:
    """It has arrived."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """It is tried again then."""

    at: Instant


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It is not tried again, and its endpoint is disabled for this reason."""

    reason: str


Verdict = Delivered | RetryAt | GiveUp


def judged(
    result: Result, failures: int, schedule: Sequence[float], ended: Instant, jitter: float
) -> Verdict:
    """What follows from an attempt that ended then, after so many `failures`. `jitter` is random, 0 to 1."""
    match result:
        case Accepted():
            return Delivered()
        case Gone():
            return GiveUp("it answered 410 Gone")
        case Failed(_, error):
            if failures + 1 >= len(schedule):
                return GiveUp(f"{failures + 1} attempts failed; the last: {error}")
            return RetryAt(due(ended, schedule[failures + 1], jitter))


def due(since: Instant, delay: float, jitter: float) -> Instant:
    """`delay` seconds later, or up to a tenth more."""
    return Instant(since + int(delay * (1 + _JITTER * jitter) * SECOND))
