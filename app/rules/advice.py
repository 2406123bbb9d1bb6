"""What would be good practice for a delegation, and is not so: the lint of a lender's terms."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from app.rules.ids import DAY, Instant
from app.rules.instants import rfc3339
from app.rules.terms import Constraints

LONG = 90 * DAY
UNUSED = 30 * DAY
REVIEW = 90 * DAY
TRUSTED = 70


class AdviceCode(StrEnum):
    """What is advised about. Clients must accept new ones."""

    EXPIRES_LATE = "EXPIRES_LATE"
    TRUST_FLOOR_LOW = "TRUST_FLOOR_LOW"
    NO_IP_ALLOWLIST = "NO_IP_ALLOWLIST"
    SCOPE_UNUSED = "SCOPE_UNUSED"
    REVIEW_OVERDUE = "REVIEW_OVERDUE"


class Advice(NamedTuple):
    """One finding."""

    code: AdviceCode
    message: str


class Practice(NamedTuple):
    """What is practised under a delegation that has not ended. `since`: accepted, or offered while it is not."""

    constraints: Constraints
    is_live: bool
    since: Instant
    accepted: bool
    #: When somebody last looked at its terms: accepted or amended them.
    reviewed_at: Instant
    #: From when each lent scope could be used, and when it was used last.
    lent_since: Mapping[str, Instant]
    used_at: Mapping[str, Instant]


def advise(practice: Practice, now: Instant) -> Iterator[Advice]:
    """All that there is to say."""
    yield from _terms(practice)
    if practice.accepted:
        yield from _unused(practice, now)
        if practice.reviewed_at <= now - REVIEW:
            reviewed = rfc3339(practice.reviewed_at)
            yield Advice(
                AdviceCode.REVIEW_OVERDUE,
                f"Nobody has looked at the terms since {reviewed}: review them every 90 days.",
            )


def _terms(practice: Practice) -> Iterator[Advice]:
    constraints = practice.constraints
    if constraints.expires_at > practice.since + LONG:
        yield Advice(
            AdviceCode.EXPIRES_LATE, "It lives for more than 90 days: let it end sooner, and renew it."
        )
    floor = constraints.require_trust_score_above
    if floor is None or floor < TRUSTED:
        told = "There is no trust floor" if floor is None else f"The trust floor is {floor}"
        yield Advice(AdviceCode.TRUST_FLOOR_LOW, f"{told}: set requireTrustScoreAbove to {TRUSTED} or more.")
    if practice.is_live and not constraints.ip_allowlist:
        yield Advice(
            AdviceCode.NO_IP_ALLOWLIST, "It is LIVE and open to every address: give it an ipAllowlist."
        )


def _unused(practice: Practice, now: Instant) -> Iterator[Advice]:
    for scope, since in sorted(practice.lent_since.items()):
        if max(since, practice.used_at.get(scope, since)) <= now - UNUSED:
            yield Advice(
                AdviceCode.SCOPE_UNUSED, f"{scope} has not been used for 30 days: take it out of the scopes."
            )
