"""Agents, private to their tenant but for the face that a delegation shows."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from app.identity.callers import Caller
from app.identity.tenants import lock_tenant
from app.ledger.append import append, own
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import AgentId
from app.rules.lifecycle import ENDED
from app.rules.permissions import Permission
from app.rules.scopes import MOST, is_scope, normal
from app.rules.texts import LONGEST_TEXT, refuse_text
from app.store.engine import Tx
from app.store.keys import new_id
from app.store.tables import Agent, Delegation

MOST_AGENTS = 10_000
MOST_TAGS = 50


@dataclass(frozen=True, slots=True)
class AgentDraft:
    """What an agent is registered with."""

    name: str
    description: str
    scopes: list[str]
    configuration: Any
    tags: list[str]


@dataclass(frozen=True, slots=True)
class AgentChanges:
    """What is to change; None leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    scopes: list[str] | None = None
    configuration: Any = None
    tags: list[str] | None = None


def register_agent(tx: Tx, caller: Caller, draft: AgentDraft) -> Agent | Refusal:
    """A new agent of the caller's tenant. Without scopes it can act for others, but lends nothing."""
    caller.require(Permission.AGENTS)
    if refusal := _refuse(draft.name, draft.description, draft.scopes, draft.tags):
        return refusal
    lock_tenant(tx, caller.tenant_id)
    if (tx.scalar(select(func.count()).where(Agent.tenant_id == caller.tenant_id)) or 0) >= MOST_AGENTS:
        return Refusal(Code.LIMIT_REACHED, f"your tenant has {MOST_AGENTS} agents: that is the most")
    now = tx.now()
    agent = Agent(
        id=AgentId(new_id("agt")),
        tenant_id=caller.tenant_id,
        name=draft.name,
        description=draft.description,
        scopes=normal(draft.scopes),
        configuration=draft.configuration,
        tags=list(dict.fromkeys(draft.tags)),
        created_at=now,
    )
    tx.add(agent)
    details = {"agentId": agent.id, "name": agent.name, "scopes": agent.scopes}
    append(tx, [own(Event.AGENT_REGISTERED, caller.tenant_id, caller.subject, now, **details)])
    return agent


def update_agent(tx: Tx, caller: Caller, agent_id: AgentId, changes: AgentChanges) -> Agent | Refusal:
    """Changes an agent. A scope taken from it ends at once under every delegation that lends it (promise 1)."""
    caller.require(Permission.AGENTS)
    agent = find_agent(tx, caller, agent_id)
    if agent is None:
        return Refusal(Code.NOT_FOUND, "agentId names no agent of your tenant", ("agentId",))
    tx.lock(_living_delegations(tx, agent_id))  # with the agent locked, no further one can be offered
    name = agent.name if changes.name is None else changes.name
    description = agent.description if changes.description is None else changes.description
    scopes = agent.scopes if changes.scopes is None else changes.scopes
    tags = agent.tags if changes.tags is None else changes.tags
    if refusal := _refuse(name, description, scopes, tags):
        return refusal
    changed = sorted(
        field
        for field in ("name", "description", "scopes", "configuration", "tags")
        if getattr(changes, field) is not None
    )
    agent.name, agent.description, agent.scopes, agent.tags = (
        name,
        description,
        normal(scopes),
        list(dict.fromkeys(tags)),
    )
    if changes.configuration is not None:
        agent.configuration = changes.configuration
    details = {"agentId": agent.id, "changed": changed, "scopes": agent.scopes}
    append(tx, [own(Event.AGENT_UPDATED, caller.tenant_id, caller.subject, tx.now(), **details)])
    return agent


def find_agent(tx: Tx, caller: Caller, agent_id: AgentId) -> Agent | None:
    """An agent of the caller's own tenant, locked against other changes."""
    own_agent = select(Agent).where(Agent.id == agent_id, Agent.tenant_id == caller.tenant_id)
    return tx.scalars(own_agent.with_for_update(key_share=True)).one_or_none()


def _living_delegations(tx: Tx, agent_id: AgentId) -> list[Any]:
    rows = select(Delegation.id).where(Delegation.agent_id == agent_id, Delegation.status.not_in(ENDED))
    return list(tx.scalars(rows))


def _refuse(name: str, description: str, scopes: list[str], tags: list[str]) -> Refusal | None:
    if refusal := refuse_text("name", name):
        return refusal
    if refusal := refuse_text("description", description, longest=LONGEST_TEXT, empty=True):
        return refusal
    wrong = next((scope for scope in scopes if not is_scope(scope)), None)
    if wrong is not None or len(scopes) > MOST:
        message = f"scopes: give at most {MOST}, each resource:verb in lower case, as in receipts:write"
        return Refusal(Code.INVALID, message, ("scopes",))
    if len(tags) > MOST_TAGS:
        return Refusal(Code.LIMIT_REACHED, f"tags: {MOST_TAGS} at most", ("tags",))
    refusals = (refuse_text("tags", tag) for tag in tags)
    return next((refusal for refusal in refusals if refusal), None)
