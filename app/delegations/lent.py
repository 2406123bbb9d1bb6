"""What a delegation lends, as each side may see it: the agent's public face, its scopes, and the actions they allow."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, exists, func, or_, select, tuple_

from app.delegations.read import holds, in_force, party_to, status_at, visible_to
from app.rules.ids import ActionId, AgentId, DelegationId, Instant, TenantId
from app.rules.lifecycle import ENDED, Status
from app.store.engine import Tx
from app.store.tables import Action, Agent, Binding, Delegation, TermsVersion, Upstream

#: An action and the name of its upstream.
Named = tuple[Action, str]

_PAIRS = 10_000  # of a tenant and a scope, in one statement


def agents(tx: Tx, asking: TenantId, ids: Sequence[AgentId]) -> dict[AgentId, Agent]:
    """Agents of the asking tenant, and those that it meets in delegations: lent, or bound to act."""
    lent = exists().where(Delegation.agent_id == Agent.id, visible_to(asking))
    acts = exists().where(
        Binding.agent_id == Agent.id, Binding.delegation_id == Delegation.id, visible_to(asking)
    )
    mine = Agent.tenant_id == asking
    rows = select(Agent).where(Agent.id.in_(ids), or_(mine, lent, acts))
    return {row.id: row for row in tx.scalars(rows)}


def faces(tx: Tx, _asking: TenantId, ids: Sequence[AgentId]) -> dict[AgentId, Agent]:
    """Agents that something names which the asking tenant sees already, such as an offer by its token."""
    return {row.id: row for row in tx.scalars(select(Agent).where(Agent.id.in_(ids)))}


def lent_scopes(tx: Tx, asking: TenantId, ids: Sequence[AgentId]) -> dict[AgentId, list[str]]:
    """Which scopes of each agent are lent to the asking tenant by delegations that have not ended."""
    rows = (
        select(Delegation, TermsVersion.scopes)
        .join(TermsVersion, in_force())
        .where(Delegation.agent_id.in_(ids), Delegation.delegate_id == asking, visible_to(asking))
        .where(Delegation.status.not_in(ENDED))
    )
    now = tx.now()
    found: dict[AgentId, set[str]] = {id: set() for id in ids}
    for delegation, scopes in tx.execute(rows):
        if status_at(delegation, now) not in ENDED:
            found[delegation.agent_id].update(scopes)
    return {id: sorted(scopes) for id, scopes in found.items()}


def shared_agents(tx: Tx, asking: TenantId, limit: int, after: AgentId | None) -> list[Agent]:
    """Agents that ACTIVE delegations lend to the asking tenant, after one of them, oldest first."""
    rows = select(Agent).where(_bindable(asking, tx.now()), Agent.id > (after or ""))
    return list(tx.scalars(rows.order_by(Agent.id).limit(limit)))


def count_shared_agents(tx: Tx, asking: TenantId) -> int:
    """How many those are."""
    return tx.scalar(select(func.count()).select_from(Agent).where(_bindable(asking, tx.now()))) or 0


def _bindable(asking: TenantId, now: Instant) -> ColumnElement[bool]:
    lent = select(Delegation.agent_id).where(
        Delegation.delegate_id == asking, Delegation.status == Status.ACTIVE, Delegation.expires_at > now
    )
    return Agent.id.in_(lent)


def actions(tx: Tx, asking: TenantId, ids: Sequence[ActionId]) -> dict[ActionId, Named]:
    """Actions of the asking tenant, and those that a delegation allows it now."""
    now = tx.now()
    lent = (
        exists()
        .where(Delegation.delegator_id == Action.tenant_id, Delegation.delegate_id == asking)
        .where(visible_to(asking), Delegation.status.not_in(ENDED), Delegation.expires_at > now)
        .where(in_force(), holds(TermsVersion.scopes, Action.scope))
        .where(Agent.id == Delegation.agent_id, holds(Agent.scopes, Action.scope))
    )
    rows = select(Action, Upstream.name).join(Upstream).where(Action.id.in_(ids))
    found = tx.execute(rows.where(or_(Action.tenant_id == asking, lent)))
    return {action.id: (action, name) for action, name in found}


def actions_of(tx: Tx, asking: TenantId, ids: Sequence[DelegationId]) -> dict[DelegationId, list[Named]]:
    """What each delegation allows: the delegator's actions with a lent scope that the agent still holds; nothing once
    it has ended.
    """
    lent = _lent(tx, asking, ids)
    pairs = sorted({pair for of_one in lent.values() for pair in of_one})
    named: dict[tuple[TenantId, str], list[Named]] = {pair: [] for pair in pairs}
    for at in range(0, len(pairs), _PAIRS):
        some = tuple_(Action.tenant_id, Action.scope).in_(pairs[at : at + _PAIRS])
        rows = select(Action, Upstream.name).join(Upstream).where(some).order_by(Action.id)
        for action, name in tx.execute(rows):
            named[action.tenant_id, action.scope].append((action, name))
    return {id: [one for pair in lent.get(id, ()) for one in named[pair]] for id in ids}


def describes(tx: Tx, asking: TenantId, id: DelegationId, scope: str) -> bool:
    """Whether a party is told what a scope of a delegation allows: where `actions_of` would show it."""
    return any(scope == lent for _, lent in _lent(tx, asking, [id]).get(id, ()))


def _lent(
    tx: Tx, asking: TenantId, ids: Sequence[DelegationId]
) -> dict[DelegationId, list[tuple[TenantId, str]]]:
    rows = (
        select(Delegation, TermsVersion.scopes, Agent.scopes)
        .join(TermsVersion, in_force())
        .join(Agent)
        .where(Delegation.id.in_(ids), party_to(asking))
    )
    now = tx.now()
    return {
        row.id: [(row.delegator_id, scope) for scope in sorted(set(lent) & set(held))]
        for row, lent, held in tx.execute(rows)
        if status_at(row, now) not in ENDED
    }
