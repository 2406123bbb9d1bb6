"""What an amendment makes of terms: what shrinks is in force at once, what grows waits for the delegate."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.amendments import CLEARABLE, PUBLIC, Agreed, Amended, Changes, amend
from app.rules.errors import Code, Refusal
from app.rules.ids import DAY, Instant
from app.rules.limits import LARGEST_CAP, LARGEST_METADATA, LONGEST_DELEGATION
from app.rules.terms import Constraints

NOW = Instant(1_000 * DAY)
HELD = ("a:read", "a:write", "b:read")
LIMITED = Constraints(
    expires_at=Instant(NOW + DAY),
    max_actions_per_hour=10,
    max_actions_per_day=20,
    max_actions_per_month=30,
    max_cost_units_per_month=40,
    ip_allowlist=("192.0.2.0/24",),
    require_trust_score_above=50,
    max_request_bytes=1_000,
    condition="true",
    deny_patterns=("secret",),
)
CURRENT = Agreed(["a:read", "a:write"], LIMITED, {"purpose": "receipts"})


def amended(current: Agreed = CURRENT, held: tuple[str, ...] = HELD, **changes: Any) -> Amended:
    """What comes of an amendment that nothing is wrong with."""
    made = amend(current, held, Changes(**changes), NOW)
    assert isinstance(made, Amended), made
    return made


def refused(current: Agreed = CURRENT, held: tuple[str, ...] = HELD, **changes: Any) -> Refusal:
    """What is wrong with an amendment."""
    refusal = amend(current, held, Changes(**changes), NOW)
    assert isinstance(refusal, Refusal), refusal
    return refusal


def limits(**values: Any) -> Agreed:
    """The current terms, but for these."""
    return CURRENT._replace(constraints=replace(LIMITED, **values))


def test_an_amendment_of_nothing_changes_nothing() -> None:
    assert amended() == Amended(None, None, [])


#: Each limit, tightened and widened.
BOTH_WAYS = [
    ("expires_at", NOW + 1, NOW + LONGEST_DELEGATION),
    ("max_actions_per_hour", 1, LARGEST_CAP),
    ("max_actions_per_day", 1, LARGEST_CAP),
    ("max_actions_per_month", 1, LARGEST_CAP),
    ("max_cost_units_per_month", 1, LARGEST_CAP),
    ("ip_allowlist", ("192.0.2.1/32",), ("0.0.0.0/0", "::/0")),
    ("require_trust_score_above", 99, 0),
    ("max_request_bytes", 1, 2_000),
    ("condition", "false", "true || true"),
    ("deny_patterns", ("secret", "hidden"), ()),
]


def test_every_limit_can_be_amended() -> None:
    names = {each.name for each in fields(Constraints)}
    assert {name for name, _, _ in BOTH_WAYS} == names == set(PUBLIC)
    assert set(CLEARABLE.values()) == names - {"expires_at"}
    assert len(set(PUBLIC.values())) == len(PUBLIC)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, *values in BOTH_WAYS for value in values]
)
def test_a_limit_moves_both_ways_at_once(name: str, value: object) -> None:
    made = amended(limits={name: value})
    assert made == Amended(limits(**{name: value}), None, [PUBLIC[name]])


@pytest.mark.parametrize(
    ("name", "value"), [(each.name, getattr(LIMITED, each.name)) for each in fields(Constraints)]
)
def test_a_limit_that_is_given_as_it_is_changes_nothing(name: str, value: object) -> None:
    assert amended(limits={name: value}) == Amended(None, None, [])


@pytest.mark.parametrize(("public", "name"), sorted(CLEARABLE.items()))
def test_a_limit_that_is_cleared_is_gone_at_once(public: str, name: str) -> None:
    unlimited = getattr(Constraints(LIMITED.expires_at), name)
    made = amended(clear=[public])
    assert made == Amended(limits(**{name: unlimited}), None, [public])
    assert made.in_force is not None
    assert amended(made.in_force, clear=[public]) == Amended(None, None, [])


def test_all_limits_can_be_cleared_at_once() -> None:
    made = amended(clear=list(CLEARABLE))
    assert made.in_force == CURRENT._replace(constraints=Constraints(LIMITED.expires_at))
    assert made.changed == sorted(CLEARABLE)


def test_one_limit_is_cleared_while_another_is_given() -> None:
    made = amended(clear=["maxActionsPerDay"], limits={"max_actions_per_hour": 11})
    assert made.in_force == limits(max_actions_per_hour=11, max_actions_per_day=None)
    assert made.changed == ["maxActionsPerDay", "maxActionsPerHour"]


@pytest.mark.parametrize(
    "name", ["expiresAt", "scopes", "metadata", "max_actions_per_hour", "MAXACTIONSPERHOUR", ""]
)
def test_what_is_no_limit_that_can_be_removed_is_named(name: str) -> None:
    refusal = refused(clear=["condition", name])
    assert (refusal.code, refusal.path) == (Code.INVALID, ("clear", "1"))
    assert all(public in refusal.message for public in CLEARABLE)


@pytest.mark.parametrize(("public", "name"), sorted(CLEARABLE.items()))
def test_a_limit_is_given_or_cleared_and_never_both(public: str, name: str) -> None:
    refusal = refused(clear=[public], limits={name: getattr(LIMITED, name)})
    assert (refusal.code, refusal.path) == (Code.INVALID, ("clear", "0"))
    assert public in refusal.message


def test_a_limit_that_is_cleared_twice_is_cleared() -> None:
    assert amended(clear=["condition", "condition"]) == Amended(limits(condition=None), None, ["condition"])


def test_metadata_changes_at_once_and_whole() -> None:
    made = amended(metadata={"other": 1})
    assert made == Amended(CURRENT._replace(metadata={"other": 1}), None, ["metadata"])
    assert amended(metadata={}).in_force == CURRENT._replace(metadata={})


def test_metadata_that_is_given_as_it_is_changes_nothing() -> None:
    assert amended(metadata={"purpose": "receipts"}) == Amended(None, None, [])


# -- scopes


@pytest.mark.parametrize(
    ("wanted", "in_force", "proposed"),
    [
        # as they are, in whatever order and however often
        (["a:read", "a:write"], None, None),
        (["a:write", "a:read", "a:write"], None, None),
        # less of them, at once
        (["a:read"], ["a:read"], None),
        (["a:write", "a:write"], ["a:write"], None),
        # more of them, once the delegate has consented
        (["a:read", "a:write", "b:read"], None, ["a:read", "a:write", "b:read"]),
        (["b:read", "a:write", "a:read", "b:read"], None, ["a:read", "a:write", "b:read"]),
        # both: what goes is gone at once, what comes waits
        (["a:write", "b:read"], ["a:write"], ["a:write", "b:read"]),
        (["b:read"], [], ["b:read"]),
    ],
)
def test_scopes_shrink_at_once_and_grow_by_consent(
    wanted: list[str], in_force: list[str] | None, proposed: list[str] | None
) -> None:
    made = amended(scopes=wanted)
    assert made.in_force == (None if in_force is None else CURRENT._replace(scopes=in_force))
    assert made.proposed == (None if proposed is None else CURRENT._replace(scopes=proposed))
    assert made.changed == (["scopes"] if in_force is not None or proposed else [])


def test_limits_move_at_once_although_scopes_wait_and_stand_in_the_proposal_too() -> None:
    made = amended(
        scopes=["a:read", "b:read"],
        limits={"max_actions_per_hour": 99},
        clear=["condition"],
        metadata={"new": True},
    )
    constraints = replace(LIMITED, max_actions_per_hour=99, condition=None)
    assert made == Amended(
        Agreed(["a:read"], constraints, {"new": True}),
        Agreed(["a:read", "b:read"], constraints, {"new": True}),
        ["condition", "maxActionsPerHour", "metadata", "scopes"],
    )


@pytest.mark.parametrize("current", [CURRENT, CURRENT._replace(scopes=[])])
def test_an_amendment_leaves_scopes_alone_that_it_does_not_name(current: Agreed) -> None:
    made = amended(current, limits={"max_request_bytes": 5})
    assert made.in_force is not None
    assert made.in_force.scopes == current.scopes
    assert made.proposed is None


def test_what_an_agent_does_not_hold_is_not_proposed() -> None:
    refusal = refused(scopes=["a:read", "c:read", "b:read", "d:read"])
    assert (refusal.code, refusal.path) == (Code.SCOPE_NOT_HELD, ("scopes",))
    assert "c:read, d:read" in refusal.message


@pytest.mark.parametrize("wanted", [None, ["a:read", "a:write"], ["a:read"]])
def test_what_an_agent_has_lost_meanwhile_may_stay(wanted: list[str] | None) -> None:
    made = amended(held=("a:write",), scopes=wanted, limits={"max_request_bytes": 5})
    assert made.in_force is not None
    assert "a:read" in made.in_force.scopes


def test_what_an_agent_has_lost_meanwhile_may_stay_while_others_are_added() -> None:
    made = amended(held=("b:read",), scopes=["a:read", "a:write", "b:read"])
    assert made.proposed == CURRENT._replace(scopes=["a:read", "a:write", "b:read"])


def test_what_was_taken_out_does_not_come_back_without_consent() -> None:
    shrunk = amended(scopes=["a:read"]).in_force
    assert shrunk is not None
    again = amended(shrunk, scopes=["a:read", "a:write"])
    assert again == Amended(None, CURRENT, ["scopes"])


def test_terms_without_any_scope_are_not_agreed_on() -> None:
    refusal = refused(scopes=[])
    assert (refusal.code, refusal.path) == (Code.INVALID, ("scopes",))


# -- what is wrong


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"expires_at": NOW}, Code.EXPIRY_INVALID, "expiresAt"),
        ({"expires_at": NOW + LONGEST_DELEGATION + 1}, Code.EXPIRY_INVALID, "expiresAt"),
        ({"max_actions_per_hour": 0}, Code.CAP_INVALID, "maxActionsPerHour"),
        ({"max_cost_units_per_month": 0}, Code.CAP_INVALID, "maxCostUnitsPerMonth"),
        ({"require_trust_score_above": 100}, Code.INVALID, "requireTrustScoreAbove"),
        ({"max_request_bytes": 0}, Code.CAP_INVALID, "maxRequestBytes"),
        ({"ip_allowlist": ("192.0.2.0/24", "here")}, Code.CIDR_INVALID, "ipAllowlist.1"),
    ],
)
def test_a_wrong_limit_is_named_by_its_own_place_as_the_input_is_flat(
    given: dict[str, Any], code: Code, path: str
) -> None:
    refusal = refused(limits=given)
    assert (refusal.code, refusal.path) == (code, tuple(path.split(".")))
    assert refusal.message.startswith(path.partition(".")[0])
    assert "constraints" not in refusal.message


def test_metadata_that_is_too_large_is_named_too() -> None:
    refusal = refused(metadata="x" * LARGEST_METADATA)
    assert (refusal.code, refusal.path) == (Code.INVALID, ("metadata",))


def test_terms_that_have_expired_meanwhile_need_a_later_end() -> None:
    expired = limits(expires_at=NOW)
    assert refused(expired, metadata={}).path == ("expiresAt",)
    assert amended(expired, limits={"expires_at": NOW + 1}).changed == ["expiresAt"]


# -- what always holds

scopes = some.lists(some.sampled_from(HELD), min_size=1, unique=True).map(sorted)
hours = some.none() | some.integers(1, 3)


@given(scopes, scopes, hours, hours)
def test_nothing_comes_into_force_that_was_not_agreed_on_and_nothing_stays_that_was_taken_out(
    before: list[str], wanted: list[str], hour: int | None, given_hour: int | None
) -> None:
    current = Agreed(before, replace(LIMITED, max_actions_per_hour=hour), None)
    changes = {} if given_hour is None else {"max_actions_per_hour": given_hour}
    made = amended(current, scopes=wanted, limits=changes)
    after = made.in_force or current
    assert set(after.scopes) == set(before) & set(wanted)
    assert after.constraints.max_actions_per_hour == (hour if given_hour is None else given_hour)
    assert (made.proposed is not None) == bool({*wanted} - {*before})
    if made.proposed:
        assert made.proposed == after._replace(scopes=wanted)
    assert made.in_force != current
    assert bool(made.changed) == bool(made.in_force or made.proposed)
