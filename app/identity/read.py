"""Reading tenants and keys, many at a time. A query takes the tenant that asks, and a batch of ids."""

from collections.abc import Sequence

from sqlalchemy import select

from app.rules.ids import ApiKeyId, TenantId
from app.store.engine import Tx
from app.store.tables import ApiKey, Tenant


def tenants(tx: Tx, _asking: TenantId, ids: Sequence[TenantId]) -> dict[TenantId, Tenant]:
    """Tenants, anybody's: a tenant's id is its address, and what it shows is public."""
    return {row.id: row for row in tx.scalars(select(Tenant).where(Tenant.id.in_(ids)))}


def keys(tx: Tx, asking: TenantId, ids: Sequence[ApiKeyId]) -> dict[ApiKeyId, ApiKey]:
    """Keys of the asking tenant."""
    mine = select(ApiKey).where(ApiKey.id.in_(ids), ApiKey.tenant_id == asking)
    return {row.id: row for row in tx.scalars(mine)}
