"""Trust: how far an agent is trusted, reported from outside of its tenant, and felt by every delegation it acts under."""

from sqlalchemy import select

from app.delegations.facts import to_both
from app.delegations.read import status_at
from app.delegations.standing import Stands, standings
from app.identity.callers import Caller
from app.ledger.append import Fact, Side, append
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import AgentId, Instant
from app.rules.lifecycle import ENDED
from app.rules.limits import HIGHEST_SCORE
from app.rules.permissions import Permission
from app.rules.texts import LONGEST_TEXT, refuse_text
from app.store.engine import Tx
from app.store.tables import Agent, Binding, Delegation


def report_trust(
    tx: Tx, caller: Caller | None, agent_id: AgentId, score: int, reason: str
) -> Agent | Refusal:
    """Sets the score of an agent, anybody's, from this commit on (promise 1). `caller` is None for the command line.

    The agent's tenant and the reporter's have an entry; so have both sides of each binding that may act no more, or may act again.
    """
    if caller is not None:
        caller.require(Permission.TRUST)
    if refusal := _refuse_score(score) or refuse_text("reason", reason, longest=LONGEST_TEXT):
        return refusal
    # Whoever binds the agent meanwhile waits for it, or has bound it before its delegations are looked up.
    agent = tx.scalars(select(Agent).where(Agent.id == agent_id).with_for_update()).one_or_none()
    if agent is None:
        return Refusal(Code.NOT_FOUND, "agentId names no agent", ("agentId",))
    living = Binding.agent_id == agent_id, Binding.revoked_at.is_(None), Delegation.ended_at.is_(None)
    tx.lock(tx.scalars(select(Delegation.id).join(Binding).where(*living)))
    before, now = agent.trust_score, tx.now()
    agent.trust_score = score
    # What the clock has ended is ended, whether or not anybody recorded it.
    stands = standings(tx, *living).values()
    bound = [each for each in stands if status_at(each.delegation, now) not in ENDED]
    tx.facts.ended.update(each.delegation.id for each in bound)
    reported = _reported(caller, agent, before, reason, now)
    moved = [fact for each in bound if (fact := _moved(each, before, score, now))]
    append(tx, [reported, *moved])
    return agent


def _refuse_score(score: int) -> Refusal | None:
    if 0 <= score <= HIGHEST_SCORE:
        return None
    return Refusal(Code.INVALID, f"score is {score}: give a number from 0 to {HIGHEST_SCORE}", ("score",))


def _reported(caller: Caller | None, agent: Agent, before: int | None, reason: str, now: Instant) -> Fact:
    details = {"agentId": agent.id, "score": agent.trust_score, "before": before, "reason": reason}
    sides = {agent.tenant_id: Side(agent.tenant_id)}
    if caller is not None:  # who is named to their own tenant alone
        sides[caller.tenant_id] = Side(caller.tenant_id, caller.subject)
    acting = caller.tenant_id if caller else agent.tenant_id
    return Fact(Event.TRUST_REPORTED, now, acting, agent.tenant_id, list(sides.values()), details=details)


def _moved(bound: Stands, before: int | None, after: int, now: Instant) -> Fact | None:
    terms = bound.evidence.terms
    trusted = terms.trusts(after)
    if terms.trusts(before) == trusted:
        return None
    event = Event.TRUST_REGAINED if trusted else Event.TRUST_LOST
    floor = terms.constraints.require_trust_score_above
    details = {
        "bindingId": bound.binding.id,
        "requireTrustScoreAbove": floor,
        "termsVersion": terms.version,
    }
    return to_both(event, bound.delegation, None, now, details, bound.binding.agent_id)
