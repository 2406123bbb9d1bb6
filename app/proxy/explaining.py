"""Explaining: how a request would be decided, by the functions that decide, with no effect.

Terms, status and clock are those of the instant that is asked about; trust, bindings and usage are those of now.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import func, select

from app.delegations.facts import party
from app.delegations.lent import describes
from app.delegations.read import agreed, find
from app.delegations.standing import evidence, terms_of
from app.delegations.suspension import was_suspended
from app.identity.callers import Caller
from app.inventory.actions import route
from app.proxy.actions import several
from app.proxy.answers import REFUSALS
from app.rules.admission import (
    CHECKS,
    Ask,
    Evidence,
    Finding,
    Judged,
    Unjudged,
    findings,
)
from app.rules.errors import BadInput, Code, Refusal
from app.rules.guards import Seen, checks
from app.rules.ids import ActionId, AgentId, DelegationId, Instant
from app.rules.lifecycle import ENDED, Party, Status, standing
from app.rules.paths import wire_path
from app.rules.permissions import Permission
from app.rules.routes import ByScope, Route, RouteTable, fill
from app.rules.terms import IPAddress
from app.rules.windows import WindowKind, windows_at
from app.store.engine import Tx
from app.store.tables import Action, Agent, Binding, Delegation, TermsVersion, Upstream, UsageWindow


@dataclass(frozen=True, slots=True)
class Question:
    """What would be asked for, and when; `at` None is now. `path_parameters` None: whichever would be right."""

    delegation_id: DelegationId
    agent_id: AgentId | None
    scope: str
    action_id: ActionId | None
    path_parameters: Mapping[str, str] | None
    query: str
    content_type: str | None
    address: IPAddress | None
    at: Instant | None
    body: bytes = field(repr=False)


class Check(NamedTuple):
    """What one check says."""

    name: str
    passed: bool
    code: Code | None
    detail: str | None


class Decision(NamedTuple):
    """How the request would be decided. `checks` are those that the caller may see."""

    allowed: bool
    code: Code | None
    terms_version: int
    checks: Sequence[Check]


@dataclass(frozen=True, slots=True)
class Case:
    """All that a decision sees, read in one snapshot."""

    side: Party
    evidence: Evidence
    routes: RouteTable
    used: Mapping[WindowKind, int]
    bound: bool
    described: bool
    now: Instant
    question: Question


def case(tx: Tx, caller: Caller, question: Question) -> Case:
    """Reads the case. Raises BadInput where the caller's tenant sees no such delegation."""
    caller.require(Permission.READ)
    delegation = find(tx, caller.tenant_id, question.delegation_id)
    if delegation is None:
        raise BadInput("input.delegationId names no delegation that you can see")
    now = tx.now()
    at = now if question.at is None else question.at
    binding = _binding(tx, delegation, question.agent_id)
    scopes = tx.get_one(Agent, delegation.agent_id).scopes
    trust = tx.get_one(Agent, binding.agent_id).trust_score if binding else None
    terms = terms_of(_terms_at(tx, delegation, at))
    seen = evidence(delegation, binding, terms, scopes, trust)
    status = delegation.status if question.at is None else _status_at(tx, delegation, at)
    return Case(
        party(delegation, caller.tenant_id),
        seen._replace(status=status),
        _routes(tx, delegation, question.scope),
        _used(tx, delegation.id, now),
        binding is not None,
        _is_described(tx, caller, seen._replace(status=status), question.scope, at),
        at,
        question,
    )


def _is_described(tx: Tx, caller: Caller, seen: Evidence, scope: str, at: Instant) -> bool:
    """Whether `dispatchAction` would say what the scope's action takes. It looks at now, whatever is asked about: what
    was lent once may have become something else since.
    """
    stands = standing(seen.status, seen.offer_expires_at, seen.terms.constraints.expires_at, at)
    lent = scope in seen.terms.scopes and stands not in ENDED
    return lent and describes(tx, caller.tenant_id, seen.delegation_id, scope)


def explain(case: Case) -> Decision:
    """Decides the case. Takes as long as its guards do: never within a transaction, or on the event loop."""
    ask = _ask(case)
    found = list(findings(case.evidence, ask, case.routes, case.used, case.now))
    if found and isinstance(found[-1], Unjudged):
        ask = ask._replace(judged=_judged(case, found[-1]))
        found = list(findings(case.evidence, ask, case.routes, case.used, case.now))
    said = list(_checks(case, found))
    wrong = next((check for check in said if not check.passed), None)
    shown = said if case.side is Party.DELEGATOR else [wrong] if wrong else []
    return Decision(wrong is None, wrong.code if wrong else None, case.evidence.terms.version, shown)


def _ask(case: Case) -> Ask:
    question = case.question
    return Ask(ByScope(question.scope, question.action_id), question.address, len(question.body))


def _judged(case: Case, by: Unjudged) -> Judged:
    question = case.question
    seen = Seen(
        by.route.method,
        _path(by.route, question.path_parameters),
        question.query,
        question.content_type,
        question.body,
        question.address,
    )
    scope, delegation_id = by.route.scope, by.delegation_id
    said = checks(by.guards, by.route.schema, seen, scope=scope, delegation_id=delegation_id, now=by.now)
    return Judged(by.guards, by.route.schema, scope, by.now, list(said))


def _path(route: Route, parameters: Mapping[str, str] | None) -> str:
    """The path with its parameters; the template where they are not all given."""
    filled = fill(route, parameters or {})
    return route.template if isinstance(filled, Refusal) else wire_path(filled)


def _checks(case: Case, found: Sequence[Finding | Route | Unjudged]) -> Iterator[Check]:
    yield from _parameters(case)
    said = [each for each in found if isinstance(each, Finding) and each.name != "token"]
    for finding in said:
        detail = finding.detail
        if finding.name == "binding" and not case.bound:
            detail = "No such agent is bound to the delegation."
        if finding.name == "ipAllowlist" and finding.code and case.question.address is None:
            detail = "No sourceIp is given."
        if finding.name == "action":
            detail = _unclear(case, finding.code)
        yield Check(finding.name, finding.code is None, finding.code, detail)
    if said[-1].name == "action":
        for name in CHECKS[CHECKS.index("action") + 1 :]:
            yield Check(name, False, None, "Not judged: there is no action to judge it by.")


def _unclear(case: Case, code: Code | None) -> str | None:
    """What `dispatchAction` says. What it would not describe is not described here."""
    if code is None:
        return None
    if code is Code.ACTION_AMBIGUOUS and case.described:
        asked = ByScope(case.question.scope, case.question.action_id)
        return several(case.question.scope, case.routes.find(asked))
    return REFUSALS[code][1]


def _parameters(case: Case) -> Iterator[Check]:
    """What is said of the parameters as soon as the action is known: `dispatchAction` asks for nothing with wrong ones."""
    question = case.question
    if question.path_parameters is None or not case.described:
        return
    routes = case.routes.find(ByScope(question.scope, question.action_id))
    if len(routes) != 1:
        return
    match fill(routes[0], question.path_parameters):
        case Refusal(code, message):
            yield Check("pathParameters", False, code, message)
        case _:
            yield Check("pathParameters", True, None, None)


def _binding(tx: Tx, delegation: Delegation, agent_id: AgentId | None) -> Binding | None:
    """The agent's binding, or anybody's; one that lives, if there is one."""
    rows = select(Binding).where(Binding.delegation_id == delegation.id)
    if agent_id is not None:
        rows = rows.where(Binding.agent_id == agent_id)
    return tx.scalars(
        rows.order_by(Binding.revoked_at.is_not(None), Binding.id.desc()).limit(1)
    ).one_or_none()


def _terms_at(tx: Tx, delegation: Delegation, at: Instant) -> TermsVersion:
    versions = select(TermsVersion).join(Delegation, agreed()).where(Delegation.id == delegation.id)
    since = func.coalesce(TermsVersion.in_force_at, TermsVersion.created_at)
    last = versions.where(since <= at).order_by(TermsVersion.version.desc()).limit(1)
    return tx.scalars(last).one_or_none() or tx.get_one(TermsVersion, (delegation.id, 1))


def _status_at(tx: Tx, delegation: Delegation, at: Instant) -> Status:
    """Where it stood, but for what the clock alone does."""
    if delegation.ended_at is not None and delegation.ended_at <= at:
        return delegation.status
    if delegation.accepted_at is None or delegation.accepted_at > at:
        return Status.PENDING
    return Status.SUSPENDED if was_suspended(tx, delegation.id, at) else Status.ACTIVE


def _routes(tx: Tx, delegation: Delegation, scope: str) -> RouteTable:
    rows = select(Action, Upstream).join(Upstream)
    mine = rows.where(Action.tenant_id == delegation.delegator_id, Action.scope == scope).order_by(Action.id)
    return RouteTable(route(action, upstream) for action, upstream in tx.execute(mine))


def _used(tx: Tx, id: DelegationId, now: Instant) -> dict[WindowKind, int]:
    starts = {window.kind: window.start for window in windows_at(now)}
    rows = tx.scalars(
        select(UsageWindow).where(UsageWindow.delegation_id == id, UsageWindow.starts_at.in_(starts.values()))
    )
    used = {row.kind: row.used for row in rows if row.starts_at == starts[row.kind]}
    return {kind: used.get(kind, 0) for kind in WindowKind}
