"""Whether an action may be performed now: the one decision that everything else serves.

`decide` judges a request before anything is sent, `still_holds` judges it again before its answer is released.
Both get evidence that was read under the delegation's lock, and the clock as read after it (promise 2).
"""

from collections.abc import Mapping
from typing import NamedTuple

from app.rules.errors import Code
from app.rules.ids import Instant
from app.rules.lifecycle import REFUSES, Status, standing
from app.rules.routes import ByScope, Route, RouteTable, Target
from app.rules.terms import IPAddress, Terms
from app.rules.windows import WindowKind


class Ask(NamedTuple):
    """What a caller asks for."""

    target: Target
    address: IPAddress | None
    request_bytes: int


class TokenFacts(NamedTuple):
    """A scoped token as it stands."""

    expires_at: Instant
    rotated_at: Instant | None


class Evidence(NamedTuple):
    """What the decision sees, all of it read in one transaction. `token` is None for a caller with an API key."""

    status: Status
    offer_expires_at: Instant
    terms: Terms
    agent_scopes: frozenset[str]
    binding_revoked: bool
    token: TokenFacts | None


class Admitted(NamedTuple):
    """The action may be performed."""

    route: Route


class Refused(NamedTuple):
    """The action may not be performed. `scope` is what it would have needed, or what was asked for by its name."""

    code: Code
    scope: str | None = None


CAP_CODES = {
    WindowKind.HOUR: Code.CAP_HOUR,
    WindowKind.DAY: Code.CAP_DAY,
    WindowKind.MONTH: Code.CAP_MONTH,
}


def decide(
    evidence: Evidence, ask: Ask, routes: RouteTable, used: Mapping[WindowKind, int] | None, now: Instant
) -> Admitted | Refused:
    """Judges a request. `used` are the admissions in the current windows; None leaves caps out (a replay)."""
    asked = ask.target.scope if isinstance(ask.target, ByScope) else None
    if code := right_ended(evidence, now) or _address(evidence, ask):
        return Refused(code, asked)
    route = _route(evidence, ask, routes)
    if isinstance(route, Code):
        return Refused(route, asked)
    code = _size(evidence, ask) or _caps(evidence, used)
    return Refused(code, route.scope) if code else Admitted(route)


def still_holds(evidence: Evidence, route: Route, routes: RouteTable, now: Instant) -> Code | None:
    """Judges an admitted request again, before its answer is released: None, or why it is withheld."""
    if code := right_ended(evidence, now):
        return code
    return None if route in routes and _lends(evidence, route.scope) else Code.ACTION_NOT_FOUND


def right_ended(evidence: Evidence, now: Instant) -> Code | None:
    """Why whoever asks has no right to ask anything."""
    for check in (_token_replaced, _delegation, _binding, _token_expired):
        if code := check(evidence, now):
            return code
    return None


def _token_replaced(evidence: Evidence, now: Instant) -> Code | None:
    token = evidence.token
    if token is None or token.rotated_at is None or now < token.rotated_at:
        return None
    return Code.TOKEN_INVALID


def _delegation(evidence: Evidence, now: Instant) -> Code | None:
    expires_at = evidence.terms.constraints.expires_at
    return REFUSES.get(standing(evidence.status, evidence.offer_expires_at, expires_at, now))


def _binding(evidence: Evidence, _now: Instant) -> Code | None:
    return Code.BINDING_REVOKED if evidence.binding_revoked else None


# After the delegation: a token never outlives it, and its end is the better answer.
def _token_expired(evidence: Evidence, now: Instant) -> Code | None:
    token = evidence.token
    return Code.TOKEN_INVALID if token is not None and token.expires_at <= now else None


def _address(evidence: Evidence, ask: Ask) -> Code | None:
    return None if evidence.terms.allows(ask.address) else Code.IP_NOT_ALLOWED


def _route(evidence: Evidence, ask: Ask, routes: RouteTable) -> Route | Code:
    found = routes.find(ask.target)
    if not found or not _lends(evidence, found[0].scope):
        return Code.ACTION_NOT_FOUND
    return Code.ACTION_AMBIGUOUS if len(found) > 1 else found[0]


def _lends(evidence: Evidence, scope: str) -> bool:
    return scope in evidence.terms.scopes and scope in evidence.agent_scopes


def _size(evidence: Evidence, ask: Ask) -> Code | None:
    most = evidence.terms.constraints.max_request_bytes
    return Code.REQUEST_TOO_LARGE if most is not None and ask.request_bytes > most else None


def _caps(evidence: Evidence, used: Mapping[WindowKind, int] | None) -> Code | None:
    if used is None:
        return None
    for kind, code in CAP_CODES.items():
        cap = evidence.terms.constraints.cap(kind)
        if cap is not None and used[kind] >= cap:
            return code
    return None
