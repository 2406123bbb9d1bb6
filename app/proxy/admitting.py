"""Admitting: from what a batch sees to a decision for each attempt, and to what the admitted ones reserve."""

from typing import NamedTuple

from app.proxy.attempts import Admission, Attempt, ByCaller, CapHit, Go, No, Replay
from app.proxy.evidence import Prior, Sight, Standing
from app.proxy.leads import Lead
from app.proxy.records import exhausted_fact
from app.proxy.writes import Writes
from app.rules.admission import CAP_CODES, Admitted, Unjudged, decide
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.rules.ids import MINUTE, SECOND
from app.rules.windows import WindowKind, counts
from app.store.hot_writes import NewDispatch

_TOUCH = MINUTE  # how exact a token's lastUsedAt is


class Refusal(NamedTuple):
    """A refused attempt, still to be recorded. `scope` is what it would have needed, where that is known."""

    attempt: Attempt
    lead: Lead
    standing: Standing
    code: Code
    scope: str | None
    cap: CapHit | None
    detail: str | None


def admit(sight: Sight, writes: Writes, attempt: Attempt, lead: Lead | None) -> Admission | Refusal:
    """Judges one attempt. No without a Refusal: it names nothing that there is, and nobody's ledger is told."""
    standing = sight.standings.get(lead.binding_id) if lead else None
    if lead is None or standing is None or not _owns(attempt, standing):
        return No(Code.TOKEN_INVALID)
    if not sight.knows(attempt.by):
        return No(Code.UNAUTHENTICATED)
    prior = sight.priors.get((lead.binding_id, attempt.key.hash)) if attempt.key else None
    if prior:
        again = _again(sight, writes, attempt, lead, standing, prior)
        if again is not None:
            return again
    return _anew(sight, writes, attempt, lead, standing)


def _owns(attempt: Attempt, standing: Standing) -> bool:
    return not isinstance(attempt.by, ByCaller) or attempt.by.caller.tenant_id == standing.delegate_id


def _touch(sight: Sight, writes: Writes, lead: Lead) -> None:
    if lead.token_id:
        last = sight.tokens[lead.token_id].last_used_at
        if last is None or last < sight.now - _TOUCH:
            writes.touches[lead.token_id] = sight.now


def _again(
    sight: Sight, writes: Writes, attempt: Attempt, lead: Lead, standing: Standing, prior: Prior
) -> Replay | Refusal | Unjudged | None:
    # A replay passes admission except caps; None: it is to be performed once more.
    assert attempt.key is not None
    routes = sight.catalogs[standing.delegator_id].routes
    decision = decide(sight.evidence(standing, lead.token_id), attempt.ask, routes, None, sight.now)
    if isinstance(decision, Unjudged):
        return decision
    if not isinstance(decision, Admitted):
        return Refusal(attempt, lead, standing, decision.code, decision.scope, None, decision.detail)
    scope = decision.route.scope
    if prior.fingerprint != attempt.key.fingerprint:
        return Refusal(attempt, lead, standing, Code.IDEMPOTENCY_KEY_REUSED, scope, None, None)
    if prior.outcome is Outcome.PENDING:
        return Refusal(attempt, lead, standing, Code.IDEMPOTENCY_IN_PROGRESS, scope, None, None)
    if prior.outcome is not Outcome.COMPLETED and decision.route.idempotent:
        return None
    _touch(sight, writes, lead)
    return Replay(prior.dispatch_id, standing.delegator_id, prior.outcome, prior.code, prior.answer)


def _anew(
    sight: Sight, writes: Writes, attempt: Attempt, lead: Lead, standing: Standing
) -> Go | Refusal | Unjudged:
    catalog = sight.catalogs[standing.delegator_id]
    used = {kind: sight.used[lead.delegation_id, kind] for kind, _ in standing.terms.caps}
    decision = decide(sight.evidence(standing, lead.token_id), attempt.ask, catalog.routes, used, sight.now)
    if isinstance(decision, Unjudged):
        return decision
    if not isinstance(decision, Admitted):
        cap = _cap_hit(sight, writes, standing, decision.code)
        detail = None if cap else decision.detail
        return Refusal(attempt, lead, standing, decision.code, decision.scope, cap, detail)
    route = decision.route
    _touch(sight, writes, lead)
    row = writes.dispatch(
        attempt, standing, lead.token_id, route.scope, None, sight.now, cost_units=route.cost_units
    )
    destination = catalog.destination(route, sandbox=standing.sandbox)
    _reserve(sight, writes, row)
    if destination.guardrail_url is None:  # which might give it back: then the next refusal tells
        _tell_exhausted(sight, writes, standing, row)
    _claim(sight, writes, attempt, lead)
    return Go(attempt, row, standing.agent_id, route, destination)


def _reserve(sight: Sight, writes: Writes, row: NewDispatch) -> None:
    writes.reserve(row)
    for kind in WindowKind:
        sight.used[row.delegation_id, kind] += counts(kind, row.cost_units)


def _tell_exhausted(sight: Sight, writes: Writes, standing: Standing, row: NewDispatch) -> None:
    for kind, cap in standing.terms.caps:
        if sight.used[row.delegation_id, kind] >= cap:
            _exhausted(sight, writes, standing, kind, cap)


def _exhausted(sight: Sight, writes: Writes, standing: Standing, kind: WindowKind, cap: int) -> None:
    # Told once in a window, when it fills up or first refuses; not again when something is given back meanwhile.
    place = (standing.delegation_id, kind)
    if place in sight.exhausted:
        return
    sight.exhausted.add(place)
    window = next(each for each in sight.windows if each.kind is kind)
    writes.exhausted[standing.delegation_id, window] = sight.now
    writes.facts.append(exhausted_fact(standing, window, cap, sight.used[place], sight.now))


def _claim(sight: Sight, writes: Writes, attempt: Attempt, lead: Lead) -> None:
    if attempt.key is None:
        return
    writes.claims.append(
        {
            "binding_id": lead.binding_id,
            "key_hash": attempt.key.hash,
            "fingerprint": attempt.key.fingerprint,
            "dispatch_id": attempt.id,
            "created_at": sight.now,
        }
    )
    # The batch's next item with this key finds it claimed.
    pending = Prior(attempt.key.fingerprint, attempt.id, Outcome.PENDING, None, None)
    sight.priors[lead.binding_id, attempt.key.hash] = pending


def _cap_hit(sight: Sight, writes: Writes, standing: Standing, code: Code) -> CapHit | None:
    for window in sight.windows:
        cap = standing.terms.constraints.cap(window.kind)
        if CAP_CODES[window.kind] is code and cap is not None:
            _exhausted(sight, writes, standing, window.kind, cap)
            length, left = (window.end - window.start) // SECOND, -(-(window.end - sight.now) // SECOND)
            return CapHit(window.kind.lower(), cap, length, left)
    return None
