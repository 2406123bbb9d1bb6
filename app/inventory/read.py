"""Reading what a tenant has. A query takes the tenant that asks, and sees nothing of another's."""

from collections.abc import Sequence

from sqlalchemy import func, select

from app.rules.ids import AgentId, TenantId, UpstreamId
from app.store.engine import Tx
from app.store.tables import Action, Agent, Upstream


def agents_page(tx: Tx, asking: TenantId, limit: int, after: AgentId | None) -> list[Agent]:
    """The tenant's agents after one of them, oldest first."""
    rows = select(Agent).where(Agent.tenant_id == asking, Agent.id > (after or ""))
    return list(tx.scalars(rows.order_by(Agent.id).limit(limit)))


def count_agents(tx: Tx, asking: TenantId) -> int:
    """How many agents the tenant has."""
    return tx.scalar(select(func.count()).select_from(Agent).where(Agent.tenant_id == asking)) or 0


def upstreams(tx: Tx, asking: TenantId, ids: Sequence[UpstreamId]) -> dict[UpstreamId, Upstream]:
    """Upstreams of the asking tenant."""
    mine = select(Upstream).where(Upstream.id.in_(ids), Upstream.tenant_id == asking)
    return {row.id: row for row in tx.scalars(mine)}


def actions_of_upstreams(
    tx: Tx, asking: TenantId, ids: Sequence[UpstreamId]
) -> dict[UpstreamId, list[Action]]:
    """The actions of each upstream of the asking tenant, oldest first."""
    mine = select(Action).where(Action.upstream_id.in_(ids), Action.tenant_id == asking).order_by(Action.id)
    found: dict[UpstreamId, list[Action]] = {id: [] for id in ids}
    for row in tx.scalars(mine):
        found[row.upstream_id].append(row)
    return found
