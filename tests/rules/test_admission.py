"""The one decision: each check refuses alone, and the first that fails speaks."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from app.rules.admission import (
    CAP_CODES,
    CAP_NAMES,
    CHECKS,
    Admitted,
    Ask,
    Decision,
    Evidence,
    Finding,
    Judged,
    Refused,
    TokenFacts,
    Unjudged,
    decide,
    findings,
    still_holds,
)
from app.rules.errors import Code
from app.rules.guards import Denial, Guards
from app.rules.ids import DAY, SECOND, ActionId, DelegationId, Instant, TenantId
from app.rules.lifecycle import REFUSES, Status
from app.rules.routes import ByPath, ByScope, Route, RouteTable, Target, parse_template
from app.rules.terms import Constraints, Terms, stored
from app.rules.windows import WindowKind

NOW = Instant(1_000 * DAY)
LATER = Instant(NOW + DAY)
HERE = ip_address("192.0.2.1")
LENT, ACTOR = DelegationId("dlg_1"), TenantId("ten_1")
NOTHING_USED = dict.fromkeys(WindowKind, 0)
SCHEMA = '{"type":"object"}'


def route(scope: str = "a:read", template: str = "/a", id: str = "act_1", **given: Any) -> Route:
    """An action without schema or sandbox, that costs one unit, but for what is given."""
    return Route(
        **{
            "action_id": ActionId(id),
            "upstream_name": "api",
            "scope": scope,
            "method": "GET",
            "template": template,
            "segments": parse_template(template),
            "idempotent": False,
            "cost_units": 1,
            "schema": None,
            "has_sandbox": False,
            **given,
        }
    )


DEAR = route("a:read", "/dear", "act_4", cost_units=5)
FREE = route("a:read", "/free", "act_5", cost_units=0)
TYPED = route("a:read", "/typed", "act_6", schema=SCHEMA)
PLAYED = route("a:read", "/played", "act_7", has_sandbox=True)
B, C = route("b:read", "/b", "act_2"), route("b:read", "/c", "act_3")
ROUTES = RouteTable([route(), B, C, DEAR, FREE, TYPED, PLAYED])


def terms(
    scopes: tuple[str, ...] = ("a:read", "b:read"), allow: tuple[str, ...] = (), **limits: Any
) -> Terms:
    constraints = Constraints(limits.pop("expires_at", LATER), ip_allowlist=allow, **limits)
    return Terms.of(1, scopes, stored(constraints))


def evidence(**given: Any) -> Evidence:
    """Evidence that lets everything pass, but for what is given."""
    return Evidence(
        **{
            "delegation_id": LENT,
            "delegate_id": ACTOR,
            "status": Status.ACTIVE,
            "offer_expires_at": NOW,
            "sandbox": False,
            "terms": terms(),
            "agent_scopes": frozenset({"a:read", "b:read"}),
            "binding_revoked": False,
            "trust_score": None,
            "token": TokenFacts(LATER, None),
            **given,
        }
    )


def asked(
    path: str = "/a",
    *,
    scope: str | None = None,
    action_id: str | None = None,
    address: Any = HERE,
    size: int = 0,
    content: Judged | None = None,
) -> Ask:
    """A request for /a, but for what is given."""
    target: Target = ByPath("api", "GET", (path[1:],))
    if scope:
        target = ByScope(scope, ActionId(action_id) if action_id else None)
    return Ask(target, address, size, content)


def judged(seen: Evidence, *, used: Mapping[WindowKind, int] | None = NOTHING_USED, **given: Any) -> Decision:
    """Decides about `asked`."""
    return decide(seen, asked(**given), ROUTES, used, NOW)


PASSED = [("denyPatterns", None), ("condition", None)]


def judgement(by: Terms, results: Sequence[tuple[str, Denial | None]] = PASSED, **given: Any) -> Judged:
    """What the guards of these terms say of a request for /a."""
    return Judged(
        **{"guards": by.guards, "schema": None, "scope": "a:read", "at": NOW, "results": results, **given}
    )


def unjudged(by: Terms, action: Route) -> Unjudged:
    """What has to be judged by these terms first."""
    return Unjudged(LENT, ACTOR, by.guards, action, NOW)


GUARDED = terms(deny_patterns=("secret",), condition="true")
DENIED = Denial(Code.PATTERN_DENIED, "It matches 'secret'.")
WITH_DENIED = judgement(GUARDED, [("denyPatterns", DENIED)])

#: What ends a right, in the order in which it is judged: evidence and what is answered.
ENDS: list[tuple[dict[str, Any], Code]] = [
    ({"token": TokenFacts(LATER, NOW)}, Code.TOKEN_INVALID),
    ({"status": Status.REVOKED}, Code.DELEGATION_REVOKED),
    ({"binding_revoked": True}, Code.BINDING_REVOKED),
    ({"token": TokenFacts(NOW, None)}, Code.TOKEN_INVALID),
    ({"terms": terms(require_trust_score_above=70)}, Code.TRUST_TOO_LOW),
    ({"terms": terms(require_trust_score_above=70), "trust_score": 70}, Code.TRUST_TOO_LOW),
    ({"terms": terms(allow=("198.51.100.0/24",))}, Code.IP_NOT_ALLOWED),
]
#: What is judged once, when a request is admitted: evidence, request, and what is answered.
ONCE: list[tuple[dict[str, Any], dict[str, Any], Code]] = [
    ({"sandbox": True}, {}, Code.NO_SANDBOX),
    ({"terms": terms(max_request_bytes=9)}, {"size": 10}, Code.REQUEST_TOO_LARGE),
    ({"terms": GUARDED}, {"content": WITH_DENIED}, Code.PATTERN_DENIED),
    ({"terms": terms(max_actions_per_hour=1)}, {"used": {**NOTHING_USED, WindowKind.HOUR: 1}}, Code.CAP_HOUR),
    ({"terms": terms(max_actions_per_day=1)}, {"used": {**NOTHING_USED, WindowKind.DAY: 1}}, Code.CAP_DAY),
    (
        {"terms": terms(max_actions_per_month=1)},
        {"used": {**NOTHING_USED, WindowKind.MONTH: 1}},
        Code.CAP_MONTH,
    ),
    (
        {"terms": terms(max_cost_units_per_month=1)},
        {"used": {**NOTHING_USED, WindowKind.COST_MONTH: 1}},
        Code.CAP_COST,
    ),
]
#: One thing wrong each.
WRONG = [
    *((seen, {}, code) for seen, code in ENDS),
    ({}, {"path": "/elsewhere"}, Code.ACTION_NOT_FOUND),
    *ONCE,
]


def test_where_nothing_is_wrong_the_action_is_admitted() -> None:
    assert judged(evidence()) == Admitted(route())


@pytest.mark.parametrize(("seen", "given", "code"), WRONG)
def test_each_check_refuses_by_itself(seen: dict[str, Any], given: dict[str, Any], code: Code) -> None:
    refused = judged(evidence(**seen), **given)
    assert isinstance(refused, Refused)
    assert refused.code is code


#: Everything wrong at once, and then one thing after the other put right.
LIMITS: dict[str, Any] = {
    "require_trust_score_above": 70,
    "allow": ("198.51.100.0/24",),
    "max_request_bytes": 9,
    "deny_patterns": ("secret",),
    "condition": "true",
    "max_actions_per_hour": 1,
    "max_actions_per_day": 1,
    "max_actions_per_month": 1,
    "max_cost_units_per_month": 1,
}


def without(*righted: str) -> dict[str, Any]:
    """Terms that everything is wrong with but for these."""
    return {"terms": terms(**{name: limit for name, limit in LIMITS.items() if name not in righted})}


ALL_WRONG: dict[str, Any] = {
    "token": TokenFacts(NOW, NOW),
    "status": Status.REVOKED,
    "binding_revoked": True,
    "sandbox": True,
    "agent_scopes": frozenset[str](),
    **without(),
}
RIGHTED: list[tuple[dict[str, Any], Code]] = [
    ({}, Code.TOKEN_INVALID),
    ({"token": TokenFacts(NOW, None)}, Code.DELEGATION_REVOKED),
    ({"status": Status.ACTIVE}, Code.BINDING_REVOKED),
    ({"binding_revoked": False}, Code.TOKEN_INVALID),
    ({"token": TokenFacts(LATER, None)}, Code.TRUST_TOO_LOW),
    ({"trust_score": 71}, Code.IP_NOT_ALLOWED),
    (without("allow"), Code.ACTION_NOT_FOUND),
    ({"agent_scopes": frozenset({"a:read"})}, Code.NO_SANDBOX),
    ({"sandbox": False}, Code.REQUEST_TOO_LARGE),
    (without("allow", "max_request_bytes"), Code.PATTERN_DENIED),
    (without("allow", "max_request_bytes", "deny_patterns", "condition"), Code.CAP_HOUR),
    (
        {"terms": terms(max_actions_per_day=1, max_actions_per_month=1, max_cost_units_per_month=1)},
        Code.CAP_DAY,
    ),
    ({"terms": terms(max_actions_per_month=1, max_cost_units_per_month=1)}, Code.CAP_MONTH),
    ({"terms": terms(max_cost_units_per_month=1)}, Code.CAP_COST),
]


def test_the_first_thing_that_is_wrong_is_what_is_answered() -> None:
    seen = dict(ALL_WRONG)
    for righted, code in RIGHTED:
        seen.update(righted)
        refused = judged(evidence(**seen), size=10, used=dict.fromkeys(WindowKind, 1), content=WITH_DENIED)
        assert isinstance(refused, Refused)
        assert refused.code is code


def test_who_explains_a_decision_hears_of_everything_that_is_wrong_in_the_order_of_the_checks() -> None:
    seen = evidence(**{**ALL_WRONG, "agent_scopes": frozenset({"a:read"})})
    used = dict.fromkeys(WindowKind, 1)
    content = judgement(seen.terms, [("denyPatterns", DENIED), ("condition", None)])
    ask = asked(size=10, content=content)
    found = [each for each in findings(seen, ask, ROUTES, used, NOW) if isinstance(each, Finding)]
    assert {each.name for each in found} == {*CHECKS} - {"requestSchema"}
    places = [CHECKS.index(each.name) for each in found]
    expired = places.pop(3)  # a token's expiry is judged after its delegation
    assert (CHECKS[expired], places) == ("token", sorted(places))
    assert [each.name for each in found if each.code is None] == ["action", "condition"]


def test_without_an_action_there_is_no_more_to_say_than_that() -> None:
    found = list(findings(evidence(**ALL_WRONG), asked(), ROUTES, NOTHING_USED, NOW))
    assert found[-1] == Finding("action", Code.ACTION_NOT_FOUND)
    assert not [each for each in found if isinstance(each, Route | Unjudged)]


def test_every_check_that_refuses_has_a_name() -> None:
    assert set(CAP_NAMES) == set(CAP_CODES) == set(WindowKind)
    assert len({*CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACTIVE])
def test_a_delegation_that_is_not_active_refuses_with_its_own_code(status: Status) -> None:
    refused = judged(evidence(status=status, offer_expires_at=LATER))
    assert isinstance(refused, Refused)
    assert refused.code is REFUSES[status]


def test_an_expired_delegation_refuses_although_nobody_recorded_it() -> None:
    assert judged(evidence(terms=terms(expires_at=NOW))) == Refused(Code.DELEGATION_EXPIRED)
    assert judged(evidence(terms=terms(expires_at=NOW + 1))) == Admitted(route())


def test_a_lapsed_offer_is_expired_and_not_pending() -> None:
    assert judged(evidence(status=Status.PENDING, offer_expires_at=NOW)) == Refused(Code.DELEGATION_EXPIRED)


def test_a_token_that_expires_with_its_delegation_says_that_the_delegation_has_expired() -> None:
    seen = evidence(token=TokenFacts(NOW, None), terms=terms(expires_at=NOW))
    assert judged(seen) == Refused(Code.DELEGATION_EXPIRED)


def test_a_rotated_token_opens_until_its_overlap_is_over() -> None:
    assert judged(evidence(token=TokenFacts(LATER, Instant(NOW + 1)))) == Admitted(route())
    assert judged(evidence(token=TokenFacts(LATER, NOW))) == Refused(Code.TOKEN_INVALID)


def test_a_caller_with_an_api_key_needs_no_token() -> None:
    assert judged(evidence(token=None)) == Admitted(route())


@pytest.mark.parametrize(
    ("address", "allowed"), [(HERE, True), (ip_address("192.0.3.1"), False), (None, False)]
)
def test_an_allowlist_lets_only_its_networks_in(address: Any, allowed: bool) -> None:
    answer = judged(evidence(terms=terms(allow=("192.0.2.0/24",))), address=address)
    assert isinstance(answer, Admitted) == allowed


@pytest.mark.parametrize(
    "seen",
    [
        {"terms": terms(("b:read",))},
        {"agent_scopes": frozenset({"b:read"})},
        {"terms": terms(()), "agent_scopes": frozenset[str]()},
    ],
)
def test_an_action_that_is_not_lent_or_no_longer_held_is_as_one_that_does_not_exist(
    seen: dict[str, Any],
) -> None:
    assert judged(evidence(**seen)) == judged(evidence(), path="/nothing") == Refused(Code.ACTION_NOT_FOUND)


def test_a_path_that_is_not_plain_is_no_action() -> None:
    ask = Ask(ByPath("api", "GET", None), HERE, 0)
    assert decide(evidence(), ask, ROUTES, NOTHING_USED, NOW) == Refused(Code.ACTION_NOT_FOUND)


def test_a_scope_with_several_actions_wants_one_to_be_named() -> None:
    assert judged(evidence(), scope="b:read") == Refused(Code.ACTION_AMBIGUOUS, "b:read")
    assert judged(evidence(), scope="b:read", action_id="act_3") == Admitted(C)


def test_a_refusal_names_the_scope_that_was_asked_for_by_its_name() -> None:
    assert judged(evidence(), scope="c:read") == Refused(Code.ACTION_NOT_FOUND, "c:read")
    gone = evidence(status=Status.REVOKED)
    assert judged(gone, scope="a:read") == Refused(Code.DELEGATION_REVOKED, "a:read")


@pytest.mark.parametrize(("size", "allowed"), [(0, True), (9, True), (10, False)])
def test_a_request_may_be_as_large_as_the_terms_say(size: int, allowed: bool) -> None:
    answer = judged(evidence(terms=terms(max_request_bytes=9)), size=size)
    assert answer == (Admitted(route()) if allowed else Refused(Code.REQUEST_TOO_LARGE, "a:read"))


@pytest.mark.parametrize(("used", "allowed"), [(0, True), (2, True), (3, False), (4, False)])
@pytest.mark.parametrize(
    ("kind", "capped"),
    [
        (WindowKind.HOUR, terms(max_actions_per_hour=3)),
        (WindowKind.DAY, terms(max_actions_per_day=3)),
        (WindowKind.MONTH, terms(max_actions_per_month=3)),
    ],
)
def test_a_window_admits_as_many_as_its_cap(
    kind: WindowKind, capped: Terms, used: int, allowed: bool
) -> None:
    seen = evidence(terms=capped)
    answer = judged(seen, used={**NOTHING_USED, kind: used})
    refused = Refused(Code(f"CAP_{kind}"), "a:read", f"{used} of 3 are used.")
    assert answer == (Admitted(route()) if allowed else refused)


@pytest.mark.parametrize(
    ("action", "used", "allowed"),
    [
        (route(), 9, True),
        (route(), 10, False),
        # an action costs all its units or is not admitted: what is left is no credit
        (DEAR, 0, True),
        (DEAR, 5, True),
        (DEAR, 6, False),
        (DEAR, 9, False),
        (DEAR, 10, False),
        # what costs nothing is admitted when all is used, but not beyond a cap that was lowered since
        (FREE, 10, True),
        (FREE, 11, False),
    ],
)
def test_a_cost_cap_admits_what_is_left_of_it(action: Route, used: int, allowed: bool) -> None:
    seen = evidence(terms=terms(max_cost_units_per_month=10))
    answer = judged(seen, path=action.template, used={**NOTHING_USED, WindowKind.COST_MONTH: used})
    takes = f", and this action takes {action.cost_units}." if action.cost_units > 1 else "."
    refused = Refused(Code.CAP_COST, "a:read", f"{used} of 10 are used{takes}")
    assert answer == (Admitted(action) if allowed else refused)


def test_a_dear_action_is_one_of_those_that_are_counted() -> None:
    seen = evidence(terms=terms(max_actions_per_hour=1))
    assert judged(seen, path="/dear") == Admitted(DEAR)


def test_an_action_of_any_cost_is_admitted_where_costs_are_not_capped() -> None:
    used = {**NOTHING_USED, WindowKind.COST_MONTH: 1_000_000}
    assert judged(evidence(), path="/dear", used=used) == Admitted(DEAR)


def test_a_replay_is_not_counted_against_a_cap() -> None:
    seen = evidence(terms=terms(max_actions_per_hour=1, max_cost_units_per_month=1))
    assert judged(seen, path="/dear", used=None) == Admitted(DEAR)


def test_a_refusal_names_the_scope_that_would_have_been_needed_only_where_it_is_lent() -> None:
    refused = judged(evidence(terms=terms(max_request_bytes=1)), size=2)
    assert refused == Refused(Code.REQUEST_TOO_LARGE, "a:read")
    assert judged(evidence(terms=terms(("b:read",), max_request_bytes=1)), size=2) == Refused(
        Code.ACTION_NOT_FOUND
    )


@pytest.mark.parametrize(
    ("floor", "score", "allowed"),
    [
        (None, None, True),
        (None, 0, True),
        (0, None, False),
        (0, 0, False),
        (0, 1, True),
        (70, None, False),
        (70, 69, False),
        (70, 70, False),
        (70, 71, True),
        (99, 100, True),
    ],
)
def test_an_agent_acts_only_strictly_above_the_floor_and_never_unknown(
    floor: int | None, score: int | None, allowed: bool
) -> None:
    answer = judged(evidence(terms=terms(require_trust_score_above=floor), trust_score=score))
    assert answer == (Admitted(route()) if allowed else Refused(Code.TRUST_TOO_LOW))


@pytest.mark.parametrize(
    ("sandbox", "action", "allowed"),
    [(False, route(), True), (False, PLAYED, True), (True, PLAYED, True), (True, route(), False)],
)
def test_a_sandbox_is_lent_only_where_the_upstream_has_one(
    sandbox: bool, action: Route, allowed: bool
) -> None:
    answer = judged(evidence(sandbox=sandbox), path=action.template)
    assert answer == (Admitted(action) if allowed else Refused(Code.NO_SANDBOX, "a:read"))


# -- what a request contains

PATTERNS, CONDITION = terms(deny_patterns=("secret",)), terms(condition="true")


@pytest.mark.parametrize(
    ("by", "action"), [(PATTERNS, route()), (CONDITION, route()), (GUARDED, route()), (terms(), TYPED)]
)
def test_what_has_guards_or_a_schema_is_judged_before_it_is_admitted(by: Terms, action: Route) -> None:
    answer = judged(evidence(terms=by), path=action.template)
    assert answer == unjudged(by, action)
    content = judgement(by, schema=action.schema)
    assert judged(evidence(terms=by), path=action.template, content=content) == Admitted(action)


def test_what_has_neither_is_admitted_without() -> None:
    assert judged(evidence(), content=None) == Admitted(route())


def test_a_judgement_that_is_not_needed_any_more_decides_nothing() -> None:
    assert judged(evidence(), content=WITH_DENIED) == Admitted(route())


@pytest.mark.parametrize(
    ("name", "denial"),
    [
        ("denyPatterns", DENIED),
        ("requestSchema", Denial(Code.SCHEMA_MISMATCH, "/ is no object.")),
        ("condition", Denial(Code.CONDITION_NOT_MET, "It is false.")),
    ],
)
@pytest.mark.parametrize("before", [[], PASSED[:1]])
def test_a_denial_refuses_with_its_own_code_and_says_why(
    name: str, denial: Denial, before: list[tuple[str, Denial | None]]
) -> None:
    answer = judged(evidence(terms=GUARDED), content=judgement(GUARDED, [*before, (name, denial)]))
    assert answer == Refused(denial.code, "a:read", denial.detail)


@pytest.mark.parametrize(
    "given",
    [
        {"guards": Guards((), None)},
        {"guards": Guards(("secret",), None)},
        {"guards": Guards((), "true")},
        {"guards": Guards(("other",), "true")},
        {"guards": Guards(("secret",), "false")},
        {"schema": SCHEMA},
        {"scope": "b:read"},
        {"at": NOW - 5 * SECOND - 1},
        {"at": NOW + 5 * SECOND + 1},
    ],
)
def test_a_judgement_by_other_guards_or_another_clock_is_made_once_more(given: dict[str, Any]) -> None:
    for results in (PASSED, [("denyPatterns", DENIED)]):
        content = judgement(GUARDED, results, **given)
        assert judged(evidence(terms=GUARDED), content=content) == unjudged(GUARDED, route())


@pytest.mark.parametrize("at", [NOW - 5 * SECOND, NOW, NOW + 5 * SECOND])
def test_a_judgement_holds_for_five_seconds_of_clock(at: Instant) -> None:
    assert judged(evidence(terms=GUARDED), content=judgement(GUARDED, at=at)) == Admitted(route())


def test_a_schema_that_has_changed_is_judged_once_more() -> None:
    content = judgement(terms(), schema='{"type":"array"}')
    assert judged(evidence(), path="/typed", content=content) == unjudged(terms(), TYPED)


def test_what_is_refused_anyway_is_not_judged_first() -> None:
    seen = dict(ALL_WRONG)
    for righted, code in RIGHTED[:9]:
        seen.update(righted)
        refused = judged(evidence(**seen), size=10)
        assert isinstance(refused, Refused)
        assert refused.code is code
    assert isinstance(judged(evidence(**seen), size=9), Unjudged)


def test_a_cap_speaks_only_after_the_content_was_judged() -> None:
    seen = evidence(terms=terms(condition="true", max_actions_per_hour=1))
    used = {**NOTHING_USED, WindowKind.HOUR: 1}
    assert isinstance(judged(seen, used=used), Unjudged)
    refused = judged(seen, used=used, content=judgement(seen.terms))
    assert refused == Refused(Code.CAP_HOUR, "a:read", "1 of 1 are used.")


def test_a_replay_is_judged_by_its_content_too() -> None:
    seen = evidence(terms=GUARDED)
    assert isinstance(judged(seen, used=None), Unjudged)
    refused = judged(seen, used=None, content=WITH_DENIED)
    assert refused == Refused(DENIED.code, "a:read", DENIED.detail)


# -- what is released


def held(seen: Evidence, routes: RouteTable = ROUTES, **given: Any) -> Code | None:
    """Whether what was admitted may still be released."""
    return still_holds(seen, asked(**given), route(), routes, NOW)


def test_an_answer_is_released_while_its_right_holds() -> None:
    assert held(evidence()) is None


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        *ENDS,
        ({"status": Status.SUSPENDED}, Code.DELEGATION_SUSPENDED),
        ({"terms": terms(expires_at=NOW)}, Code.DELEGATION_EXPIRED),
        ({"terms": terms(("b:read",))}, Code.ACTION_NOT_FOUND),
        ({"agent_scopes": frozenset({"b:read"})}, Code.ACTION_NOT_FOUND),
    ],
)
def test_an_answer_is_withheld_once_any_part_of_its_right_has_ended(seen: dict[str, Any], code: Code) -> None:
    assert held(evidence(**seen)) is code


def test_an_answer_is_withheld_once_its_action_is_removed() -> None:
    assert held(evidence(), RouteTable([route(id="act_9")])) is Code.ACTION_NOT_FOUND


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (HERE, None),
        (ip_address("198.51.100.7"), Code.IP_NOT_ALLOWED),
        (None, Code.IP_NOT_ALLOWED),
    ],
)
def test_an_answer_is_withheld_from_an_address_that_is_no_longer_allowed(
    address: Any, code: Code | None
) -> None:
    assert held(evidence(terms=terms(allow=("192.0.2.0/24",))), address=address) is code


@pytest.mark.parametrize(
    ("score", "code"), [(None, Code.TRUST_TOO_LOW), (70, Code.TRUST_TOO_LOW), (71, None)]
)
def test_an_answer_is_withheld_from_an_agent_that_is_no_longer_trusted(
    score: int | None, code: Code | None
) -> None:
    assert held(evidence(terms=terms(require_trust_score_above=70), trust_score=score)) is code


@pytest.mark.parametrize(("seen", "given", "code"), ONCE)
def test_an_answer_is_not_withheld_for_what_was_judged_for_good_at_its_admission(
    seen: dict[str, Any], given: dict[str, Any], code: Code
) -> None:
    request = {name: value for name, value in given.items() if name != "used"}
    assert held(evidence(**seen), **request) is None
