"""Whether an action may be performed now: the one decision that everything else serves.

`decide` judges a request before anything is sent, `still_holds` judges it again before its answer is released.
Both get evidence that was read under the delegation's lock, and the clock as read after it (promise 2). `findings`
is what both `decide` and whoever explains a decision read: each check in its order.

What a request contains is judged beforehand, outside of any transaction, since that may take long. The judgement says
what it was judged by; where the terms or the action under the lock say anything else, it has to be made once more.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import NamedTuple

from app.rules.errors import Code
from app.rules.guards import Denial, Guards
from app.rules.ids import SECOND, DelegationId, Instant, TenantId
from app.rules.lifecycle import REFUSES, Status, standing
from app.rules.routes import ByScope, Route, RouteTable, Target
from app.rules.terms import IPAddress, Terms
from app.rules.windows import WindowKind, counts

#: A condition may ask what time it is: a judgement by another clock than the store's must not be further from it.
_FRESH = 5 * SECOND


class Judged(NamedTuple):
    """What came of a request's content: each guard's name and denial, up to the first that denied at least."""

    guards: Guards
    schema: str | None
    scope: str
    at: Instant
    results: Sequence[tuple[str, Denial | None]]


class Ask(NamedTuple):
    """What a caller asks for."""

    target: Target
    address: IPAddress | None
    request_bytes: int
    judged: Judged | None = None


class TokenFacts(NamedTuple):
    """A scoped token as it stands."""

    expires_at: Instant
    rotated_at: Instant | None


class Evidence(NamedTuple):
    """What the decision sees, all of it read in one transaction. `token` is None for a caller with an API key.
    `trust_score` is the acting agent's; None while it is unknown.
    """

    delegation_id: DelegationId
    delegate_id: TenantId
    status: Status
    offer_expires_at: Instant
    sandbox: bool
    terms: Terms
    agent_scopes: frozenset[str]
    binding_revoked: bool
    trust_score: int | None
    token: TokenFacts | None


class Admitted(NamedTuple):
    """The action may be performed."""

    route: Route


class Refused(NamedTuple):
    """The action may not be performed. `scope` is what it would have needed, or what was asked for by its name."""

    code: Code
    scope: str | None = None
    detail: str | None = None


class Unjudged(NamedTuple):
    """Nothing is wrong so far, but the content has to be judged first: by these guards, for this tenant's
    action, at this clock.
    """

    delegation_id: DelegationId
    delegate_id: TenantId
    guards: Guards
    route: Route
    now: Instant


class Finding(NamedTuple):
    """What one check says: nothing where it passes. `name` is the constraint's where there is one."""

    name: str
    code: Code | None
    detail: str | None = None


Decision = Admitted | Refused | Unjudged

CAP_CODES = {
    WindowKind.HOUR: Code.CAP_HOUR,
    WindowKind.DAY: Code.CAP_DAY,
    WindowKind.MONTH: Code.CAP_MONTH,
    WindowKind.COST_MONTH: Code.CAP_COST,
}
CAP_NAMES = {
    WindowKind.HOUR: "maxActionsPerHour",
    WindowKind.DAY: "maxActionsPerDay",
    WindowKind.MONTH: "maxActionsPerMonth",
    WindowKind.COST_MONTH: "maxCostUnitsPerMonth",
}

#: The names of all checks, in their order.
CHECKS = (
    *("token", "status", "binding", "requireTrustScoreAbove", "ipAllowlist", "action", "environment"),
    *("maxRequestBytes", "denyPatterns", "requestSchema", "condition", *CAP_NAMES.values()),
)


def decide(
    evidence: Evidence, ask: Ask, routes: RouteTable, used: Mapping[WindowKind, int] | None, now: Instant
) -> Decision:
    """Judges a request. `used` is what the current windows have counted; None leaves caps out (a replay)."""
    asked = ask.target.scope if isinstance(ask.target, ByScope) else None
    route: Route | None = None
    for finding in findings(evidence, ask, routes, used, now):
        if isinstance(finding, Unjudged):
            return finding
        if isinstance(finding, Route):
            route = finding
        elif finding.code:
            return Refused(finding.code, route.scope if route else asked, finding.detail)
    assert route is not None, "without one there is a finding"
    return Admitted(route)


def findings(
    evidence: Evidence, ask: Ask, routes: RouteTable, used: Mapping[WindowKind, int] | None, now: Instant
) -> Iterator[Finding | Route | Unjudged]:
    """Each check in its order, and the action as soon as it is known: without one, and before the content is judged,
    there is no more to say.
    """
    terms = evidence.terms
    yield from _right(evidence, now)
    yield Finding("ipAllowlist", None if terms.allows(ask.address) else Code.IP_NOT_ALLOWED)
    route = _route(evidence, ask, routes)
    if isinstance(route, Code):
        yield Finding("action", route)
        return
    yield Finding("action", None)
    yield route
    yield Finding("environment", Code.NO_SANDBOX if evidence.sandbox and not route.has_sandbox else None)
    yield Finding("maxRequestBytes", _size(terms, ask))
    judged = _content(evidence, ask, route, now)
    if isinstance(judged, Unjudged):
        yield judged
        return
    for name, denial in judged:
        yield Finding(name, denial.code, denial.detail) if denial else Finding(name, None)
    if used is not None:
        yield from _caps(terms, route, used)


def still_holds(
    evidence: Evidence, ask: Ask, route: Route, routes: Container[Route], now: Instant
) -> Code | None:
    """Judges an admitted request again, before its answer is released: None, or why it is withheld. What was counted
    and what it contains have been judged for good when it was admitted.
    """
    for finding in _right(evidence, now):
        if finding.code:
            return finding.code
    if not evidence.terms.allows(ask.address):
        return Code.IP_NOT_ALLOWED
    return None if route in routes and _lends(evidence, route.scope) else Code.ACTION_NOT_FOUND


def _right(evidence: Evidence, now: Instant) -> Iterator[Finding]:
    """Whether whoever asks has a right to ask for anything."""
    token = evidence.token
    rotated = token is not None and token.rotated_at is not None and token.rotated_at <= now
    yield Finding("token", Code.TOKEN_INVALID if rotated else None)
    expires_at = evidence.terms.constraints.expires_at
    yield Finding(
        "status", REFUSES.get(standing(evidence.status, evidence.offer_expires_at, expires_at, now))
    )
    yield Finding("binding", Code.BINDING_REVOKED if evidence.binding_revoked else None)
    # After the delegation: a token never outlives it, and its end is the better answer.
    expired = token is not None and token.expires_at <= now
    yield Finding("token", Code.TOKEN_INVALID if expired else None)
    trusted = evidence.terms.trusts(evidence.trust_score)
    yield Finding("requireTrustScoreAbove", None if trusted else Code.TRUST_TOO_LOW)


def _route(evidence: Evidence, ask: Ask, routes: RouteTable) -> Route | Code:
    found = routes.find(ask.target)
    if not found or not _lends(evidence, found[0].scope):
        return Code.ACTION_NOT_FOUND
    return Code.ACTION_AMBIGUOUS if len(found) > 1 else found[0]


def _lends(evidence: Evidence, scope: str) -> bool:
    return scope in evidence.terms.scopes and scope in evidence.agent_scopes


def _size(terms: Terms, ask: Ask) -> Code | None:
    most = terms.constraints.max_request_bytes
    return Code.REQUEST_TOO_LARGE if most is not None and ask.request_bytes > most else None


def _content(
    evidence: Evidence, ask: Ask, route: Route, now: Instant
) -> Sequence[tuple[str, Denial | None]] | Unjudged:
    guards, judged = evidence.terms.guards, ask.judged
    if not guards.deny_patterns and guards.condition is None and route.schema is None:
        return ()
    by = (guards, route.schema, route.scope)
    if judged and (judged.guards, judged.schema, judged.scope) == by and abs(now - judged.at) <= _FRESH:
        return judged.results
    return Unjudged(evidence.delegation_id, evidence.delegate_id, guards, route, now)


def _caps(terms: Terms, route: Route, used: Mapping[WindowKind, int]) -> Iterator[Finding]:
    for kind, cap in terms.caps:
        exceeded = used[kind] + counts(kind, route.cost_units) > cap
        if exceeded:
            yield Finding(
                CAP_NAMES[kind], CAP_CODES[kind], _counted(used[kind], cap, counts(kind, route.cost_units))
            )
        else:
            yield Finding(CAP_NAMES[kind], None)


def _counted(used: int, cap: int, more: int) -> str:
    return f"{used} of {cap} are used" + (f", and this action takes {more}." if more > 1 else ".")
