"""Reading dispatches. Both tenants of a dispatch see it, and nobody else."""

from collections.abc import Sequence

from sqlalchemy import or_, select

from app.rules.ids import DelegationId, DispatchId, TenantId
from app.store.engine import Tx
from app.store.tables import Dispatch


def dispatches(tx: Tx, asking: TenantId, ids: Sequence[DispatchId]) -> dict[DispatchId, Dispatch]:
    """Dispatches in which the asking tenant acts, or is acted in."""
    shared = or_(Dispatch.delegator_id == asking, Dispatch.delegate_id == asking)
    return {row.id: row for row in tx.scalars(select(Dispatch).where(Dispatch.id.in_(ids), shared))}


def dispatches_page(
    tx: Tx, asking: TenantId, delegation_id: DelegationId | None, limit: int, after: DispatchId | None
) -> list[Dispatch]:
    """The tenant's dispatches after one of them, oldest first; of one delegation, or of all."""
    # Each side has an index of its own, in this order; together they would have to be sorted.
    sides = (Dispatch.delegator_id, Dispatch.delegate_id)
    rows = [select(Dispatch).where(side == asking, Dispatch.id > (after or "")) for side in sides]
    if delegation_id is not None:
        rows = [side.where(Dispatch.delegation_id == delegation_id) for side in rows]
    found = [row for side in rows for row in tx.scalars(side.order_by(Dispatch.id).limit(limit))]
    return sorted(found, key=lambda row: row.id)[:limit]
