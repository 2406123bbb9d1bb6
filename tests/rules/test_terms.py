"""Terms: what is wrong with them is named, and what is agreed is hashed."""

from dataclasses import fields, replace
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.errors import Code
from app.rules.guards import Guards
from app.rules.ids import DAY, Instant
from app.rules.limits import (
    HIGHEST_SCORE,
    LARGEST_CAP,
    LARGEST_METADATA,
    LARGEST_REQUEST,
    LONGEST_DELEGATION,
    LONGEST_OFFER,
    MOST_NETWORKS,
    refuse,
    refuse_metadata,
    refuse_offer_expiry,
)
from app.rules.terms import Constraints, Terms, from_stored, stored, terms_hash
from app.rules.windows import WindowKind

NOW = Instant(1_000 * DAY)
GOOD = Constraints(expires_at=Instant(NOW + DAY))


def limits(**values: Any) -> Constraints:
    """Good constraints, but for these."""
    return replace(GOOD, **values)


@pytest.mark.parametrize(
    "constraints",
    [
        GOOD,
        limits(expires_at=NOW + 1),
        limits(expires_at=NOW + LONGEST_DELEGATION),
        limits(max_actions_per_hour=1, max_actions_per_day=LARGEST_CAP, max_actions_per_month=7),
        limits(max_cost_units_per_month=1),
        limits(max_cost_units_per_month=LARGEST_CAP),
        limits(max_request_bytes=LARGEST_REQUEST),
        limits(require_trust_score_above=0),
        limits(require_trust_score_above=HIGHEST_SCORE - 1),
        limits(ip_allowlist=("0.0.0.0/0", "::/0", "192.0.2.1", "2001:db8::/32")),
        limits(ip_allowlist=("192.0.2.0/24",) * MOST_NETWORKS),
        # wider than what maps IPv4, or beside it
        limits(ip_allowlist=("::/64", "::ffff:0:0:0/96", "64:ff9b::/96")),
    ],
)
def test_good_constraints_pass(constraints: Constraints) -> None:
    assert refuse(constraints, NOW) is None


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"expires_at": NOW}, Code.EXPIRY_INVALID, "expiresAt"),
        ({"expires_at": NOW - 1}, Code.EXPIRY_INVALID, "expiresAt"),
        ({"expires_at": NOW + LONGEST_DELEGATION + 1}, Code.EXPIRY_INVALID, "expiresAt"),
        ({"max_actions_per_hour": 0}, Code.CAP_INVALID, "maxActionsPerHour"),
        ({"max_actions_per_hour": -1}, Code.CAP_INVALID, "maxActionsPerHour"),
        ({"max_actions_per_day": LARGEST_CAP + 1}, Code.CAP_INVALID, "maxActionsPerDay"),
        ({"max_actions_per_month": 0}, Code.CAP_INVALID, "maxActionsPerMonth"),
        ({"max_cost_units_per_month": 0}, Code.CAP_INVALID, "maxCostUnitsPerMonth"),
        ({"max_cost_units_per_month": -1}, Code.CAP_INVALID, "maxCostUnitsPerMonth"),
        ({"max_cost_units_per_month": LARGEST_CAP + 1}, Code.CAP_INVALID, "maxCostUnitsPerMonth"),
        ({"require_trust_score_above": -1}, Code.INVALID, "requireTrustScoreAbove"),
        ({"require_trust_score_above": HIGHEST_SCORE}, Code.INVALID, "requireTrustScoreAbove"),
        ({"require_trust_score_above": HIGHEST_SCORE + 1}, Code.INVALID, "requireTrustScoreAbove"),
        ({"max_request_bytes": 0}, Code.CAP_INVALID, "maxRequestBytes"),
        ({"max_request_bytes": LARGEST_REQUEST + 1}, Code.CAP_INVALID, "maxRequestBytes"),
        ({"ip_allowlist": ("192.0.2.1/24",)}, Code.CIDR_INVALID, "ipAllowlist.0"),
        ({"ip_allowlist": ("192.0.2.0/24", "here")}, Code.CIDR_INVALID, "ipAllowlist.1"),
        ({"ip_allowlist": ("192.0.2.0/33",)}, Code.CIDR_INVALID, "ipAllowlist.0"),
        ({"ip_allowlist": ("",)}, Code.CIDR_INVALID, "ipAllowlist.0"),
        ({"ip_allowlist": ("2001:db8::1/32",)}, Code.CIDR_INVALID, "ipAllowlist.0"),
        ({"ip_allowlist": ("::ffff:192.0.2.0/120",)}, Code.CIDR_INVALID, "ipAllowlist.0"),
        ({"ip_allowlist": ("::1", "::ffff:0:0/96")}, Code.CIDR_INVALID, "ipAllowlist.1"),
        ({"ip_allowlist": ("::ffff:192.0.2.7",)}, Code.CIDR_INVALID, "ipAllowlist.0"),
        ({"ip_allowlist": ("192.0.2.0/24",) * (MOST_NETWORKS + 1)}, Code.LIMIT_REACHED, "ipAllowlist"),
    ],
)
def test_a_wrong_constraint_is_named_by_its_path(wrong: dict[str, Any], code: Code, path: str) -> None:
    refusal = refuse(limits(**wrong), NOW)
    assert refusal is not None
    assert (refusal.code, refusal.path) == (code, ("constraints", *path.split(".")))
    assert refusal.message.startswith(f"constraints.{path.split('.')[0]}")


@pytest.mark.parametrize(
    ("at", "fine"), [(0, False), (-1, False), (1, True), (LONGEST_OFFER, True), (LONGEST_OFFER + 1, False)]
)
def test_an_offer_stands_open_for_ninety_days_at_most(at: int, fine: bool) -> None:
    refusal = refuse_offer_expiry(Instant(NOW + at), NOW)
    assert (refusal is None) == fine
    if refusal:
        assert (refusal.code, refusal.path) == (Code.EXPIRY_INVALID, ("offerExpiresAt",))


def test_the_highest_floor_still_lets_the_highest_score_act() -> None:
    highest = Terms.of(1, [], stored(limits(require_trust_score_above=HIGHEST_SCORE - 1)))
    assert highest.trusts(HIGHEST_SCORE)


@pytest.mark.parametrize(("size", "fine"), [(LARGEST_METADATA, True), (LARGEST_METADATA + 1, False)])
def test_metadata_is_bounded_by_its_bytes_as_json(size: int, fine: bool) -> None:
    refusal = refuse_metadata("x" * (size - 2))  # and two quotes
    assert (refusal is None) == fine
    if refusal:
        assert (refusal.code, refusal.path) == (Code.INVALID, ("metadata",))


caps = some.none() | some.integers(1, LARGEST_CAP)
networks = some.lists(some.ip_addresses().map(str), max_size=3).map(tuple)
some_constraints = some.builds(
    Constraints,
    expires_at=some.integers(1, 2**53 - 1).map(Instant),
    max_actions_per_hour=caps,
    max_actions_per_day=caps,
    max_actions_per_month=caps,
    max_cost_units_per_month=caps,
    ip_allowlist=networks,
    require_trust_score_above=some.none() | some.integers(0, HIGHEST_SCORE - 1),
    max_request_bytes=some.none() | some.integers(1, LARGEST_REQUEST),
    condition=some.none() | some.text(min_size=1),
    deny_patterns=some.lists(some.text(), max_size=3).map(tuple),
)


@given(some_constraints)
def test_what_is_stored_reads_as_what_was_meant(constraints: Constraints) -> None:
    assert from_stored(stored(constraints)) == constraints


@given(some_constraints)
def test_a_limit_that_is_not_set_is_left_out_of_what_is_stored(constraints: Constraints) -> None:
    assert None not in stored(constraints).values()


def test_every_constraint_is_stored() -> None:
    whole = limits(
        max_actions_per_hour=1,
        max_actions_per_day=2,
        max_actions_per_month=3,
        max_cost_units_per_month=4,
        ip_allowlist=("::1",),
        require_trust_score_above=0,
        max_request_bytes=5,
        condition="true",
        deny_patterns=("secret",),
    )
    assert len(stored(whole)) == len(fields(Constraints))
    assert [whole.cap(kind) for kind in WindowKind] == [1, 2, 3, 4]
    assert Terms.of(1, [], stored(whole)).caps == tuple(zip(WindowKind, (1, 2, 3, 4), strict=True))
    assert Terms.of(1, [], stored(whole)).guards == Guards(("secret",), "true")


def test_only_what_is_limited_is_counted() -> None:
    assert Terms.of(1, [], stored(GOOD)).caps == ()
    one = Terms.of(1, [], stored(limits(max_cost_units_per_month=7)))
    assert one.caps == ((WindowKind.COST_MONTH, 7),)


def test_the_hash_is_over_the_terms_as_json_with_sorted_keys() -> None:
    constraints = limits(expires_at=1_795_170_120_000_000, max_actions_per_hour=10, ip_allowlist=("::1",))
    form = (
        '{"constraints":{"expiresAt":1795170120000000,"ipAllowlist":["::1"],"maxActionsPerHour":10},'
        '"metadata":{"a":[null],"b":"é"},"scopes":["receipts:read"],"version":1}'
    )
    hashed = terms_hash(1, ["receipts:read"], constraints, {"b": "é", "a": [None]})
    assert hashed == sha256(form.encode()).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        (2, ["a:b"], GOOD, None),
        (1, ["a:c"], GOOD, None),
        (1, ["a:b", "a:c"], GOOD, None),
        (1, ["a:b"], limits(max_actions_per_hour=1), None),
        (1, ["a:b"], limits(max_actions_per_day=1), None),
        (1, ["a:b"], limits(max_cost_units_per_month=1), None),
        (1, ["a:b"], limits(require_trust_score_above=0), None),
        (1, ["a:b"], limits(condition="true"), None),
        (1, ["a:b"], limits(deny_patterns=("secret",)), None),
        (1, ["a:b"], limits(expires_at=NOW + 2 * DAY), None),
        (1, ["a:b"], limits(ip_allowlist=("::1",)), None),
        (1, ["a:b"], GOOD, {}),
        (1, ["a:b"], GOOD, {"a": 1}),
    ],
)
def test_any_other_terms_have_another_hash(other: tuple[int, list[str], Constraints, object]) -> None:
    assert terms_hash(*other) != terms_hash(1, ["a:b"], GOOD, None)


def test_the_order_of_metadata_does_not_change_the_hash() -> None:
    one, other = ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1})
    assert terms_hash(1, ["a:b"], GOOD, one) == terms_hash(1, ["a:b"], GOOD, other)


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        ((), "203.0.113.9", True),
        (("192.0.2.0/24",), "192.0.2.255", True),
        (("192.0.2.0/24",), "192.0.3.0", False),
        (("192.0.2.7",), "192.0.2.7", True),
        (("2001:db8::/32",), "2001:db8::1", True),
        (("2001:db8::/32",), "192.0.2.1", False),
        (("0.0.0.0/0",), "::1", False),
        (("10.0.0.0/8", "192.0.2.0/24"), "192.0.2.1", True),
    ],
)
def test_an_address_is_allowed_by_any_of_the_networks_or_where_there_is_none(
    networks: tuple[str, ...], address: str, allowed: bool
) -> None:
    terms = Terms.of(1, ["a:b"], stored(limits(ip_allowlist=networks)))
    assert terms.allows(ip_address(address)) == allowed


def test_an_address_that_nobody_knows_is_allowed_only_where_there_is_no_list() -> None:
    assert Terms.of(1, [], stored(GOOD)).allows(None)
    assert not Terms.of(1, [], stored(limits(ip_allowlist=("0.0.0.0/0", "::/0")))).allows(None)
