"""The one decision: each check refuses alone, and the first that fails speaks."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from app.rules.admission import Admitted, Ask, Evidence, Refused, TokenFacts, decide, still_holds
from app.rules.errors import Code
from app.rules.ids import DAY, ActionId, Instant
from app.rules.lifecycle import REFUSES, Status
from app.rules.routes import ByPath, ByScope, Route, RouteTable, parse_template
from app.rules.terms import Constraints, Terms
from app.rules.windows import WindowKind

NOW = Instant(1_000 * DAY)
LATER = Instant(NOW + DAY)
HERE = ip_address("192.0.2.1")
NOTHING_USED = dict.fromkeys(WindowKind, 0)


def route(scope: str = "a:read", template: str = "/a", id: str = "act_1") -> Route:
    return Route(ActionId(id), "api", scope, "GET", template, parse_template(template), idempotent=False)


ROUTES = RouteTable([route(), route("b:read", "/b", "act_2"), route("b:read", "/c", "act_3")])


def terms(
    scopes: tuple[str, ...] = ("a:read", "b:read"), allow: tuple[str, ...] = (), **limits: Any
) -> Terms:
    constraints = Constraints(limits.pop("expires_at", LATER), ip_allowlist=allow, **limits)
    return Terms(1, frozenset(scopes), constraints, tuple(map(ip_network, allow)))


def evidence(**given: Any) -> Evidence:
    """Evidence that lets everything pass, but for what is given."""
    return Evidence(
        **{
            "status": Status.ACTIVE,
            "offer_expires_at": NOW,
            "terms": terms(),
            "agent_scopes": frozenset({"a:read", "b:read"}),
            "binding_revoked": False,
            "token": TokenFacts(LATER, None),
            **given,
        }
    )


def judged(
    seen: Evidence,
    *,
    path: str = "/a",
    scope: str | None = None,
    action_id: str | None = None,
    address: Any = HERE,
    size: int = 0,
    used: Mapping[WindowKind, int] | None = NOTHING_USED,
) -> Admitted | Refused:
    """Decides about a request for /a, but for what is given."""
    target = (
        ByScope(scope, ActionId(action_id) if action_id else None)
        if scope
        else ByPath("api", "GET", (path[1:],))
    )
    return decide(seen, Ask(target, address, size), ROUTES, used, NOW)


#: One thing wrong each, in the order in which they are judged: evidence, request, and what is answered.
WRONG: list[tuple[dict[str, Any], dict[str, Any], Code]] = [
    ({"token": TokenFacts(LATER, NOW)}, {}, Code.TOKEN_INVALID),
    ({"status": Status.REVOKED}, {}, Code.DELEGATION_REVOKED),
    ({"binding_revoked": True}, {}, Code.BINDING_REVOKED),
    ({"token": TokenFacts(NOW, None)}, {}, Code.TOKEN_INVALID),
    ({"terms": terms(allow=("198.51.100.0/24",))}, {}, Code.IP_NOT_ALLOWED),
    ({}, {"path": "/elsewhere"}, Code.ACTION_NOT_FOUND),
    ({"terms": terms(max_request_bytes=9)}, {"size": 10}, Code.REQUEST_TOO_LARGE),
    ({"terms": terms(max_actions_per_hour=1)}, {"used": {**NOTHING_USED, WindowKind.HOUR: 1}}, Code.CAP_HOUR),
    ({"terms": terms(max_actions_per_day=1)}, {"used": {**NOTHING_USED, WindowKind.DAY: 1}}, Code.CAP_DAY),
    (
        {"terms": terms(max_actions_per_month=1)},
        {"used": {**NOTHING_USED, WindowKind.MONTH: 1}},
        Code.CAP_MONTH,
    ),
]


def test_where_nothing_is_wrong_the_action_is_admitted() -> None:
    assert judged(evidence()) == Admitted(route())


@pytest.mark.parametrize(("seen", "asked", "code"), WRONG)
def test_each_check_refuses_by_itself(seen: dict[str, Any], asked: dict[str, Any], code: Code) -> None:
    refused = judged(evidence(**seen), **asked)
    assert isinstance(refused, Refused)
    assert refused.code is code


#: Everything wrong at once, and then one thing after the other put right.
ALL_WRONG: dict[str, Any] = {
    "token": TokenFacts(NOW, NOW),
    "status": Status.REVOKED,
    "binding_revoked": True,
    "terms": terms(
        allow=("198.51.100.0/24",), max_request_bytes=9, max_actions_per_hour=1, max_actions_per_day=1
    ),
}
RIGHTED: list[tuple[dict[str, Any], Code]] = [
    ({}, Code.TOKEN_INVALID),
    ({"token": TokenFacts(NOW, None)}, Code.DELEGATION_REVOKED),
    ({"status": Status.ACTIVE}, Code.BINDING_REVOKED),
    ({"binding_revoked": False}, Code.TOKEN_INVALID),
    ({"token": TokenFacts(LATER, None)}, Code.IP_NOT_ALLOWED),
    ({"terms": terms(("b:read",), max_request_bytes=9, max_actions_per_hour=1)}, Code.ACTION_NOT_FOUND),
    (
        {"terms": terms(max_request_bytes=9, max_actions_per_hour=1, max_actions_per_day=1)},
        Code.REQUEST_TOO_LARGE,
    ),
    ({"terms": terms(max_actions_per_hour=1, max_actions_per_day=1)}, Code.CAP_HOUR),
    ({"terms": terms(max_actions_per_day=1, max_actions_per_month=1)}, Code.CAP_DAY),
    ({"terms": terms(max_actions_per_month=1)}, Code.CAP_MONTH),
]


def test_the_first_thing_that_is_wrong_is_what_is_answered() -> None:
    seen = dict(ALL_WRONG)
    for righted, code in RIGHTED:
        seen.update(righted)
        refused = judged(evidence(**seen), size=10, used=dict.fromkeys(WindowKind, 1))
        assert isinstance(refused, Refused)
        assert refused.code is code


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
    assert judged(evidence(), scope="b:read", action_id="act_3") == Admitted(route("b:read", "/c", "act_3"))


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
    assert answer == (Admitted(route()) if allowed else Refused(Code(f"CAP_{kind}"), "a:read"))


def test_a_replay_is_not_counted_against_a_cap() -> None:
    seen = evidence(terms=terms(max_actions_per_hour=1))
    assert judged(seen, used=None) == Admitted(route())


def test_a_refusal_names_the_scope_that_would_have_been_needed_only_where_it_is_lent() -> None:
    refused = judged(evidence(terms=terms(max_request_bytes=1)), size=2)
    assert refused == Refused(Code.REQUEST_TOO_LARGE, "a:read")
    assert judged(evidence(terms=terms(("b:read",), max_request_bytes=1)), size=2) == Refused(
        Code.ACTION_NOT_FOUND
    )


def test_an_answer_is_released_while_its_right_holds() -> None:
    assert still_holds(evidence(), route(), ROUTES, NOW) is None


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        *((seen, code) for seen, _, code in WRONG[:4]),
        ({"status": Status.SUSPENDED}, Code.DELEGATION_SUSPENDED),
        ({"terms": terms(expires_at=NOW)}, Code.DELEGATION_EXPIRED),
        ({"terms": terms(("b:read",))}, Code.ACTION_NOT_FOUND),
        ({"agent_scopes": frozenset({"b:read"})}, Code.ACTION_NOT_FOUND),
    ],
)
def test_an_answer_is_withheld_once_any_part_of_its_right_has_ended(seen: dict[str, Any], code: Code) -> None:
    assert still_holds(evidence(**seen), route(), ROUTES, NOW) is code


def test_an_answer_is_withheld_once_its_action_is_removed() -> None:
    assert still_holds(evidence(), route(), RouteTable([route(id="act_9")]), NOW) is Code.ACTION_NOT_FOUND


@pytest.mark.parametrize(("seen", "asked", "code"), WRONG[6:])
def test_an_answer_is_not_withheld_for_what_was_counted_at_its_admission(
    seen: dict[str, Any], asked: dict[str, Any], code: Code
) -> None:
    assert still_holds(evidence(**seen), route(), ROUTES, NOW) is None
