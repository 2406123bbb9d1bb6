"""Advice on a delegation: each finding begins and ends where its practice does."""

from dataclasses import replace
from typing import Any

import pytest

from app.rules.advice import LONG, REVIEW, TRUSTED, UNUSED, Advice, AdviceCode, Practice, advise
from app.rules.ids import DAY, Instant
from app.rules.terms import Constraints

NOW = Instant(1_000 * DAY)
ACCEPTED = Instant(NOW - DAY)
GOOD = Constraints(Instant(NOW + DAY), ip_allowlist=("192.0.2.0/24",), require_trust_score_above=TRUSTED)


def practice(**given: Any) -> Practice:
    """What there is nothing to say about, but for what is given; limits are those of Constraints."""
    limits = {name: given.pop(name) for name in [*given] if name not in Practice._fields}
    return Practice(
        **{
            "constraints": replace(GOOD, **limits),
            "is_live": True,
            "since": ACCEPTED,
            "accepted": True,
            "reviewed_at": ACCEPTED,
            "lent_since": {"a:read": ACCEPTED, "b:read": ACCEPTED},
            "used_at": {},
            **given,
        }
    )


def said(**given: Any) -> list[AdviceCode]:
    """The codes of what is advised."""
    return [advice.code for advice in advise(practice(**given), NOW)]


def only(**given: Any) -> Advice:
    """The one thing that there is to say."""
    (advice,) = advise(practice(**given), NOW)
    return advice


def test_where_all_is_good_practice_there_is_nothing_to_say() -> None:
    assert said() == []


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize(
    ("expires_at", "late"), [(ACCEPTED + 1, False), (ACCEPTED + LONG, False), (ACCEPTED + LONG + 1, True)]
)
def test_a_delegation_lives_for_ninety_days_from_its_acceptance_or_offer(
    expires_at: int, accepted: bool, late: bool
) -> None:
    assert said(expires_at=expires_at, accepted=accepted) == ([AdviceCode.EXPIRES_LATE] if late else [])


@pytest.mark.parametrize(
    ("floor", "low"), [(None, True), (0, True), (TRUSTED - 1, True), (TRUSTED, False), (99, False)]
)
def test_a_trust_floor_is_seventy_or_more(floor: int | None, low: bool) -> None:
    assert said(require_trust_score_above=floor) == ([AdviceCode.TRUST_FLOOR_LOW] if low else [])


def test_a_floor_that_is_low_is_told_from_none() -> None:
    assert "is 69" in only(require_trust_score_above=69).message
    assert "no trust floor" in only(require_trust_score_above=None).message


@pytest.mark.parametrize(
    ("is_live", "networks", "advised"),
    [
        (True, (), True),
        (True, ("0.0.0.0/0",), False),
        (False, (), False),
        (False, ("192.0.2.0/24",), False),
    ],
)
def test_what_is_live_is_not_open_to_every_address(
    is_live: bool, networks: tuple[str, ...], advised: bool
) -> None:
    codes = said(is_live=is_live, ip_allowlist=networks)
    assert codes == ([AdviceCode.NO_IP_ALLOWLIST] if advised else [])


LONG_AGO = Instant(NOW - UNUSED)
JUST_NOT = Instant(LONG_AGO + 1)


@pytest.mark.parametrize(
    ("lent_since", "used_at", "unused"),
    [
        # never used
        (LONG_AGO, None, True),
        (JUST_NOT, None, False),
        # used before thirty days and within
        (LONG_AGO, LONG_AGO, True),
        (LONG_AGO - DAY, LONG_AGO, True),
        (LONG_AGO - DAY, JUST_NOT, False),
        (LONG_AGO, NOW, False),
        # taken out and lent again: what it was used for before does not count, nor does that it was not
        (LONG_AGO, LONG_AGO - DAY, True),
        (JUST_NOT, LONG_AGO - DAY, False),
    ],
)
def test_a_scope_is_used_within_thirty_days_or_taken_out(
    lent_since: Instant, used_at: Instant | None, unused: bool
) -> None:
    used = {} if used_at is None else {"a:read": used_at}
    codes = said(lent_since={"a:read": lent_since}, used_at=used)
    assert codes == ([AdviceCode.SCOPE_UNUSED] if unused else [])


def test_each_unused_scope_is_named_in_order() -> None:
    lent = {"c:read": LONG_AGO, "a:read": LONG_AGO, "b:read": NOW}
    advised = list(advise(practice(lent_since=lent), NOW))
    assert [advice.message.partition(" ")[0] for advice in advised] == ["a:read", "c:read"]


def test_what_is_used_but_not_lent_any_more_says_nothing() -> None:
    assert said(lent_since={}, used_at={"a:read": LONG_AGO}) == []


@pytest.mark.parametrize(
    ("reviewed_at", "overdue"), [(NOW, False), (NOW - REVIEW + 1, False), (NOW - REVIEW, True)]
)
def test_terms_are_looked_at_every_ninety_days(reviewed_at: int, overdue: bool) -> None:
    assert said(reviewed_at=reviewed_at) == ([AdviceCode.REVIEW_OVERDUE] if overdue else [])


def test_a_review_that_is_overdue_says_since_when() -> None:
    assert "since 1972-06-29T00:00:00.000000Z" in only(reviewed_at=NOW - REVIEW).message


def test_of_an_offer_that_is_not_accepted_nobody_expects_use_or_review() -> None:
    assert said(accepted=False, lent_since={"a:read": LONG_AGO}, reviewed_at=NOW - REVIEW) == []


def test_all_that_there_is_to_say_is_said_at_once() -> None:
    codes = said(
        expires_at=NOW + 366 * DAY,
        require_trust_score_above=None,
        ip_allowlist=(),
        lent_since={"a:read": LONG_AGO},
        reviewed_at=NOW - REVIEW,
    )
    assert codes == list(AdviceCode)
